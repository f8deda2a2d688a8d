"""Workflows that go on from where they failed: what runs again, and what follows."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from django_tasks import app, chord, group, states
from django_tasks.messages import LIFTED
from django_tasks.models import Message, Revocation, TaskResult
from django_tasks.operations.calls import NotRepeatable
from django_tasks.operations.resuming import resume
from django_tasks.result import AsyncResult
from tests.database.lane import Lane
from tests.database.resuming.brokensteps import BROKEN, RAN, fail, failed, nothing_waits, spread, step, told, total, value

pytestmark = pytest.mark.django_db(transaction=True)


SHAPES: dict[str, tuple[Callable[[], Any], tuple[str, ...], Any, list[str]]] = {
    "the second of a chain": (
        lambda: step.s(0, "1") | step.s("2") | step.s("3") | step.s("4"), ("2",), 4, ["2", "3", "4"],
    ),
    "the last of a chain": (lambda: step.s(0, "1") | step.s("2"), ("2",), 2, ["2"]),
    "a task alone": (lambda: step.s(0, "1"), ("1",), 1, ["1"]),
    "two parts of five": (
        lambda: group(step.s(n, f"p{n}") for n in range(5)) | total.s(), ("p1", "p3"), 15, ["p1", "p3", "total"],
    ),
    "what follows a chord": (
        lambda: group(step.s(n, f"p{n}") for n in range(2)) | total.s() | step.s("end"), ("p1",), 4, ["end", "p1", "total"],
    ),
    "a step of a part that is a chain": (
        lambda: group(step.s(0, "a") | step.s("b") | step.s("c"), step.s(0, "p")) | total.s(), ("a",), 4, ["a", "b", "c", "total"],
    ),
    "a body that ran": (
        lambda: group(step.s(n, f"p{n}") for n in range(2)) | total.s("body") | step.s("end"), ("body",), 4, ["body", "end"],
    ),
    "a step before a chord": (
        lambda: step.s(0, "1") | group(step.s("a"), step.s("b")) | total.s() | step.s("end"), ("1",), 5, ["1", "a", "b", "end", "total"],
    ),
    "an inner chord": (
        lambda: chord(
            [chord([step.s(0, "i1"), step.s(1, "i2")], total.s("inner")), step.s(0, "o")], total.s("outer"),
        ) | step.s("end"),
        ("i2",), 5, ["end", "i2", "inner", "outer"],
    ),
    "an inner body": (
        lambda: chord([chord([step.s(0, "i1"), step.s(1, "i2")], total.s("inner")), step.s(0, "o")], total.s("outer")),
        ("inner",), 4, ["inner", "outer"],
    ),
    "parts of an inner and of an outer chord": (
        lambda: chord([step.s(0, "0") | chord([step.s("i1"), step.s("i2")], total.s("inner")), step.s(0, "o")], total.s("outer")),
        ("i1", "o"), 5, ["i1", "inner", "o", "outer"],
    ),
    "three chords deep": (
        lambda: chord([chord([chord([step.s(0, "x"), step.s(0, "y")], total.s("1")), step.s(0, "z")], total.s("2")), step.s(0, "w")],
                      total.s("3")),
        ("x",), 4, ["1", "2", "3", "x"],
    ),
    "inside what replaced a task": (lambda: spread.s(0) | step.s("end"), ("r3",), 5, ["end", "r3", "r4"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_it_goes_on(lane: Lane, name: str) -> None:
    """The failed steps run again under their ids, nothing that had succeeded does, and the end has its value."""
    made, broken, wanted, runs = SHAPES[name]
    result = fail(lane, made(), *broken)
    assert AsyncResult(result.id).state == states.FAILURE
    chosen = failed()
    assert sorted(resume(chosen)) == sorted(row.task_id for row in chosen)
    assert {AsyncResult(row.task_id).state for row in chosen} == {AsyncResult(result.id).state} == {states.PENDING}
    assert not failed(started=False)
    lane.drain()
    assert value(result) == wanted
    assert sorted(RAN) == runs
    assert nothing_waits()
    assert not failed(started=False)


@pytest.mark.parametrize("name", SHAPES)
def test_it_fails_again_and_goes_on_again(lane: Lane, name: str) -> None:
    """A second failure is one as the first was; and each task may die once more before its outcome takes effect."""
    made, broken, wanted, _ = SHAPES[name]
    result = fail(lane, made(), *broken)
    resume(failed())
    BROKEN.update(broken)
    lane.drain()
    BROKEN.clear()
    assert AsyncResult(result.id).state == states.FAILURE
    resume(failed())
    lane.drain(twice=lambda name: True)
    assert value(result) == wanted
    assert nothing_waits()


def test_a_group_in_the_end(lane: Lane) -> None:
    """All members of the group that ends the chain follow."""
    result = fail(lane, step.s(0, "1") | group(step.s("a"), step.s("b")), "1")
    resume(failed())
    lane.drain()
    assert [value(member) for member in result.results] == [2, 2]


def test_chords_in_a_chain_in_a_group(lane: Lane) -> None:
    """Each chain of a group goes on by itself; the other is left as it is."""
    chains = group(step.s(n, f"{n}") | group(step.s(f"{n}a"), step.s(f"{n}b")) | total.s(f"{n}t") | step.s(f"{n}end") for n in range(2))
    result = fail(lane, chains, "0a", "1t")
    first, second = failed()
    resume([first])
    lane.drain()
    assert value(result.results[0]) == 5
    assert AsyncResult(result.results[1].id).state == states.FAILURE
    resume([second])
    lane.drain()
    assert value(result.results[1]) == 7


def test_a_group_is_the_body(lane: Lane) -> None:
    """Members of a body that is a group wait again, and get the values."""
    result = fail(lane, chord([step.s(0, "p"), step.s(1, "q")], group(total.s("a"), total.s("b"))), "q")
    resume(failed())
    lane.drain()
    assert [value(member) for member in result.results] == [3, 3]


def test_links(lane: Lane) -> None:
    """Callbacks are called when it has succeeded; error callbacks once for each failure."""
    task = step.s(0, "1")
    task.link(step.s("linked"))
    task.link_error(told.si())
    BROKEN.add("1")
    task.delay()
    lane.drain()
    assert RAN == ["1", "told"]
    resume(failed())
    lane.drain()
    assert RAN == ["1", "told", "1", "told"]
    BROKEN.clear()
    resume(failed())
    lane.drain()
    assert RAN[4:] == ["1", "linked"]


def test_the_message_is_what_it_was(lane: Lane) -> None:
    """What the call asked for is asked for again; its time, and its tries, start anew."""
    limits = {"time_limit": 30, "soft_time_limit": 20, "retries": 2, "expires": 3600}
    stamped = {"stamped_headers": ["tag"], "tag": "t"}
    options = {
        "priority": 3,
        "headers": {"tenant": "x"},
        "shadow": "named",
        "queue": "default",
        "ignore_result": False,
        **limits,
        **stamped,
    }
    step.s(0, "1").set(**options).apply_async()
    BROKEN.add("1")
    (delivery,) = lane.consumer.receive(1, 0)
    before = lane.request(delivery).message
    lane.completer.add(lane.run(delivery))
    lane.completer.flush(lane.consumer)
    resume(failed())
    after = lane.request(lane.consumer.receive(1, 0)[0]).message
    same = ("id", "task", "args", "kwargs", "queue", "exchange", "routing_key", "priority", "root_id", "parent_id", "group", "headers")
    for name in (*same, "time_limit", "soft_time_limit", "ignore_result", "shadow", "stamps", "stamped_headers", "embed"):
        assert getattr(after, name) == getattr(before, name), name
    assert (before.retries, after.retries, after.expires) == (2, 0, None)


def test_a_revoked_task(lane: Lane) -> None:
    """It runs although workers know that it was revoked; revoked again, it does not."""
    result = (step.s(0, "1") | step.s("2")).delay()
    first = result.parent.id
    app.control.revoke(first)
    number = Revocation.objects.get().pk
    lane.drain(instead={"resuming.step": _revoked})
    assert (AsyncResult(first).state, AsyncResult(result.id).state) == (states.REVOKED, states.REVOKED)
    resume(failed())
    assert not Revocation.objects.exists()
    assert json.loads(Message.objects.get().headers)[LIFTED] == number
    lane.drain()
    assert value(result) == 2


def _revoked(lane: Lane, delivery: Any) -> Any:
    from django_tasks.canvas.links import followups
    from django_tasks.worker.admission import Answer, Verdict
    from django_tasks.worker.verdicts import outcome_of

    return outcome_of(Verdict(delivery, Answer.REVOKED, request=lane.request(delivery)), "w1@here", followups)


def test_a_revoked_task_that_no_worker_has_seen(lane: Lane) -> None:
    """Its message is still in the queue, so it must not be sent a second time."""
    result = step.s(0, "1").delay()
    app.control.revoke(result.id)
    with pytest.raises(NotRepeatable, match="Nothing was sent"):
        resume(TaskResult.objects.all())
    assert Message.objects.count() == 1
    assert Revocation.objects.count() == 1
