"""What tasks do with processes: fork, start and end them."""

import signal

import pytest
from django.db import connections

from django_tasks import app
from django_tasks.exceptions import WorkerLostError
from tests.places import POSTGRES, RABBITMQ, REDIS, SQLITE, Place
from tests.processes import StartWorker
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
