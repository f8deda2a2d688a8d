"""Going on while something is in its way: a broker that is away, parts that end meanwhile, two who click."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import connections

from django_tasks import app, brokers, chain, chord, clock, group, result_backends, shared_task, states
from django_tasks.exceptions import OperationalError
from django_tasks.messages import PARKED
from django_tasks.models import ChordCounter, Message, Revocation, TaskResult
from django_tasks.operations.calls import NotRepeatable
from django_tasks.operations.resuming import resume
from django_tasks.result import AsyncResult
from tests.database.lane import Lane
from tests.database.resuming.brokensteps import BROKEN, RAN, fail, failed, step, total, value

pytestmark = pytest.mark.django_db(transaction=True)


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
