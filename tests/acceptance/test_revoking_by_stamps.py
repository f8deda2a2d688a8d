"""Tasks are revoked by their stamps: those that wait, those that run, and those that are sent later."""

import signal
from typing import Any

import pytest

from django_tasks import AsyncResult, app, group, states
from django_tasks.models import RevokedStamp
from tests.places import RABBITMQ, REDIS, SQLITE, Place
from tests.processes import StartWorker, state_of, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
    pytest.mark.parametrize("place", [SQLITE, REDIS, RABBITMQ], indirect=True),
]


def send(task: Any, *args: Any, **stamps: Any) -> AsyncResult[Any]:
    """Send a call with these stamps."""
    return task.s(*args).stamp(**stamps).apply_async()


def becomes(result: AsyncResult[Any], state: str, worker: Any) -> None:
    wait_until(lambda: state_of(result.id) == state, f"{result.id} to be {state}; the worker said\n{worker.output}")


def test_what_waits_is_revoked_for_workers_that_start_later_too(start_worker: StartWorker, place: Place) -> None:
    """Revoked while no worker runs: by one value, by one of several, by membership in a list. Everything else runs, after a restart too."""
    refused = [
        send(tasks.record, "a", tenant="acme"),
        send(tasks.record, "b", tenant=["zeta", "acme"]),
        send(tasks.record, "c", order=18),
    ]
    allowed = [send(tasks.record, "d", tenant="other", order=19), tasks.record.delay("e"), send(tasks.record, "f", order="18")]
    app.control.revoke_by_stamped_headers({"tenant": "acme", "order": [17, 18]})
    worker = start_worker("-c", "1")
    for result in refused:
        becomes(result, states.REVOKED, worker)
    assert [result.get(timeout=50) for result in allowed] == ["d", "e", "f"]
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output
    later = send(tasks.record, "g", tenant="acme")
    again = start_worker("-c", "1")
    becomes(later, states.REVOKED, again)
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    assert set(Effect.objects.values_list("key", flat=True)) == {"d", "e", "f"}


def test_what_runs_is_stopped_if_that_is_asked_for(start_worker: StartWorker, place: Place) -> None:
    """terminate=True ends every running task with the stamp, and no other; without it, what runs is left alone."""
    worker = start_worker("-c", "3")
    stopped = [send(tasks.stuck, tenant="acme"), send(tasks.stuck, tenant=["zeta", "acme"])]
    left_alone = send(tasks.nap, 12, "left alone", tenant="other")
    for result in (*stopped, left_alone):
        becomes(result, states.STARTED, worker)
    app.control.revoke_by_stamped_headers(["tenant=other"])
    app.control.revoke_by_stamped_headers({"tenant": ["acme"]}, terminate=True)
    for result in stopped:
        becomes(result, states.REVOKED, worker)
    assert left_alone.get(timeout=50) == 12
    later = send(tasks.record, "later", tenant="other")
    becomes(later, states.REVOKED, worker)
    assert [effect.key for effect in Effect.objects.all()] == ["left alone"]
    wait_until(lambda: place.left() == 0, "the queue to be empty")


def test_a_running_worker_hears_of_it_and_of_its_end(start_worker: StartWorker, place: Place) -> None:
    """Parts of a group that wait behind another task are revoked; when the row is deleted, tasks with the stamp run again."""
    worker = start_worker("-c", "1")
    ahead = tasks.nap.delay(12)
    becomes(ahead, states.STARTED, worker)
    parts = group(tasks.record.s(name) for name in "abc").stamp(run="17").apply_async()
    other = tasks.record.delay("other")
    parts.revoke_by_stamped_headers({"run": "17"})
    for part in parts:
        becomes(part, states.REVOKED, worker)
    assert (ahead.get(timeout=50), other.get(timeout=50)) == (12, "other")
    RevokedStamp.objects.all().delete()

    def runs() -> bool:
        result = send(tasks.record, "again", run="17")
        wait_until(result.ready, "the task to be done")
        return result.state == states.SUCCESS

    wait_until(runs, f"a task with the stamp to run again; the worker said\n{worker.output}")
