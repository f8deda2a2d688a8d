"""What a worker says of its tasks and of itself: Celery's events, with Celery's fields, in the order of a run."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from unittest.mock import DEFAULT, Mock
from uuid import uuid4

import pytest

from django_tasks import brokers, clock, events, result_backends, shared_task, states
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.events.channel import EventReceiver, LamportClock
from django_tasks.events.memory import MemoryEvents
from django_tasks.exceptions import Ignore, NotRegistered, OperationalError, Reject, TaskRevokedError
from django_tasks.executor import Executor
from django_tasks.messages import Delivery, Disposition, Envelope, Settlement, TaskMessage
from django_tasks.outcomes import Outcome, revoked
from django_tasks.worker import completer as completing
from django_tasks.worker.announcing import Announcer, what_to_say
from django_tasks.worker.presence import Presence
from django_tasks.worker.recovery import CRASHED, OVERDUE, STOPPED, TERMINATED, outcome_after_death
from tests.processes import wait_until
from tests.unit.worker_rig import HandTurned


@shared_task(name="tests.announcing.double")
def double(number):
    """Double it."""
    return number * 2


@shared_task(name="tests.announcing.silent", send_events=False)
def silent():
    """Do nothing, and let nobody know."""


@shared_task(name="tests.announcing.short", resultrepr_maxsize=8)
def short():
    """Return more than is to be shown."""
    return "x" * 100


@shared_task(name="tests.announcing.broken")
def broken():
    """Fail."""
    raise ValueError("on purpose")


@shared_task(name="tests.announcing.kept", acks_on_failure=False)
def kept():
    """Fail, and keep the message."""
    raise ValueError("on purpose")


@shared_task(name="tests.announcing.again", bind=True)
def again(self):
    """Try again."""
    raise self.retry(exc=KeyError("not yet"), countdown=60)


@shared_task(name="tests.announcing.withdrawn")
def withdrawn(how):
    """End in one of the ways that are no result."""
    raise {"ignore": Ignore("never mind"), "reject": Reject("no"), "requeue": Reject("later", requeue=True)}[how]


@shared_task(name="tests.announcing.halfway", bind=True)
def halfway(self):
    """Say something on the way."""
    self.send_event("task-halfway", rows=3)


def request_for(task: Any, *args: Any, **fields: Any) -> Request:
    """Build a delivered call of a task."""
    message = TaskMessage(id=str(uuid4()), task=task.name, args=args, **fields)
    envelope = Envelope(body=b"", content_type="", content_encoding="", headers={}, properties={}, queue="q")
    return Request(message=message, delivery=Delivery(envelope, "tag", "q", 1), hostname="w@h", definition=task)


def run(task: Any, *args: Any) -> Outcome:
    """Run a task here."""
    return Executor(follow=followups).execute(request_for(task, *args))


class TestWhatIsSaidOfAnOutcome:
    """Types and fields are Celery's."""

    def test_success(self) -> None:
        """The repr of the result, and how long it took."""
        [(type_, fields)] = what_to_say(run(double, 4))
        assert (type_, fields["result"], fields.keys()) == ("task-succeeded", "8", {"result", "runtime"})
        assert 0 < fields["runtime"] < 5

    def test_a_long_result_is_cut_as_the_task_says(self) -> None:
        """``resultrepr_maxsize`` counts."""
        [(_, fields)] = what_to_say(run(short))
        assert fields["result"] == "'xxxx..."

    def test_failure(self) -> None:
        """The repr of the exception, and the traceback as text."""
        [(type_, fields)] = what_to_say(run(broken))
        assert (type_, fields["exception"]) == ("task-failed", "ValueError('on purpose')")
        assert 'raise ValueError("on purpose")' in fields["traceback"]

    def test_failure_that_is_not_acknowledged(self) -> None:
        """Its message is rejected, as Celery calls it, and the task has failed."""
        said = list(what_to_say(run(kept)))
        assert [type_ for type_, _ in said] == ["task-rejected", "task-failed"]
        assert said[0][1] == {"requeue": False}

    def test_retry(self) -> None:
        """What is told is the error that made it try again, not Retry."""
        [(type_, fields)] = what_to_say(run(again))
        assert (type_, fields["exception"]) == ("task-retried", "KeyError('not yet')")
        assert "KeyError" in fields["traceback"]

    @pytest.mark.parametrize(("how", "said"), [("ignore", []), ("requeue", [("task-rejected", {"requeue": True})])])
    def test_withdrawal(self, how: str, said: list[Any]) -> None:
        """Reject says that the message goes back; of Ignore nothing is said."""
        assert list(what_to_say(run(withdrawn, how))) == said

    def test_rejection_for_good(self) -> None:
        """It will never run again: it has failed, and its message is rejected."""
        (failed, fields), rejected = what_to_say(run(withdrawn, "reject"))
        assert (failed, fields["exception"]) == ("task-failed", "Reject('no', False)")
        assert rejected == ("task-rejected", {"requeue": False})

    @pytest.mark.parametrize(("reason", "expired"), [("revoked", False), ("expired", True)])
    def test_revocation(self, reason: str, expired: bool) -> None:
        """A task that never ran was neither terminated nor signalled."""
        [said] = what_to_say(revoked(request_for(double, 1), TaskRevokedError(reason)))
        assert said == ("task-revoked", {"terminated": False, "signum": None, "expired": expired})

    def test_a_delay_is_no_news(self) -> None:
        """What only waits (for its time, its rate, a worker that knows it) is not spoken of."""
        request = request_for(double, 1)
        assert request.delivery is not None
        settlement = Settlement(request.delivery, Disposition.DELAY, counted=False)
        assert list(what_to_say(Outcome(request=request, state=states.RECEIVED, settlement=settlement, store=False))) == []

    @pytest.mark.parametrize(
        ("cause", "said"),
        [
            (CRASHED, [("task-rejected", "requeue", True)]),
            (STOPPED, []),
            (TERMINATED, [("task-revoked", "signum", 9)]),
            (OVERDUE, [("task-failed", "exception", "TimeLimitExceeded(7)")]),
        ],
    )
    def test_death_of_its_process(self, cause: str, said: list[Any], delivery: Delivery) -> None:
        """Lost: it goes back. Terminated: revoked, by the signal. Past its time: failed. A cold shutdown is nothing of the task's."""
        outcome = outcome_after_death(delivery, cause, "signal SIGKILL", "w@h", followups)
        assert [(type_, name, fields[name]) for (type_, fields), (_, name, _) in zip(what_to_say(outcome), said, strict=True)] == said

    @pytest.fixture
    def delivery(self, url: str) -> Delivery:
        """A delivery that can be read."""
        double.apply_async([1], queue="q", time_limit=7)
        [found] = brokers.current().consume(["q"], consumer_id="dead").receive(1, 0)
        return found


