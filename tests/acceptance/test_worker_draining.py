"""``runworker --drain`` beside a broker that can't keep delayed messages."""

import pytest

from django_tasks import brokers, parking
from tests.places import Place, on_rabbitmq
from tests.processes import StartWorker, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]


@on_rabbitmq
def test_draining_runs_what_is_parked_and_due_and_leaves_the_rest(start_worker: StartWorker, place: Place) -> None:
    """What the server has not pushed yet, and what waits in the database until the forwarder hands it over, is not overlooked."""
    for number in range(20):
        tasks.record.delay(f"now {number}")
    tasks.record.apply_async(("due",), countdown=0.5)
    tasks.record.apply_async(("later",), countdown=3600)
    assert parking.waiting() == 2
    wait_until(lambda: brokers.current().size(place.queue) == 20, "the messages to be there")
    worker = start_worker("-c", "2", "--drain")
    assert worker.ends() == 0, worker.output
    assert Effect.objects.count() == 21
    assert Effect.objects.filter(key="due").exists()
    assert parking.waiting() == 1
