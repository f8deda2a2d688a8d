"""Every kind of workflow, and all that a task may do, with a real worker on every broker."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import DjangoDbBlocker

from django_tasks import chord, group
from django_tasks.models import DeadLetter
from django_tasks.result import AsyncResult
from tests.acceptance.workflow_place import PLACES, Running, running
from tests.processes import wait_until
from tests.workflows.failures import FAILURES
from tests.workflows.inside import INSIDE
from tests.workflows.results import RESULTS
from tests.workflows.shapes import SHAPES
from tests.workflows.table import PATIENCE, Case
from tests.workflows.tasks import note, noted

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]


@pytest.fixture
def _django_db_helper() -> None:
    """Leave the rows of a test to the next: all of a place share one worker, which has its rows there, too."""


@pytest.fixture(scope="module", params=PLACES)
def place(
    request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One worker of two processes for all tests of a place."""
    with django_db_blocker.unblock(), running(request.param, tmp_path_factory.mktemp("workflows") / "effects", "-c", "2") as world:
        yield world


@pytest.mark.parametrize("case", [*SHAPES, *FAILURES, *INSIDE, *RESULTS], ids=lambda case: case.name)
def test_a_workflow(place: Running, case: Case) -> None:
    """What the table says comes of it."""
    # Dead, it would let every one of them wait in vain.
    assert place.worker.process.poll() is None, place.worker.output
    assert case.outcome(place.engine) == case.expected


def test_rejected_for_good_is_a_dead_letter(place: Running) -> None:
    """``Reject(requeue=False)`` ends in the dead letters, and the task has run once."""
    key = str(uuid4())
    result = place.engine.reject.delay(key)
    wait_until(lambda: DeadLetter.objects.filter(task_id=result.id).exists(), "the dead letter")
    assert noted().count(key) == 1


def test_coroutines(place: Running) -> None:
    """``async def`` tasks return values, try again, let others run instead, and are parts of workflows."""
    from tests.sampleapp import workflows as own

    assert own.add_async.delay(2, 3).get(timeout=PATIENCE) == 5
    assert own.retry_async.delay().get(timeout=PATIENCE) == 2
    assert own.replace_async.delay(5).get(timeout=PATIENCE) == 7
    made = group(own.add_async.s(n, n) for n in range(4)) | place.engine.total.s() | own.add_async.s(1)
    assert made.delay().get(timeout=PATIENCE) == 13


async def _awaited(results: list[AsyncResult[Any]]) -> list[Any]:
    return [await result for result in results]


def test_results_are_awaited(place: Running) -> None:
    """``await result`` in async code gives what ``get()`` gives."""
    from asgiref.sync import async_to_sync

    made = place.engine.add.s(1, 1) | place.engine.double.s()
    assert async_to_sync(_awaited)([place.engine.add.delay(2, 3), made.delay()]) == [5, 4]


def test_pydantic(place: Running) -> None:
    """Models go in as models, as data, and from one step to the next."""
    from tests.sampleapp import workflows as own

    order = own.Order(item="tea", pieces=2)
    assert own.pack.delay(order).get(timeout=PATIENCE) == {"item": "TEA", "pieces": 3}
    assert own.pack.delay({"item": "tea"}).get(timeout=PATIENCE) == {"item": "TEA", "pieces": 2}
    assert (own.pack.s(order) | own.pack.s()).delay().get(timeout=PATIENCE) == {"item": "TEA", "pieces": 4}
    with pytest.raises(Exception, match="1 validation error for Order") as caught:
        own.pack.delay({"item": "tea", "pieces": "many"}).get(timeout=PATIENCE)
    assert type(caught.value).__name__ == "ValidationError"


def test_progress(place: Running) -> None:
    """What a task tells of its progress is its state for others until it ends."""
    from tests.sampleapp import workflows as own

    key = str(uuid4())
    result = own.climb.delay(key)
    wait_until(lambda: f"{key} told" in noted(), "the task to tell")
    assert (result.state, result.info) == ("PROGRESS", {"done": 30, "total": 200, "message": "reading"})
    note(f"{key} go on")
    assert result.get(timeout=PATIENCE) == "up"


