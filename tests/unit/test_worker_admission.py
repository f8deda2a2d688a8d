"""Admission: which deliveries may run now, and what is said of the rest."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from django_tasks import clock
from django_tasks.exceptions import ContentDisallowed, DecodeError, NotRegistered, TaskRevokedError, WorkerLostError
from django_tasks.messages import DELIVERY_COUNT, LIFTED, UNKNOWN_SINCE, Delivery, Destination, TaskMessage
from django_tasks.protocol import encode
from django_tasks.worker.admission import Admission, Answer
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.verdicts import outcome_of

KNOWN = SimpleNamespace(name="known", rate_limit=None)
LIMITED = SimpleNamespace(name="limited", rate_limit="1/m")


def admission(**options: Any) -> Admission:
    """Build an admission that knows two tasks."""
    tasks = {"known": KNOWN, "limited": LIMITED}
    given: dict[str, Any] = {"max_deliveries": 3, "unknown_grace": 0.0, "revoked": RevokedTasks(), "rates": RateLimits(tasks), **options}
    return Admission(find=tasks.get, accept=["json"], hostname="w@h", pid=7, **given)


def delivery(deliveries: int = 1, **fields: Any) -> Delivery:
    """Build the delivery of a message."""
    message = TaskMessage(**{"id": "id-1", "task": "known", "args": (1,), **fields})
    (envelope,) = encode([message], [Destination(queue="q")], origin="gen1@h")
    return Delivery(envelope, "1", "q", deliveries)


def test_what_may_run_becomes_a_request() -> None:
    """The request knows its task, its message and the worker."""
    requests, verdicts = admission().admit([delivery()])
    assert not verdicts
    (request,) = requests
    assert (request.definition, request.id, list(request.args or ()), request.hostname, request.worker_pid) == (
        KNOWN,
        "id-1",
        [1],
        "w@h",
        7,
    )


def test_order_is_kept() -> None:
    """Requests come out in the order of their deliveries."""
    requests, _ = admission().admit([delivery(id=str(number)) for number in range(5)])
    assert [request.id for request in requests] == list("01234")


@pytest.mark.parametrize(
    ("late", "answer", "error"),
    [
        (delivery(task="nowhere"), Answer.UNKNOWN, NotRegistered),
        (delivery(deliveries=4), Answer.WORN_OUT, WorkerLostError),
        (delivery(expires=clock.after(-1)), Answer.EXPIRED, TaskRevokedError),
    ],
)
def test_what_may_never_run_gets_a_final_verdict(late: Delivery, answer: Answer, error: type[Exception]) -> None:
    """The verdict names the reason, carries the error, and sets no time to try again."""
    requests, (verdict,) = admission().admit([late])
    assert not requests
    assert (verdict.answer, type(verdict.error), verdict.until) == (answer, error, None)


def test_a_body_that_cannot_be_read_is_unreadable() -> None:
    """Neither broken JSON nor a refused content type stops the rest of the batch."""
    good = delivery()
    broken = Delivery(replace(good.envelope, body=b"\xff{"), "2", "q")
    pickled = Delivery(replace(good.envelope, content_type="application/x-python-serialize"), "3", "q")
    requests, verdicts = admission().admit([broken, good, pickled])
    assert len(requests) == 1
    assert [(verdict.answer, type(verdict.error), verdict.request) for verdict in verdicts] == [
        (Answer.UNREADABLE, DecodeError, None),
        (Answer.UNREADABLE, ContentDisallowed, None),
    ]


def test_a_revoked_task_is_refused() -> None:
    """Ids that were revoked don't run; others do."""
    revoked = RevokedTasks()
    revoked.add({"id-1": 1})
    requests, (verdict,) = admission(revoked=revoked).admit([delivery(), delivery(id="id-2")])
    assert [request.id for request in requests] == ["id-2"]
    assert verdict.answer is Answer.REVOKED


@pytest.mark.parametrize(("lifted", "runs"), [(1, False), (2, True), (3, True), ("2", False), (None, False)])
def test_a_revocation_that_was_lifted(lifted: Any, runs: bool) -> None:
    """A message that was sent after it runs, though this process remembers it; a later revocation counts again."""
    revoked = RevokedTasks()
    revoked.add({"id-1": 2})
    requests, verdicts = admission(revoked=revoked).admit([delivery(headers={LIFTED: lifted})])
    assert (len(requests), [verdict.answer for verdict in verdicts]) == ((1, []) if runs else (0, [Answer.REVOKED]))
    revoked.add({"id-1": 7})
    assert not admission(revoked=revoked).admit([delivery(headers={LIFTED: lifted})])[0]


