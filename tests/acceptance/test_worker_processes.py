"""What tasks do with processes: fork, start and end them."""

import os
import signal

import pytest
from django.db import connections

from django_tasks import app, states
from django_tasks.exceptions import WorkerLostError
from tests.places import POSTGRES, RABBITMQ, REDIS, SQLITE, Place
from tests.processes import StartWorker, state_of, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]


@pytest.mark.parametrize(
    ("place", "pool"),
    [
        pytest.param(*place.values, pool, marks=place.marks, id=f"{place.id}-{pool}")
        for place, pool in ((POSTGRES, "prefork"), (REDIS, "threads"), (RABBITMQ, "asyncio"), (SQLITE, "solo"))
    ],
    indirect=["place"],
)
def test_a_forked_child_runs_nothing_but_its_task(start_worker: StartWorker, place: Place, pool: str) -> None:
    """Whatever it returns: what waits in the process runs once, in the parent; and a child can be terminated."""
    forks = [tasks.fork.delay(), tasks.fork_async.delay(), tasks.fork_loop.delay(), tasks.terminate_child.delay()]
    keys = [f"{task.name} {number}" for number in range(10) for task in (tasks.record, tasks.record_async)]
    others = [app.tasks[key.split()[0]].delay(key) for key in keys]
    worker = start_worker("-P", pool, "-c", "1" if pool == "prefork" else "4")
    same = True if "postgres" in connections else None
    assert [result.get(timeout=50) for result in forks] == [[0, same], [0, same], 0, -signal.SIGTERM]
    for result in others:
        result.get(timeout=50)
    assert sorted(Effect.objects.values_list("key", flat=True)) == sorted(keys)
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output
    assert "mistake" not in worker.output


@pytest.mark.parametrize("place", [SQLITE], indirect=True)
def test_exit_statuses_are_not_a_tasks_to_choose(start_worker: StartWorker, place: Place) -> None:
    """Whatever status a task ends its process with, it has died: it is replaced, and the task counts as lost."""
    worker = start_worker("-c", "1", TEST_TASK_MAX_DELIVERIES="1")
    lost = [tasks.leave.delay(status) for status in (0, 3, 4)]
    for status, result in zip((0, 3, 4), lost, strict=True):
        with pytest.raises(WorkerLostError, match=f"exit status {status}"):
            result.get(timeout=50)
    assert tasks.add.delay(1, 1).get(timeout=50) == 2
    assert worker.process.poll() is None


@pytest.mark.parametrize("place", [SQLITE], indirect=True)
def test_a_task_that_is_terminated_can_clean_up(start_worker: StartWorker, place: Place) -> None:
    """Every signal but SIGKILL reaches it, and it is revoked; its process works on. A group's signal is nobody's end."""
    worker = start_worker("-c", "1")
    for task, name in [
        (tasks.clean_up, "SIGTERM"),
        (tasks.clean_up, "SIGINT"),
        (tasks.clean_up, "SIGUSR1"),
        (tasks.clean_up_async, "SIGTERM"),
        (tasks.clean_up, "SIGKILL"),
    ]:
        key = f"{task.name} {name}"
        result = task.delay(key)
        wait_until(Effect.objects.filter(key=f"{key} runs").exists, f"{key} to run; the worker said\n{worker.output}")
        wait_until(lambda result=result: state_of(result.id) == states.STARTED, f"{key} to be marked; it said\n{worker.output}")
        for number in (signal.SIGTERM, signal.SIGUSR1):
            os.kill(Effect.objects.get(key=f"{key} runs").pid, number)
        result.revoke(terminate=True, signal=name)
        wait_until(lambda result=result: state_of(result.id) == states.REVOKED, f"{key} to be revoked; it said\n{worker.output}")
        if name != "SIGKILL":
            wait_until(Effect.objects.filter(key=f"{key} is clean").exists, f"{key} to clean up; it said\n{worker.output}")
    assert not Effect.objects.filter(key__contains="SIGKILL is clean").exists()
    assert Effect.objects.values("pid").distinct().count() == 1
