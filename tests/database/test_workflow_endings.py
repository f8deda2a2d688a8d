"""How a chord ends when one of its parts, or a step before one, ends otherwise than by returning: it says so, and never waits for ever."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from django.db.models import Value
from django.db.models.functions import Replace

from django_tasks import chain, chord, clock, group, result_backends, shared_task, states
from django_tasks.canvas.links import followups
from django_tasks.exceptions import ChordError, EncodeError, Ignore, OperationalError, Reject
from django_tasks.messages import Disposition, Settlement, TaskMessage
from django_tasks.models import ChordCounter, ChordPart, DeadLetter, Message, TaskResult
from django_tasks.outcomes import Outcome
from django_tasks.worker.admission import Answer, Verdict
from django_tasks.worker.recovery import CRASHED, OVERDUE, TERMINATED, awaited_part, outcome_after_death, outcome_of_acknowledged
from django_tasks.worker.verdicts import outcome_of
from tests.database.lane import Lane, same, total

pytestmark = pytest.mark.django_db(transaction=True)

Fate = Callable[[Lane, Any], Outcome]


@shared_task(name="endings.victim")
def victim(value=1):
    """Return it, if it is let."""
    return value


@shared_task(name="endings.ignore")
def ignore(*args):
    """Say that the outcome doesn't matter."""
    raise Ignore("not today")


@shared_task(name="endings.reject")
def reject(*args):
    """Refuse the message for good."""
    raise Reject("never", requeue=False)


@shared_task(name="endings.brittle", acks_late=False, reject_on_worker_lost=False)
def brittle(value=1):
    """Return it; forgotten by the broker before it runs."""
    return value


def verdict(answer: Answer) -> Fate:
    """The worker refuses to run it."""
    return lambda lane, delivery: outcome_of(Verdict(delivery, answer, request=lane.request(delivery)), "w1@here", followups)


def death(cause: str) -> Fate:
    """Its process was killed."""
    return lambda lane, delivery: outcome_after_death(delivery, cause, "killed", "w1@here", followups)


FATES = {
    "revoked": (verdict(Answer.REVOKED), states.REVOKED, "TaskRevokedError('revoked')"),
    "expired": (verdict(Answer.EXPIRED), states.REVOKED, "TaskRevokedError('expired')"),
    "terminated": (death(TERMINATED), states.REVOKED, "TaskRevokedError('terminated')"),
    "over its hard limit": (death(OVERDUE), states.FAILURE, "TimeLimitExceeded(30"),
    "dead too often": (death(CRASHED), states.FAILURE, "WorkerLostError("),
}


@pytest.fixture(params=FATES, ids=str)
def fate(request: pytest.FixtureRequest) -> tuple[Fate, str, str]:
    """What befalls the victim, its state, and what the chord's error says of it."""
    return FATES[request.param]


def limited() -> Any:
    """The victim, with a hard limit."""
    return victim.s().set(time_limit=30)


def ended(result: Any, said: str) -> None:
    """The body has failed with an error that says why, and nothing of the chord is left."""
    assert result.state == states.FAILURE
    assert isinstance(result.result, ChordError)
    assert said in str(result.result)
    assert ChordCounter.objects.filter(date_done=None).count() == ChordPart.objects.count() == 0


def test_a_part(lane: Lane, fate: tuple[Fate, str, str]) -> None:
    """A part that ends so."""
    how, state, said = fate
    result = chord([same.s(1), limited(), same.s(3)], total.s()).delay()
    lane.drain(instead={"endings.victim": how})
    ended(result, said)
    assert result.parent[1].state == state


def test_a_step_before_a_part(lane: Lane, fate: tuple[Fate, str, str]) -> None:
    """A step of a chain, whose last step is the part."""
    how, state, said = fate
    result = chord([same.s(1), limited() | same.s() | same.s(), same.s(3)], total.s()).delay()
    lane.drain(instead={"endings.victim": how})
    ended(result, said)
    assert result.parent[1].state == state
    assert result.parent[1].parent.parent.state == state


def test_a_step_before_an_inner_chord(lane: Lane, fate: tuple[Fate, str, str]) -> None:
    """A step of a chain, which goes on with a chord, which is a part of another one."""
    how, _, said = fate
    inner = chain(limited(), group(same.s(), same.s()), total.s())
    result = (chord([same.s(1), inner], total.s()) | same.s()).delay()
    lane.drain(instead={"endings.victim": how})
    ended(result, said)


def test_a_body(lane: Lane, fate: tuple[Fate, str, str]) -> None:
    """The body of an inner chord."""
    how, _, said = fate
    result = chord([same.s(1), chord([same.s(1), same.s(2)], limited())], total.s()).delay()
    lane.drain(instead={"endings.victim": how})
    ended(result, said)


@pytest.mark.parametrize("shape", [lambda t: t.s(1), lambda t: same.s(1) | t.s() | same.s()], ids=["a part", "a step before a part"])
@pytest.mark.parametrize(("task", "said"), [(ignore, "Ignore('not today')"), (reject, "Reject(")])
def test_a_part_that_withdraws(lane: Lane, shape: Any, task: Any, said: str) -> None:
    """``Ignore`` and ``Reject`` in a chord: the chord can't go on without the part, and doesn't wait for it."""
    result = chord([shape(task), same.s(3)], total.s()).delay()
    lane.drain()
    ended(result, said)
    assert DeadLetter.objects.count() == (task is reject)