def test_an_early_message_is_put_aside_until_its_time() -> None:
    """A message with an eta ahead, as Celery sends it to any broker, is not run and not held."""
    eta = clock.after(60)
    _, (verdict,) = admission().admit([delivery(eta=eta)])
    assert (verdict.answer, verdict.until) == (Answer.EARLY, eta)


def test_a_task_over_its_rate_waits_for_its_token() -> None:
    """The first runs, the second is put aside until a token is due."""
    requests, (verdict,) = admission().admit([delivery(task="limited"), delivery(task="limited", id="id-2")])
    assert len(requests) == 1
    assert verdict.answer is Answer.LIMITED
    assert verdict.until is not None
    assert timedelta(seconds=30) < verdict.until - clock.now() <= timedelta(seconds=60)


def test_a_rate_that_cant_be_read_limits_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every message gets its verdict: an error on the way would keep all that came with it, and be taken for the broker's."""
    monkeypatch.setattr(LIMITED, "rate_limit", "fast")
    requests, verdicts = admission().admit([delivery(task="limited"), delivery()])
    assert (len(requests), list(verdicts)) == (2, [])
    assert "limited[id-1] runs without a limit" in caplog.text


def seen_first(seconds_ago: float, **fields: Any) -> Delivery:
    """Build the delivery of a message that says since when nobody knows its task."""
    good = delivery(**{"task": "nowhere", **fields})
    headers = {**good.envelope.headers, UNKNOWN_SINCE: clock.after(-seconds_ago).isoformat()}
    return replace(good, envelope=replace(good.envelope, headers=headers))


def test_an_unknown_task_waits_a_moment_and_the_message_says_since_when() -> None:
    """At first sight the verdict carries the time from which the grace counts."""
    _, (verdict,) = admission(unknown_grace=10.0).admit([delivery(task="nowhere")])
    assert verdict.answer is Answer.UNKNOWN
    assert verdict.since is not None
    assert verdict.until is not None
    assert verdict.until - verdict.since == timedelta(seconds=1)


@pytest.mark.parametrize(("waited", "pause"), [(0.5, 1), (1.5, 2), (4.0, 5), (8.0, 2)])
def test_a_message_that_waits_for_a_worker_is_looked_at_soon_again(waited: float, pause: float) -> None:
    """After 1, 2 and then 5 seconds, and not after the end of its grace, whichever process looks; it is not marked twice."""
    _, (verdict,) = admission(unknown_grace=10.0).admit([seen_first(waited)])
    assert verdict.since is None
    assert verdict.until is not None
    assert pause - 0.9 < (verdict.until - clock.now()).total_seconds() <= pause


def test_the_grace_of_an_unknown_task_ends() -> None:
    """However often and wherever it was seen meanwhile."""
    _, (verdict,) = admission(unknown_grace=10.0).admit([seen_first(10.1)])
    assert (verdict.answer, verdict.until, type(verdict.error)) == (Answer.UNKNOWN, None, NotRegistered)


@pytest.mark.parametrize("text", ["soon", 7, None])
def test_a_mark_that_is_no_time_starts_the_grace_anew(text: Any) -> None:
    """What strangers put there neither stops the batch nor buries the message."""
    good = delivery(task="nowhere")
    strange = replace(good, envelope=replace(good.envelope, headers={**good.envelope.headers, UNKNOWN_SINCE: text}))
    _, (verdict,) = admission(unknown_grace=10.0).admit([strange])
    assert verdict.since is not None


def test_a_task_that_nobody_needs_to_know_yet_waits_for_its_time() -> None:
    """An unknown task with an eta ahead is early, and its grace has not begun."""
    _, (verdict,) = admission(unknown_grace=10.0).admit([delivery(task="nowhere", eta=clock.after(60))])
    assert (verdict.answer, verdict.since) == (Answer.EARLY, None)


def test_tasks_do_not_see_the_mark() -> None:
    """The header belongs to the message's way, not to the task's headers, so a retry doesn't carry it either."""
    requests, _ = admission().admit([replace(seen_first(1, task="known"))])
    assert UNKNOWN_SINCE not in requests[0].message.headers


def test_a_verdict_on_an_unknown_task_sends_a_marked_copy() -> None:
    """The copy goes to the queue that the message came from, keeps its count of hand-outs, and names the time."""
    first = delivery(3, task="nowhere")
    first = replace(first, envelope=replace(first.envelope, exchange="events", routing_key="shop.paid"))
    _, (verdict,) = admission(unknown_grace=10.0).admit([first])
    settlement = outcome_of(verdict, "w@h").settlement
    assert settlement is not None
    copy = settlement.instead
    assert copy is not None
    assert verdict.since is not None
    assert copy.headers[UNKNOWN_SINCE] == verdict.since.isoformat()
    assert (copy.headers[DELIVERY_COUNT], copy.not_before, copy.exchange, copy.routing_key) == (2, verdict.until, "", "q")
