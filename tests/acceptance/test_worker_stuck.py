"""A worker process whose consumer hangs in a call of its broker."""

import time

import pytest

from django_tasks import states
from django_tasks.models import Redelivery
from tests.places import Place, on_one_of_each, on_rabbitmq
from tests.processes import StartWorker, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]


@on_one_of_each
@pytest.mark.slow
def test_a_child_that_no_longer_asks_is_replaced(start_worker: StartWorker, place: Place) -> None:
    """Within the minute, with a word in the log: its successor runs what waits. Nobody has to restart the worker."""
    worker = start_worker("-c", "1", TEST_WORKER_LEASE="2")
    before = tasks.whoami.delay().get(timeout=30)
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
    """RabbitMQ hands out again what a killed process held at once; the note of its time limit must be there well within a second."""
    worker = start_worker("-c", "2")
    tasks.add.delay(1, 1).get(timeout=30)
    result = tasks.stuck.apply_async(time_limit=1.0)
    wait_until(lambda: result.state == states.STARTED, "the task to start")
    wait_until(lambda: "is killed" in worker.output, "the kill")
    killed = time.monotonic()
    wait_until(lambda: Redelivery.objects.filter(cause="overdue").exists() or result.state == states.FAILURE, "the note")
    assert time.monotonic() - killed < 0.6, worker.output
    wait_until(lambda: result.state == states.FAILURE, "the failure")
    assert "TimeLimitExceeded" in repr(result.result)
