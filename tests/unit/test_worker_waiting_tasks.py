"""Tasks that were admitted and wait for a slot: what revocations of others, and going back to the queue, do to them."""

import time
from dataclasses import replace

import pytest

from django_tasks import clock, shared_task, states
from django_tasks.brokers.broker import Consumer
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Disposition
from django_tasks.worker.keepingaside import KeepingAside
from django_tasks.worker.ratelimits import RateLimits
from tests.unit.worker_rig import HandTurned, Rig, delivery, envelope, late


@shared_task(name="tests.waiting.limited", rate_limit="1/m")
def limited() -> None:
    """Do nothing."""


def test_a_revocation_of_another_task_leaves_what_waits_alone(rig: Rig) -> None:
    """It was admitted: it must not be asked once more whether its rate allows it, nor count as one more task of the process."""
    rig.thread._admission._rates = RateLimits([limited.name])
    rig.take(delivery(limited), delivery(late))
    started = rig.thread._prefetch.started
    for number in range(3):
        rig.thread.command({"do": "revoked", "tasks": {f"another-{number}": number}})
        rig.thread._obey()
    assert rig.waiting() == [limited.name, late.name]
    assert (rig.thread._completer.pending(), rig.thread._prefetch.started) == (0, started)


def test_what_goes_back_counts_for_no_process(rig: Rig) -> None:
    """With --max-tasks-per-child only tasks that run here, or will, must count."""
    rig.take(delivery(late), delivery(late))
    rig.thread._give_back(rig.pool.unstarted())
    assert rig.settled() == [Disposition.REQUEUE, Disposition.REQUEUE]
    assert rig.thread._prefetch.started == 0


def test_what_cannot_be_judged_goes_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in judging a batch must not leave it here for ever, where nobody settles it and the process can't end."""

    def mistake(deliveries: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(rig.thread._admission, "admit", mistake)
    with pytest.raises(RuntimeError):
        rig.thread._take([delivery(late), delivery(late)])
    rig.thread._settle_owed()
    # Counted: what is a mistake each time becomes a dead letter.
    assert [(one.disposition, one.counted) for one in rig.consumer.settled] == [(Disposition.REQUEUE, True)] * 2
    rig.thread._begin_to_stop()
    assert rig.thread._finished()


def test_nothing_comes_of_what_others_were_given_meanwhile(url: str) -> None:
    """After a freeze that outlasts the lease: neither results nor follow-ups of it are sent, and what waits is run by others only."""
    frozen = HandTurned(MemoryBroker(url))
    follower = {"task": late.name, "args": [], "kwargs": {}, "options": {"task_id": "next"}, "immutable": True}
    # The prefetch of a beginner takes one after the other.
    for number, embed in enumerate(({"chain": [follower]}, {})):
        frozen.broker.publish([envelope(late.name, f"id-{number}", embed=embed)])
        frozen.thread._turn()
    done = frozen.pool._executor.execute(frozen.pool._waiting.popleft())
    frozen.broker.recover(clock.after(100), limit=10)
    other = frozen.broker.consume(["q"], consumer_id="other")
    again = other.receive(10, 5)
    frozen.thread._extended -= 100
    frozen.thread.done(done)
    frozen.thread._turn()
    assert (frozen.pool.held(), frozen.thread._held, frozen.backend.fetch(["id-0"])) == (0, {}, {})
    assert (frozen.broker.size("q"), len(other.kept(again))) == (0, 2)


def test_what_comes_again_after_it_was_lost_is_settled(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the tag that it had: nothing more is dropped than what was lost, or its message would be held here for ever."""
    frozen = HandTurned(MemoryBroker(url))
    frozen.broker.publish([envelope(late.name, "id-0")])
    frozen.thread._turn()

    def fail(settlements: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as away:
        away.setattr(frozen.thread._consumer, "settle", fail)
        waiting = frozen.pool.unstarted()
        with pytest.raises(OperationalError):
            frozen.thread._give_back(waiting)
    frozen.broker.recover(clock.after(100), limit=10)
    frozen.thread._extended -= 100
    frozen.thread._turn()
    frozen.thread.done(frozen.pool._executor.execute(frozen.pool._waiting.popleft()))
    frozen.thread._turn()
    assert (frozen.thread._held, frozen.broker.size("q")) == ({}, 0)
    assert frozen.backend.fetch(["id-0"])["id-0"].status == states.SUCCESS


def test_leases_are_not_renewed_unseen_after_an_outage(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that fails renews leases, too: not before it is known which of them are others' by now."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    frozen = HandTurned(MemoryBroker(url))
    frozen.broker.publish([envelope(late.name, "id-0")])
    frozen.thread._turn()
    frozen.broker.recover(clock.after(100), limit=10)
    frozen.thread._extended -= 100
    frozen.thread._stumble(OperationalError("the results are away"))
    assert (frozen.pool.held(), frozen.thread._held) == (0, {})


@pytest.mark.parametrize(("queue", "comes"), [("refused", False), ("q", True)])
def test_a_draining_worker_does_not_wait_for_what_it_cannot_get(rig: Rig, monkeypatch: pytest.MonkeyPatch, queue: str, comes: bool) -> None:
    """Messages in a queue that the server refuses to it would keep it from its end for ever."""
    monkeypatch.setattr(rig.broker, "recovers", False)
    monkeypatch.setattr("django_tasks.worker.consumerthread.parked_messages_are_due", lambda: False)
    rig.broker.publish([replace(envelope(late.name, "id-0"), queue=queue)])
    rig.thread._queues = (queue,)
    assert rig.thread._more_comes() is comes


def test_a_consumer_around_another_passes_everything_on() -> None:
    """Also what a consumer need not have: the base class would answer in the place of the one inside."""
    questions = {name for name, value in vars(Consumer).items() if callable(value) and not name.startswith("_")}
    assert questions <= vars(KeepingAside).keys()