@pytest.fixture
def heard(url: str) -> Iterator[EventReceiver]:
    """What a monitor hears."""
    with events.current().listen() as receiver:
        yield receiver


class Rig(HandTurned):
    """It receives what waits, runs it, and says what it says: no thread but the buffer's."""

    def __init__(self, *, on: bool) -> None:
        super().__init__(brokers.current(), Announcer("w@h", on=on))
        self.announcer.speak_for_process()

    def take(self) -> None:
        """Receive all that waits."""
        self.thread._take(self.thread._consumer.receive(10, 0))

    def work(self) -> None:
        """Run what was received, and flush."""
        self.pool._done = self.thread.done
        while self.pool._waiting:
            self.pool._perform(0, self.pool._waiting.popleft())
        self.thread._flush()

    def close(self) -> None:
        """End it; every event has been sent then."""
        self.announcer.close()


@pytest.fixture
def rig(heard: EventReceiver) -> Iterator[Rig]:
    """A worker with -E."""
    rig = Rig(on=True)
    yield rig
    rig.close()


def told(heard: EventReceiver) -> list[events.Event]:
    """What was heard so far."""
    return heard.receive(0)


def types(said: Sequence[events.Event]) -> list[str]:
    """The types only."""
    return [one["type"] for one in said]


class TestARun:
    """Events of one run, as a monitor hears them."""

    def test_events_of_a_run(self, rig: Rig, heard: EventReceiver) -> None:
        """Received with all about the call, started, succeeded: each with the id of the task and the name of the worker."""
        expires = datetime(2096, 1, 2, 3, 4, tzinfo=UTC)
        result = double.apply_async([21], {}, queue="q", expires=expires, shadow="twice")
        rig.take()
        rig.work()
        rig.close()
        said = told(heard)
        assert types(said) == ["task-received", "task-started", "task-succeeded"]
        assert {(one["uuid"], one["hostname"]) for one in said} == {(result.id, "w@h")}
        received = {name: value for name, value in said[0].items() if name not in {"timestamp", "pid", "clock", "utcoffset"}}
        assert received == {
            "type": "task-received",
            "hostname": "w@h",
            "uuid": result.id,
            "name": "twice",
            "args": "[21]",
            "kwargs": "{}",
            "root_id": result.id,
            "parent_id": None,
            "retries": 0,
            "eta": None,
            "expires": expires.isoformat(),
        }
        assert said[0]["clock"] < said[1]["clock"] < said[2]["clock"]

    def test_a_running_task_is_heard_of_before_it_ends(self, rig: Rig, heard: EventReceiver) -> None:
        """Received and started need no flush."""
        double.apply_async([1], queue="q")
        rig.take()
        rig.pool._occupy(0, rig.pool._waiting.popleft())
        said: list[events.Event] = []
        wait_until(lambda: said.extend(told(heard)) or len(said) == 2, "two events")
        assert types(said) == ["task-received", "task-started"]

    def test_its_end_is_told_when_the_result_can_be_read(self, rig: Rig, heard: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the result backend is away nothing is said of the end; afterwards it is said once."""
        result = double.apply_async([1], queue="q")
        rig.take()

        def away(metas: Any) -> None:
            raise OperationalError("away")

        with monkeypatch.context() as patched:
            patched.setattr(result_backends.current(), "store", away)
            with pytest.raises(OperationalError):
                rig.work()
        said: list[events.Event] = []
        wait_until(lambda: said.extend(told(heard)) or len(said) == 2, "the events before the end")
        rig.thread._flush()
        assert result.state == states.SUCCESS
        rig.close()
        assert types(told(heard)) == ["task-succeeded"]

    @pytest.mark.parametrize(("fails", "said"), [("_store", "task-failed"), ("_open", "task-succeeded")])
    def test_its_end_is_told_as_it_is_stored(
        self, rig: Rig, heard: EventReceiver, monkeypatch: pytest.MonkeyPatch, fails: str, said: str
    ) -> None:
        """A success that can't be stored has failed, for monitors, too; one that is stored stays, though what follows it can't be sent."""
        result = double.apply_async([1], queue="q")
        rig.take()
        monkeypatch.setattr(completing.deadletters, "record", lambda dead: None)
        # With the others, and alone; what stands in its place can be stored.
        step = Mock(side_effect=[ValueError("too large"), ValueError("too large"), DEFAULT], wraps=getattr(rig.thread._completer, fails))
        steps = [step if each.__name__ == fails else each for each in rig.thread._completer._steps]
        monkeypatch.setattr(rig.thread._completer, "_steps", steps)
        rig.work()
        rig.close()
        assert types(told(heard))[-1] == said
        assert said == {states.FAILURE: "task-failed", states.SUCCESS: "task-succeeded"}[result.state]

    def test_a_task_of_its_own_word_comes_in_between(self, rig: Rig, heard: EventReceiver) -> None:
        """``send_event`` is heard behind the start and before the end, without a flush in between."""
        result = halfway.apply_async(queue="q")
        rig.take()
        rig.work()
        rig.close()
        said = told(heard)
        assert types(said) == ["task-received", "task-started", "task-halfway", "task-succeeded"]
        assert (said[2]["uuid"], said[2]["hostname"], said[2]["rows"]) == (result.id, "w@h", 3)

    def test_a_silent_task(self, rig: Rig, heard: EventReceiver) -> None:
        """``send_events=False`` keeps all of it quiet."""
        silent.apply_async(queue="q")
        rig.take()
        rig.work()
        rig.close()
        assert told(heard) == []

    def test_unknown_and_expired_tasks(self, rig: Rig, heard: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are not received: one has failed, the other is revoked."""
        monkeypatch.setattr(completing.deadletters, "record", lambda dead: None)
        double.apply_async([1], queue="q", expires=datetime(2001, 1, 1, tzinfo=UTC))
        unknown = TaskMessage(id="u", task="nowhere", queue="q")
        from django_tasks.client import publish

        publish([unknown])
        rig.take()
        rig.work()
        rig.close()
        said = told(heard)
        assert types(said) == ["task-revoked", "task-failed"]
        assert (said[0]["expired"], said[1]["uuid"], said[1]["exception"]) == (True, "u", repr(NotRegistered("nowhere")))

    def test_a_second_look_at_what_waits_is_no_second_receipt(self, rig: Rig, heard: EventReceiver) -> None:
        """When revocations come, waiting tasks are admitted again; those that stay are not announced again."""
        stays, goes = double.apply_async([1], queue="q"), double.apply_async([2], queue="q")
        rig.take()
        rig.thread.command({"do": "revoked", "tasks": {goes.id: 1}})
        rig.thread._obey()
        rig.work()
        rig.close()
        said = told(heard)
        assert [one["type"] for one in said if one["uuid"] == stays.id] == ["task-received", "task-started", "task-succeeded"]
        assert [one["type"] for one in said if one["uuid"] == goes.id] == ["task-received", "task-revoked"]

    def test_an_event_that_can_not_be_made_costs_the_task_nothing(
        self, rig: Rig, heard: EventReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A nonsensical ``resultrepr_maxsize`` is a line in the log; the task has succeeded."""
        monkeypatch.setattr(type(double), "resultrepr_maxsize", "long", raising=False)
        result = double.apply_async([1], queue="q")
        rig.take()
        rig.work()
        rig.close()
        assert result.state == states.SUCCESS
        assert types(told(heard)) == ["task-received", "task-started"]
        assert "An event could not be made" in caplog.text

    def test_clocks_of_processes_follow_each_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that begins later is not behind one that has said a lot: monitors sort by this."""
        busy, new = LamportClock(), LamportClock()
        monkeypatch.setattr(clock, "timestamp", lambda: 1000.0)
        said = [busy.forward() for _ in range(1000)]
        assert said == sorted(set(said))
        monkeypatch.setattr(clock, "timestamp", lambda: 1000.01)
        assert new.forward() > said[-1]

    def test_without_events_nothing_is_said(self, heard: EventReceiver) -> None:
        """A worker without -E says nothing; only what a task says itself is heard."""
        rig = Rig(on=False)
        assert rig.pool.at_start is None
        halfway.apply_async(queue="q")
        rig.take()
        rig.work()
        rig.close()
        assert types(told(heard)) == ["task-halfway"]

    def test_what_is_forgotten_is_not_told(self, rig: Rig, heard: EventReceiver) -> None:
        """A run whose outcome is given up leaves no end behind."""
        double.apply_async([1], queue="q")
        rig.take()
        rig.pool._done = rig.thread.done
        rig.pool._perform(0, rig.pool._waiting.popleft())
        rig.thread._forget()
        assert rig.announcer._ended == {}


class TestPresence:
    """The worker's own events."""

    def test_online_heartbeat_offline(self, heard: EventReceiver) -> None:
        """In this order, with the load of the worker and what it is."""
        presence = Presence("w@h", 0.01, lambda: (2, 30))
        presence.start()
        said: list[events.Event] = []
        wait_until(lambda: said.extend(told(heard)) or len(said) >= 3, "two heartbeats")
        presence.end()
        said += told(heard)
        assert types(said)[0] == "worker-online"
        assert types(said)[-1] == "worker-offline"
        assert set(types(said)[1:-1]) == {"worker-heartbeat"}
        first = said[0]
        assert (first["hostname"], first["freq"], first["active"], first["processed"]) == ("w@h", 0.01, 2, 30)
        assert len(first["loadavg"]) == 3
        assert first.keys() >= {"sw_ident", "sw_ver", "sw_sys", "pid", "clock", "timestamp", "utcoffset"}

    def test_it_ends_at_once(self, heard: EventReceiver) -> None:
        """The end does not wait for the next heartbeat."""
        presence = Presence("w@h", 3600, lambda: (0, 0))
        presence.start()
        presence.end()
        assert types(told(heard)) == ["worker-online", "worker-offline"]

    def test_an_outage_is_told_once_and_old_heartbeats_are_not_made_up_for(
        self, heard: EventReceiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One warning for all heartbeats that could not be sent, one when they are heard again."""
        channel = Away()
        presence = Presence("w@h", 0.01, lambda: (0, 0), lambda: channel)
        with caplog.at_level(logging.WARNING, "django_tasks.events"):
            presence.start()
            wait_until(lambda: channel.tries >= 4, "some heartbeats")
            channel.away = False
            wait_until(lambda: "hear of this worker again" in caplog.text, "the end of the outage")
        presence.end()
        assert len(caplog.records) == 2
        assert "may take it for dead: away" in caplog.text


class Away(MemoryEvents):
    """A channel whose server is away at first."""

    tries, away = 0, True

    def send(self, events: Sequence[events.Event]) -> None:
        self.tries += 1
        if self.away:
            raise OperationalError("away")
