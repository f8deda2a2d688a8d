"""The consumer thread's steps, one at a time: what comes back after a death, and what a broker that is away leaves behind."""

from typing import Any

import pytest

from django_tasks import clock, result_backends, shared_task, states
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Death, Delivery, Disposition
from django_tasks.worker import admission, recovery
from django_tasks.worker.recovery import outcome_of_redelivery
from django_tasks.worker.scoreboard import Hand
from tests.unit.worker_rig import Rig, delivery, late


@shared_task(name="tests.consumer.early", acks_late=False)
def early():
    """Do nothing."""


@shared_task(name="tests.consumer.once", reject_on_worker_lost=False)
def once():
    """Do nothing."""


def state(found: Delivery) -> str:
    """The stored state of a delivery's task."""
    task_id = found.envelope.headers["id"]
    meta = result_backends.current().fetch([task_id]).get(task_id)
    return states.PENDING if meta is None else meta.status


def test_a_task_that_was_killed_for_its_time_limit_is_not_run_again(rig: Rig) -> None:
    """When its message comes back it fails with TimeLimitExceeded, and so does the rest of its chain."""
    step = {"task": "tests.consumer.late", "args": [], "kwargs": {}, "options": {"task_id": "step-2"}, "immutable": False}
    overdue = delivery(late, 2, Death("overdue", "signal SIGKILL"), embed={"chain": [step]})
    rig.take(overdue)
    assert (rig.waiting(), rig.settled(), state(overdue)) == ([], [Disposition.ACK], states.FAILURE)
    found = rig.backend.fetch([overdue.envelope.headers["id"], "step-2"])
    assert "TimeLimitExceeded" in str(found[overdue.envelope.headers["id"]].result)
    assert found["step-2"].status == states.FAILURE


def test_a_task_that_was_terminated_is_revoked(rig: Rig) -> None:
    """It is not run again."""
    terminated = delivery(late, 2, Death("terminated", "signal SIGKILL"))
    rig.take(terminated)
    assert (rig.waiting(), state(terminated)) == ([], states.REVOKED)


@pytest.mark.django_db
def test_a_task_whose_process_died_runs_again_until_it_was_delivered_too_often(rig: Rig) -> None:
    """Three deliveries that died are enough (TASK_MAX_DELIVERIES); the fourth is settled without a run."""
    crash = Death("crashed", "signal SIGSEGV")
    rig.take(delivery(late, 2, crash), delivery(late, 3, crash))
    assert rig.waiting() == ["tests.consumer.late"] * 2
    worn_out = delivery(late, 4, crash)
    rig.take(worn_out)
    assert rig.settled() == [Disposition.DEAD]
    assert state(worn_out) == states.FAILURE


def test_a_task_that_does_not_want_to_run_again_fails(rig: Rig) -> None:
    """reject_on_worker_lost=False: one death is enough."""
    lost = delivery(once, 2, Death("crashed", "exit status 1"))
    rig.take(lost)
    assert (rig.waiting(), rig.settled(), state(lost)) == ([], [Disposition.ACK], states.FAILURE)


def test_what_can_not_be_acknowledged_before_its_run_is_not_run(rig: Rig) -> None:
    """At most once: it goes back when the broker can be told; tasks that are acknowledged late run meanwhile."""
    rig.consumer.away = True
    rig.take(delivery(early), delivery(late))
    assert rig.waiting() == ["tests.consumer.late"]
    rig.consumer.away = False
    rig.thread._settle_owed()
    assert [(one.disposition, one.counted) for one in rig.consumer.settled] == [(Disposition.REQUEUE, False)]
    rig.take(delivery(early))
    assert rig.waiting() == ["tests.consumer.late", "tests.consumer.early"]
    assert rig.settled()[1:] == [Disposition.ACK]


def test_what_is_given_back_while_the_broker_is_away_goes_back_later(rig: Rig) -> None:
    """It is neither run nor forgotten."""
    rig.take(delivery(late), delivery(late))
    rig.consumer.away = True
    with pytest.raises(OperationalError):
        rig.thread._begin_to_stop()
    assert rig.waiting() == []
    assert not rig.thread._finished()
    rig.consumer.away = False
    rig.thread._settle_owed()
    assert rig.settled() == [Disposition.REQUEUE] * 2
    assert rig.thread._finished()


def test_a_broken_connection_means_that_others_run_what_waits_here(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the broker gives everything back by itself, running it here too would run it twice."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    rig.take(delivery(late))
    rig.thread._stumble(OperationalError("connection reset"))
    assert rig.waiting() == []


@pytest.mark.parametrize(
    ("options", "reached", "reason"),
    [
        ({"BROKER_CONNECTION_RETRY": False}, True, "unreachable"),
        ({"BROKER_CONNECTION_RETRY_ON_STARTUP": False}, True, ""),
        ({"BROKER_CONNECTION_RETRY_ON_STARTUP": False}, False, "unreachable"),
    ],
)
def test_a_worker_that_may_not_try_again_ends(
    rig: Rig, settings: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], reached: bool, reason: str
) -> None:
    """With what it holds left to others."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, **options}
    rig.take(delivery(late))
    rig.thread._reached = reached
    rig.thread._stumble(OperationalError("connection refused"))
    assert rig.thread.reason == reason
    assert rig.thread._finished() == bool(reason)


def test_a_worker_that_is_stopped_in_an_outage_does_not_say_that_it_is_over(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It asked for nothing more, so nothing has answered."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    rig.consumer.away = True
    rig.thread._stumble(OperationalError("connection refused"))
    monkeypatch.setattr(rig.thread, "_learn_revocations", lambda: None)
    monkeypatch.setattr(rig.consumer, "close", lambda: None, raising=False)
    monkeypatch.setattr(rig.consumer, "receive", lambda limit, timeout: [], raising=False)
    monkeypatch.setattr("django_tasks.worker.consumerthread.connections", Nothing())
    rig.thread.command({"do": "stop"})
    rig.thread.run()
    assert rig.thread._finished()
    assert "answers again" not in caplog.text


def test_a_child_that_has_not_fetched_yet_is_watched_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first stamp is the start of its consumer thread, so a first call that never returns is noticed."""
    before = clock.monotonic()
    monkeypatch.setattr(rig.thread, "_learn_revocations", lambda: None)
    monkeypatch.setattr(rig.thread, "_finished", lambda: True)
    monkeypatch.setattr(rig.consumer, "close", lambda: None, raising=False)
    monkeypatch.setattr("django_tasks.worker.consumerthread.connections", Nothing())
    rig.thread.run()
    assert rig.block.last_fetch >= before