def test_on_message(place: Running) -> None:
    """``get(on_message=)`` is called with the document of the result."""
    heard: list[dict[str, Any]] = []
    result = place.engine.add.delay(2, 3)
    assert result.get(timeout=PATIENCE, on_message=heard.append) == 5
    # On a slow day it hears of the start, too.
    told = [(each["task_id"], each["status"], each["result"]) for each in heard if each["status"] != "STARTED"]
    assert told == [(result.id, "SUCCESS", 5)]


def test_on_interval(place: Running) -> None:
    """``get(on_interval=)`` calls while it waits."""
    calls: list[int] = []
    result = place.engine.add.apply_async((1, 1), countdown=1)
    assert result.get(timeout=PATIENCE, interval=0.1, on_interval=lambda: calls.append(1)) == 2
    assert len(calls) >= 3


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a chain in a chord"])
def test_a_chord_whose_children_are_shot(place: Running, nested: bool) -> None:
    """Kill -9 of a child in the middle of 200 parts, three times: the body gets every part once and in order, and nothing is stuck."""
    from tests.sampleapp import workflows as own

    key, size = str(uuid4()), 200
    made = chord([own.part.si(number, key) for number in range(size)], own.body.s(key))
    if nested:
        made = chord([place.engine.same.s(1) | made, place.engine.same.si(7)], place.engine.same.s())
    result = made.apply_async()
    for done in (40, 90, 140):
        wait_until(lambda done=done: len(parts(key)) >= done, f"{done} parts")
        with suppress(ProcessLookupError):
            os.kill(int(parts(key)[-1].split()[-1]), signal.SIGKILL)
    numbers = list(range(size))
    assert result.get(timeout=60) == ([numbers, 7] if nested else numbers)
    wait_until(lambda: place.place.left() == 0, "the queues to be empty")
    assert {int(line.split()[1]) for line in parts(key)} == set(numbers)
    assert {line.split()[-1] for line in noted() if line.startswith(f"{key} body")} == {str(size)}
    assert place.worker.process.poll() is None


def hanging(key: str) -> int:
    """Wait until a task hangs; return its process."""
    wait_until(lambda: any(line.startswith(key) for line in noted()), "the task to hang")
    return int(next(line for line in noted() if line.startswith(key)).split()[1])


@pytest.mark.parametrize("step", [False, True], ids=["a part", "a step before a part"])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("over its hard limit", "TimeLimitExceeded"),
        ("terminated", "TaskRevokedError"),
        ("revoked", "TaskRevokedError"),
        ("expired", "TaskRevokedError"),
        ("shot when it was acknowledged", "WorkerLostError"),
    ],
)
def test_a_chord_whose_part_ends_early(place: Running, how: str, said: str, step: bool) -> None:
    """The chord ends with an error that says why, and so does what follows it."""
    from tests.sampleapp import workflows as own

    key = str(uuid4())
    task = (own.hang_alone if how.startswith("shot") else own.hang).si(key)
    options = {"over its hard limit": {"time_limit": 0.5}, "revoked": {"countdown": 2}, "expired": {"expires": -1}}
    victim = task.set(**options.get(how, {}))
    made = chord([place.engine.same.s(1), victim | place.engine.same.s() if step else victim], place.engine.total.s())
    last = (made | place.engine.same.s()).apply_async()
    body = last.parent
    doomed = body.parent[1].parent if step else body.parent[1]
    if how == "revoked":
        doomed.revoke()
    elif how == "terminated":
        hanging(key)
        doomed.revoke(terminate=True)
    elif how.startswith("shot"):
        os.kill(hanging(key), signal.SIGKILL)
    wait_until(lambda: last.ready() and body.ready(), "the end of the chord")
    assert (last.state, body.state) == ("FAILURE", "FAILURE")
    assert said in str(body.result)
    assert doomed.state == ("REVOKED" if said == "TaskRevokedError" else "FAILURE")


def parts(key: str) -> list[str]:
    """What the parts of a chord have noted."""
    return [line for line in noted() if line.startswith(key) and "body" not in line]


def test_nothing_is_left(place: Running) -> None:
    """After all of that the queues are empty, and the worker is the process that it was."""
    wait_until(lambda: place.place.left() == 0, "the queues to be empty")
    assert place.worker.process.poll() is None