def test_an_ignored_step_of_a_mere_chain(lane: Lane) -> None:
    """Without a chord nothing is stored of what was ignored, nor of what would have followed, as in Celery."""
    result = (same.s(1) | ignore.s() | same.s()).delay()
    lane.drain()
    assert TaskResult.objects.count() == 1
    assert (result.state, result.parent.state) == (states.PENDING, states.PENDING)


@pytest.mark.parametrize(
    "header",
    [
        lambda: [brittle.s(1), same.s(3)],
        lambda: [brittle.s(1) | same.s() | same.s(), same.s(3)],
        lambda: [brittle.s(1) | group(same.s(), same.s()) | total.s(), same.s(3)],
        lambda: [chord([same.s(1), same.s(2)], brittle.s()), same.s(3)],
    ],
    ids=["a part", "a step before a part", "a step before an inner chord", "a body"],
)
def test_a_task_that_is_acknowledged_before_it_runs(lane: Lane, header: Any) -> None:
    """When its process dies, its message is gone; what is noted while it runs is enough to end the chord."""
    noted: list[tuple[str, str]] = []

    def killed(lane: Lane, delivery: Any) -> Outcome:
        message = lane.request(delivery).message
        noted.append((message.id, awaited_part(message)))
        lane.consumer.settle([Settlement(delivery, Disposition.ACK)])
        return outcome_of_acknowledged(*noted[-1], "killed", "w1@here")

    result = chord(header(), total.s()).delay()
    lane.drain(instead={"endings.brittle": killed})
    ended(result, "WorkerLostError('Worker process died: killed')")
    assert len(noted) == 1


def test_nobody_waits_for_a_task_outside_of_chords() -> None:
    """Of such a task only its id is noted."""
    sent = (brittle.s(1) | same.s() | group(same.s(), same.s())).clone()
    message = TaskMessage(id="a", task="endings.brittle", embed={"chain": [dict(step) for step in reversed(sent.tasks[1:])]})
    assert awaited_part(message) == awaited_part(TaskMessage(id="b", task="endings.brittle")) == ""


def test_parts_without_results(lane: Lane) -> None:
    """``ignore_result`` of parts: the body needs what they return."""
    result = chord([same.s(1).set(ignore_result=True), same.s(2).set(ignore_result=True)], total.s()).delay()
    lane.drain()
    assert result.get(timeout=1) == 3


UNKNOWN = {"serializer": "no such serializer"}


@pytest.mark.parametrize("body", [lambda: total.s().set(**UNKNOWN), lambda: total.s().set(**UNKNOWN) | same.s()], ids=["a task", "a chain"])
def test_a_body_that_cannot_be_sent(lane: Lane, body: Any) -> None:
    """The caller is told at once, and nothing of the chord has been sent."""
    with pytest.raises(EncodeError, match="no such serializer"):
        chord([same.s(1), same.s(2)], body()).delay()
    assert (Message.objects.count(), ChordCounter.objects.count()) == (0, 0)


JSON = {"serializer": "json"}


@pytest.mark.parametrize("body", [lambda: total.s().set(**JSON), lambda: total.s().set(**JSON) | same.s()], ids=["a task", "a chain"])
def test_a_body_that_cannot_be_sent_any_more(lane: Lane, body: Any) -> None:
    """It fails with the error that says why, and what follows it; no claim is left, nor does it lapse again and again."""
    result = chord([same.s(1), same.s(2)], body()).delay()
    # A worker that completes it may lack a serializer that its caller had.
    other = Replace("body", Value('"serializer":"json"'), Value('"serializer":"no such serializer"'))
    assert ChordCounter.objects.update(body=other) == 1
    lane.drain()
    ChordCounter.objects.filter(date_done=None).update(claimed_until=clock.after(-1))
    lane.completer.send_bodies(result_backends.current().reclaim_chords(10))
    ended(result, "no such serializer")


def test_a_step_that_cannot_be_sent(lane: Lane) -> None:
    """The step before it fails with all that waits for it, and its message can be replayed."""
    result = chord([same.s(1) | same.s().set(**UNKNOWN) | same.s(), same.s(3)], total.s()).delay()
    lane.drain()
    ended(result, "no such serializer")
    assert list(DeadLetter.objects.values_list("reason", flat=True)) == ["outcome not applicable"]


@pytest.mark.parametrize(
    "made",
    [
        lambda: chord([same.s(1)], total.s()),
        lambda: same.s(1) | group(same.s(), same.s()) | total.s(),
        lambda: same.s(1) | group(same.s() | group(same.s(), same.s()) | total.s(), same.s()),
    ],
    ids=["a chord", "in a chain", "in a group in a chain"],
)
def test_chords_without_results(settings: Any, made: Any) -> None:
    """Without a result backend nobody can count: the caller is told which setting to set, and nothing is sent."""
    settings.DJANGO_TASKS = {"RESULT_BACKEND": None}
    with pytest.raises(NotImplementedError, match="RESULT_BACKEND"):
        made().delay()
    assert Message.objects.count() == 0


def test_results_that_are_away_when_a_chord_is_complete(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is sent when they are back; it does not fail."""
    result = chord([same.s(1) | group(same.s(), same.s()), same.s(2)], same.s()).delay()
    with monkeypatch.context() as patch:
        patch.setattr(result_backends.current(), "count_chord_parts", Mock(side_effect=OperationalError("away")))
        with pytest.raises(OperationalError):
            lane.drain()
    lane.completer.flush(lane.consumer)
    lane.drain()
    assert result.get(timeout=1) == [[1, 1], 2]