class Nothing:
    """No database connections."""

    def close_all(self) -> None:
        """Nothing to do."""


def test_a_request_is_what_the_pool_gets(rig: Rig) -> None:
    """The delivery is kept in it until it is settled."""
    sent = delivery(late)
    rig.take(sent)
    (request,) = rig.pool._waiting
    assert isinstance(request, Request)
    assert request.delivery is sent


def stamped(task: Any, **stamps: Any) -> Delivery:
    """Build the delivery of a call with stamps."""
    return delivery(task, stamped_headers=list(stamps), stamps=stamps)


@pytest.mark.parametrize("command", ["stamps", "ids"])
def test_what_waits_here_is_revoked(rig: Rig, command: str) -> None:
    """Whether or not it is acknowledged already; the rest waits on."""
    refused = [stamped(late, tenant="acme"), stamped(early, tenant=["zeta", "acme"])]
    kept = [stamped(late, tenant="other"), stamped(early, tenant="other")]
    rig.take(*refused, *kept)
    rig.consumer.settled.clear()
    if command == "stamps":
        rig.thread.command({"do": "revoked_stamps", "stamps": [["tenant", '"acme"']], "stop": []})
    else:
        rig.thread.command({"do": "revoked", "tasks": {one.envelope.headers["id"]: 1 for one in refused}})
    rig.thread._obey()
    rig.take()
    assert [state(one) for one in (*refused, *kept)] == [states.REVOKED] * 2 + [states.PENDING] * 2
    assert sorted(rig.waiting()) == ["tests.consumer.early", "tests.consumer.late"]
    assert rig.settled() == [Disposition.ACK]


def test_the_supervisor_is_told_which_running_tasks_have_a_stamp(rig: Rig) -> None:
    """Those that are to be stopped, by their ids; other revoked stamps let run what runs."""
    answers: list[Any] = []
    rig.thread.answer = answers.append
    found = stamped(late, tenant="acme", run=1)
    rig.take(found)
    rig.pool._occupy(0, rig.pool._waiting.popleft())
    rig.thread.command({"do": "revoked_stamps", "stamps": [["tenant", '"acme"']], "stop": []})
    rig.thread.command({"do": "revoked_stamps", "stamps": [["run", "1"], ["run", "2"]], "stop": [["run", "2"]]})
    rig.thread._obey()
    assert answers == []
    rig.thread.command({"do": "revoked_stamps", "stamps": [["run", "1"]], "stop": [["run", "1"]]})
    rig.thread._obey()
    assert answers == [{"do": "terminate", "task_id": found.envelope.headers["id"]}]


@pytest.mark.django_db
def test_a_message_that_ends_who_reads_it_is_not_read_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named on the scoreboard while it is read. After TASK_MAX_DELIVERIES it is settled unread, whoever counted its deaths."""
    named: list[Any] = []
    poison, dead_before, worn_out = delivery(late), delivery(late, 4, Death("unread", "signal SIGSEGV")), delivery(late, 5)

    def read(envelope: Any, **options: Any) -> Any:
        named.append(rig.block.in_hand())
        raise ConnectionResetError

    monkeypatch.setattr(admission, "decode", read)
    monkeypatch.setattr(recovery, "decode", read)
    with pytest.raises(ConnectionResetError):
        rig.take(poison)
    assert named == [(Hand.READ, [poison.tag])]
    rig.thread._owed.clear()
    rig.take(worn_out)
    rig.take(dead_before)
    assert len(named) == 1
    assert rig.settled() == [Disposition.DEAD, Disposition.DEAD]
    assert (state(worn_out), state(dead_before), rig.block.in_hand()) == (states.FAILURE, states.FAILURE, (Hand.NOTHING, []))


def test_what_was_handed_out_before_is_stored_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored is named on the scoreboard; a message that may have ended a process is stored with no other."""
    stored: list[Any] = []
    monkeypatch.setattr(rig.backend, "store", lambda metas: stored.append(rig.block.in_hand()))
    new, again = [delivery(late) for _ in range(4)], delivery(late, 2)
    for one in (*new[:2], again, *new[2:]):
        rig.thread._completer.add(outcome_of_redelivery(one, Death("overdue", "signal SIGKILL"), "w@h", followups))
    while rig.thread._completer.pending():
        rig.thread._completer.flush(rig.consumer)
    assert stored == [(Hand.STORE, [one.tag for one in batch]) for batch in (new[:2], [again], new[2:])]
