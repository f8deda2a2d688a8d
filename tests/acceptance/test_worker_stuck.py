"""A worker process whose consumer hangs in a call of its broker."""

import time

import pytest

from django_tasks import states
from django_tasks.models import Redelivery
from tests.places import Place, on_one_of_each, on_rabbitmq
from tests.processes import StartWorker, state_of, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]


@on_one_of_each
@pytest.mark.slow
def test_a_child_that_no_longer_asks_is_replaced(start_worker: StartWorker, place: Place) -> None:
    """Within the minute, with a word in the log: its successor runs what waits. Nobody has to restart the worker."""
    worker = start_worker("-c", "1", TEST_WORKER_LEASE="2")
    before = tasks.whoami.delay().get(timeout=50)
    tasks.deafen.delay()
    wait_until(Effect.objects.exists, "the consumer to hang")
    waiting = tasks.whoami.delay()
    assert waiting.get(timeout=60) != before, worker.output
    assert "has not asked the broker for" in worker.output
    assert "is killed and replaced" in worker.output
    worker.signal(15)
    assert worker.ends() == 0, worker.output


@on_rabbitmq
def test_how_a_process_died_is_known_before_the_message_comes_again(start_worker: StartWorker, place: Place) -> None:
    """RabbitMQ hands out again what a killed process held at once; the note of its time limit must be there well within a second.

    One kill of a few is enough to tell: a machine that does much else holds up some, and a note that waits for something is late always.
    """
    worker = start_worker("-c", "2")
    tasks.add.delay(1, 1).get(timeout=50)
    took = []
    while not took or (min(took) >= 0.6 and len(took) < 5):
        result = tasks.stuck.apply_async(time_limit=1.0)
        kills = len(took)
        wait_until(lambda kills=kills: worker.output.count("is killed") > kills, "the kill")
        killed = time.monotonic()
        wait_until(lambda wanted=result.id: noted(wanted), "the note")
        took.append(time.monotonic() - killed)
        wait_until(lambda failing=result: failing.state == states.FAILURE, "the failure")
        assert "TimeLimitExceeded" in repr(result.result)
        wait_until(lambda: not Redelivery.objects.exists(), "the note to be dropped")
    assert min(took) < 0.6, worker.output


def noted(task_id: str) -> bool:
    """Whether it is known how the process of this task has died."""
    return Redelivery.objects.filter(cause="overdue").exists() or state_of(task_id) == states.FAILURE
