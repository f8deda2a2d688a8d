"""Workflows that go on from where they failed: what runs again, what follows, and what can't be."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import connections

from django_tasks import app, brokers, chain, chord, clock, group, result_backends, shared_task, states
from django_tasks.exceptions import OperationalError
from django_tasks.messages import LIFTED, PARKED
from django_tasks.models import ChordCounter, ChordPart, Message, Revocation, TaskResult
from django_tasks.operations.calls import NotRepeatable
from django_tasks.operations.resuming import resume
from django_tasks.result import AsyncResult
from django_tasks.resultmetas import MOST_KEPT
from tests.database.test_workflow_redelivery import Lane, lane

__all__ = ["lane"]

pytestmark = pytest.mark.django_db(transaction=True)

#: Names of steps that fail.
BROKEN: set[str] = set()
#: Names of steps that ran, in order.
RAN: list[str] = []


@shared_task(name="resuming.step")
def step(value, name):
    """Return one more, unless it is broken."""
    RAN.append(name)
    if name in BROKEN:
        raise ValueError(f"{name} is broken")
    return value + 1


@shared_task(name="resuming.total")
def total(values, name="total"):
    """Add up, unless it is broken."""
    RAN.append(name)
    if name in BROKEN:
        raise ValueError(f"{name} is broken")
    return sum(values)


@shared_task(name="resuming.told")
def told(*args):
    """Note that it was called."""
    RAN.append("told")


@shared_task(name="resuming.spread", bind=True)
def spread(self, value):
    """Let a chain with a chord run in its place."""
    return self.replace(step.s(value, "r1") | group(step.s("r2"), step.s("r3")) | total.s("r4"))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    BROKEN.clear()
    RAN.clear()


def fail(lane: Lane, workflow: Any, *names: str) -> Any:
    """Send a workflow, and run it as far as it goes while these steps are broken."""
    BROKEN.update(names)
    result = workflow.delay()
    lane.drain()
    BROKEN.clear()
    RAN.clear()
    return result


def failed(*, started: bool = True) -> list[TaskResult]:
    """Return the failed tasks: those that ran, or all."""
    rows = TaskResult.objects.filter(status__in=states.PROPAGATE_STATES).order_by("id")
    return list(rows.exclude(task_args=None) if started else rows)


def value(result: Any) -> Any:
    """Ask anew, as a process would that has never seen the result."""
    return AsyncResult(result.id).get(timeout=1)


def nothing_waits() -> bool:
    return not (Message.objects.exists() or ChordPart.objects.exists() or ChordCounter.objects.filter(date_done=None).exists())


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


# ---- revoked


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


# ---- what can't be


def unchanged(rows: Any, why: str) -> None:
    """Resuming is refused for this reason, and leaves everything as it was."""

    def everything() -> list[Any]:
        models = (TaskResult, ChordCounter, ChordPart, Message, Revocation)
        return [list(model.objects.order_by("pk").values()) for model in models]

    before = everything()
    with pytest.raises(NotRepeatable, match=why):
        resume(rows)
    assert everything() == before


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


# ---- nothing by halves


def test_a_broker_that_is_away(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the messages can't be sent, nothing has changed: it can be tried again."""
    result = fail(lane, chord([step.s(0, "p"), step.s(0, "q")], total.s()), "q")
    app.control.revoke("other")
    Revocation.objects.update(task_id=failed()[0].task_id)
    before = list(TaskResult.objects.order_by("pk").values())
    monkeypatch.setattr(brokers.current(), "publish", Mock(side_effect=OperationalError("away")))
    with pytest.raises(OperationalError):
        resume(failed())
    monkeypatch.undo()
    assert list(TaskResult.objects.order_by("pk").values()) == before
    assert ChordCounter.objects.filter(date_done=None).count() == 0
    assert Revocation.objects.count() == 1
    resume(failed())
    lane.drain()
    assert value(result) == 2


def test_a_part_that_ended_in_between(lane: Lane) -> None:
    """A part whose end was counted while the chord was closed is counted again from its result."""
    BROKEN.add("p0")
    result = (group(step.s(n, f"p{n}") for n in range(2)) | total.s()).delay()
    (first, second) = lane.consumer.receive(2, 0)
    for delivery in (first, second):
        lane.completer.add(lane.run(delivery))
        lane.completer.flush(lane.consumer)
    BROKEN.clear()
    resume(failed())
    counter = ChordCounter.objects.get()
    assert (counter.size, counter.done, counter.date_done) == (2, 1, None)
    lane.drain()
    assert value(result) == 3


