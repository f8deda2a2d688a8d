"""What can't go on, and that nothing has changed then."""

import json
from typing import Any

import pytest

from django_tasks import chord, clock, group, states
from django_tasks.models import ChordCounter, Message, TaskResult
from django_tasks.operations.resuming import resume
from django_tasks.result import AsyncResult
from django_tasks.resultmetas import MOST_KEPT
from tests.database.lane import Lane
from tests.database.resuming.brokensteps import BROKEN, RAN, fail, failed, step, total, unchanged, value

pytestmark = pytest.mark.django_db(transaction=True)


def test_one_of_two_failed_parts(lane: Lane) -> None:
    """The chord would fail again at once by the other: the error names it, by the step that failed."""
    workflow = chord([step.s(0, "a") | step.s("b"), step.s(0, "p"), step.s(0, "q")], total.s())
    fail(lane, workflow, "a", "p")
    a, p = failed()
    unchanged([p], f"other parts of the chord .* have failed, too: run {a.task_id} again")
    unchanged([a], f"run {p.task_id} again together with {a.task_id}")


def test_a_second_click(lane: Lane) -> None:
    """What waits already isn't sent a second time."""
    fail(lane, step.s(0, "1") | step.s("2"), "1")
    rows = failed()
    resume(rows)
    unchanged(rows, "only what has failed")
    assert Message.objects.count() == 1


def test_what_never_started(lane: Lane) -> None:
    """It has nothing to run with: the error names the task because of which it failed."""
    result = fail(lane, step.s(0, "1") | step.s("2") | step.s("3"), "1")
    (cause,) = failed()
    unchanged(TaskResult.objects.filter(task_id=result.id), f"never started: run again {cause.task_id}")


def test_both_a_step_and_what_follows_it(lane: Lane) -> None:
    """What follows another that is chosen is sent by that one, and not twice."""
    result = fail(lane, step.s(0, "1") | step.s("2"), "2")
    TaskResult.objects.filter(task_id=result.parent.id).update(
        status=states.FAILURE, result=None, meta=json.dumps({"follows": {"embed": {"chain": [_wire(result)]}}})
    )
    assert resume(failed()) == [result.parent.id]
    lane.drain()
    assert RAN == ["1", "2"]
    assert value(result) == 2


def _wire(result: Any) -> dict[str, Any]:
    return dict(step.s("2").set(task_id=result.id))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"task_args": None}, "never started"),
        ({"meta": None}, "was not kept"),
        ({"meta": "{"}, "was not kept"),
        ({"task_args": '"(1,)"'}, "not a JSON array"),
        ({"task_name": None}, "name was not kept"),
        ({"status": states.SUCCESS}, "only what has failed"),
        ({"status": states.STARTED}, "only what has failed"),
    ],
    ids=str,
)
def test_what_was_not_kept(lane: Lane, change: dict[str, Any], why: str) -> None:
    """The error says what is missing."""
    fail(lane, step.s(0, "1"), "1")
    row = failed()[0]
    if change == {"task_args": None}:
        change = {"task_args": None, "meta": None}
    TaskResult.objects.update(**change)
    unchanged([row], why)


def test_results_that_are_gone(lane: Lane) -> None:
    """Of a task, of a part that succeeded, of the chord itself: without them it can't go on, and says so."""
    fail(lane, group(step.s(n, f"p{n}") for n in range(3)) | total.s(), "p1")
    (row,) = failed()
    good = TaskResult.objects.filter(status=states.SUCCESS).first()
    assert good is not None
    good.delete()
    unchanged([row], "of the 3 parts .*, 1 have no result")
    good.save(force_insert=True)
    counter = ChordCounter.objects.get()
    counter.delete()
    unchanged([row], f"{row.task_id} is a part of the chord .*, of which nothing is kept")
    counter.save(force_insert=True)
    row.delete()
    row.pk = None
    unchanged([row], "nothing is kept of")


def test_a_part_that_waits_still(lane: Lane) -> None:
    """A part that has not run yet has no result: one tries again when it has."""
    BROKEN.add("p0")
    result = (group(step.s(n, f"p{n}") for n in range(2)) | total.s()).delay()
    (first, second) = lane.consumer.receive(2, 0)
    lane.completer.add(lane.run(first))
    lane.completer.flush(lane.consumer)
    BROKEN.clear()
    unchanged(failed(), "they have not run yet, so try again when they have")
    lane.completer.add(lane.run(second))
    lane.completer.flush(lane.consumer)
    resume(failed())
    lane.drain()
    assert value(result) == 3


def test_a_part_that_runs(lane: Lane) -> None:
    """A part that has started counts when it is done."""
    BROKEN.add("p0")
    result = (group(step.s(n, f"p{n}") for n in range(2)) | total.s()).delay()
    (first, second) = lane.consumer.receive(2, 0)
    lane.completer.mark_started([lane.request(second)])
    lane.completer.add(lane.run(first))
    lane.completer.flush(lane.consumer)
    BROKEN.clear()
    resume(failed())
    lane.completer.add(lane.run(second))
    lane.completer.flush(lane.consumer)
    assert AsyncResult(result.id).state == states.PENDING
    lane.drain()
    assert value(result) == 3


def test_a_chord_that_is_just_ending(lane: Lane) -> None:
    """While a worker ends the chord, it can't be opened."""
    fail(lane, group(step.s(n, f"p{n}") for n in range(2)) | total.s(), "p1")
    ChordCounter.objects.update(date_done=None, claimed_until=clock.after(10))
    unchanged(failed(), "ending in this moment")


def test_a_chord_that_has_gone_on(lane: Lane) -> None:
    """A body that runs, or ran, gets no second list."""
    result = fail(lane, group(step.s(n, f"p{n}") for n in range(2)) | total.s(), "p1")
    TaskResult.objects.filter(task_id=result.id).update(status=states.STARTED)
    unchanged(failed(), "has gone on")


def test_too_large(lane: Lane) -> None:
    """What is larger than the limit isn't kept, which the error says; it is not cut."""
    fail(lane, step.s(0, "1") | step.s("x" * MOST_KEPT), "1")
    unchanged(failed(), "it has 6.,... bytes, and at most 65,536 are kept; it can run again alone")
    assert len(failed()[0].meta or "") < 200


def test_hidden_arguments(lane: Lane) -> None:
    """What a caller hides isn't written down, neither its own arguments nor a later step's."""
    fail(lane, step.s(0, "1") | step.s("secret").set(argsrepr="***"), "1")
    assert "secret" not in (failed()[0].meta or "")
    unchanged(failed(), "its arguments are hidden")


def test_another_backend(lane: Lane, settings: Any) -> None:
    """Where results aren't rows, it says so."""
    fail(lane, step.s(0, "1"), "1")
    settings.DJANGO_TASKS = {"RESULT_BACKEND": "cache://default"}
    with pytest.raises(NotImplementedError, match="db://default"):
        resume(failed())


def test_success_costs_nothing(lane: Lane) -> None:
    """Of what succeeds, and of what has succeeded in the end, nothing is kept."""
    fail(lane, step.s(0, "1") | step.s("2"), "1")
    resume(failed())
    assert not TaskResult.objects.filter(meta__contains="follows").exists()
    lane.drain()
    assert not TaskResult.objects.filter(meta__contains="follows").exists()