def test_counting_again_leaves_a_reopened_chord_alone(lane: Lane) -> None:
    """Maintenance that counts it meanwhile doesn't take its body, which waits, for a part."""
    result = fail(lane, group(step.s(n, f"p{n}") for n in range(2)) | total.s(), "p1")
    resume(failed())
    assert result_backends.current().recount_chords([ChordCounter.objects.get().group_id]) == []
    lane.drain()
    assert value(result) == 3


def test_retention_leaves_what_waits(lane: Lane) -> None:
    """Neither the tasks that wait again nor the parts that a body will need are taken for old."""
    result = fail(lane, group(step.s(n, f"p{n}") for n in range(2)) | total.s() | step.s("end"), "p1")
    long_ago = clock.after(-100_000)
    TaskResult.objects.update(date_created=long_ago, date_done=long_ago)
    ChordCounter.objects.update(date_created=long_ago)
    resume(failed())
    known = TaskResult.objects.count()
    result_backends.current().expire(clock.after(-3600), limit=1000)
    assert TaskResult.objects.count() == known
    lane.drain()
    assert value(result) == 4


def test_the_shape_of_a_header(lane: Lane) -> None:
    """A header with groups in it gives lists in its shape afterwards, too."""
    nested = chord([step.s(0, "1") | group(step.s("a"), step.s("b")), step.s(2, "c")], told_shape.s())
    result = fail(lane, nested, "b")
    resume(failed())
    lane.drain()
    assert value(result) == [[2, 2], 3]


@shared_task(name="resuming.shape")
def told_shape(values):
    """Return it."""
    return values


def test_a_chain_whose_steps_are_made_by_hand(lane: Lane) -> None:
    """``chain(...)`` with one failed step in a nested chain goes on, too."""
    result = fail(lane, chain(step.s(0, "1"), chain(step.s("2"), step.s("3")), step.s("4")), "3")
    resume(failed())
    lane.drain()
    assert value(result) == 4


@pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])
def test_two_click_at_once(alias: str, settings: Any) -> None:
    """Of several people who press the button in the same moment one sends it, once; the others are told. In every database."""
    settings.DJANGO_TASKS = {"BROKER_URL": f"db://{alias}", "RESULT_BACKEND": f"db://{alias}"}
    lane = Lane()
    result = fail(lane, group(step.s(n, f"p{n}") for n in range(3)) | total.s(), "p0", "p2")
    rows = list(TaskResult.objects.using(alias).filter(status=states.FAILURE).exclude(task_args=None))
    barrier = threading.Barrier(4)

    def click(_: int) -> str:
        try:
            barrier.wait(10)
            return f"{len(resume(rows))} sent"
        except NotRepeatable as error:
            return "refused" if "only what has failed" in str(error) else str(error)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as people:
        said = sorted(people.map(click, range(4)))
    assert said == ["2 sent", "refused", "refused", "refused"]
    assert Message.objects.using(alias).count() == 2
    lane.drain()
    lane.consumer.close()
    assert value(result) == 6
    assert sorted(RAN) == ["p0", "p2", "total"]


@pytest.mark.parametrize("outbox", [True, False])
def test_a_broker_elsewhere(lane: Lane, settings: Any, monkeypatch: pytest.MonkeyPatch, outbox: bool) -> None:
    """With the outbox the message is a row of the same transaction; without it the broker gets it just before the end of that."""
    result = fail(lane, step.s(0, "1") | step.s("2"), "1")
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://", "RESULT_BACKEND": "db://default", "TASK_PUBLISH_OUTBOX": outbox}
    got: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        brokers.current(),
        "publish",
        lambda envelopes: got.extend((one.headers["id"], connections["default"].in_atomic_block) for one in envelopes),
    )
    resume(failed())
    sent = [result.parent.id]
    assert list(Message.objects.filter(queue=PARKED).values_list("task_id", flat=True)) == (sent if outbox else [])
    assert got == ([] if outbox else [(sent[0], True)])
    assert AsyncResult(sent[0]).state == states.PENDING
