"""Forwarding when something goes wrong: brokers that are away, messages that are refused, processes that are killed."""

import os
import signal
import subprocess
import sys
import textwrap
from datetime import datetime
from typing import Any

import pytest

from django_tasks import deadletters, parking
from django_tasks.brokers.database import DatabaseBroker
from django_tasks.exceptions import EncodeError, OperationalError
from django_tasks.messages import PARKED
from django_tasks.models import DeadLetter
from django_tasks.parking import forwarder as forwarding
from django_tasks.testing.broker_probes import envelope
from tests.database.parking.lot import rows, running, until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


# -- what goes wrong


def test_two_forwarders_share(broker, alias):
    """Whatever each of them takes, every message is sent once."""
    with running(broker, 2):
        for start in range(0, 1000, 100):
            parking.park([envelope(str(number)) for number in range(start, start + 100)])
        until(lambda: len(broker.sent) >= 1000)
        until(lambda: not rows(alias).exists())
    assert sorted(map(int, broker.ids)) == list(range(1000))


@pytest.mark.usefixtures("quick")
def test_a_broker_that_is_away_for_a_while(broker, alias):
    """Nothing is lost, nothing counted, nothing becomes a dead letter; all of it arrives when the broker is back."""
    parking.park([envelope(str(number)) for number in range(450)])
    broker.down = True
    with running(broker):
        until(lambda: broker.tries >= 20)
        broker.down = False
        until(lambda: not rows(alias).exists())
    assert sorted(map(int, broker.ids)) == list(range(450))
    assert not DeadLetter.objects.exists()


def test_an_outage_is_probed_with_single_messages(broker, alias, forwarder, monkeypatch):
    """After a first batch has failed, and a pause, a single message asks whether the broker is back."""
    monkeypatch.setattr(forwarding, "FIRST_PAUSE", 0.4)
    parking.park([envelope(str(number)) for number in range(10)])
    broker.down = True
    assert forwarder.turn(5) == 0
    assert broker.tries == 1 + forwarding.STRIKES
    assert set(rows(alias).values_list("deliveries", flat=True)) == {0}
    assert forwarder.turn(0) == 0
    assert broker.tries == 1 + forwarding.STRIKES, "it didn't wait for the pause to end"
    broker.down = False
    until(lambda: len(broker.sent) == 10, lambda _: forwarder.turn(0.1))
    assert broker.batches[0] == 1
    assert broker.batches[1] > 1


@pytest.mark.usefixtures("quick")
def test_what_the_broker_refuses_holds_up_nobody(broker, alias, forwarder):
    """The others of the batch are sent; the refused one is tried again, and at last is a dead letter."""
    broker.refusal = lambda one: OperationalError("too large") if one.headers["id"] == "3" else None
    parking.park([envelope(str(number), queue="q", priority=number % 2) for number in range(6)])
    forwarder.turn(5)
    assert sorted(broker.ids) == ["0", "1", "2", "4", "5"]
    assert rows(alias).get().deliveries == 1

    def turn(_: float) -> None:
        # Refusals only count while others pass.
        parking.park([envelope("another")])
        forwarder.turn(0.1)

    until(DeadLetter.objects.exists, turn)
    letter = DeadLetter.objects.get()
    assert (letter.task_id, letter.queue, letter.priority, letter.reason) == ("3", "q", 1, "refused by the broker")
    assert letter.deliveries >= forwarding.REFUSALS
    assert "too large" in letter.detail
    assert not rows(alias).filter(task_id="3").exists()


@pytest.mark.usefixtures("quick")
def test_a_message_that_is_refused_alone_is_kept(broker, alias, forwarder):
    """Nothing tells a broker that is full from one that refuses a single message, so it waits; others get their turn."""
    broker.refusal = lambda one: OperationalError("no") if one.headers["id"] == "bad" else None
    parking.park([envelope("bad", priority=9)])
    until(lambda: broker.tries > forwarding.REFUSALS + 3, forwarder.turn)
    assert not DeadLetter.objects.exists()
    parking.park([envelope("good")])
    until(lambda: broker.ids == ["good"], forwarder.turn)


@pytest.mark.parametrize("error", [EncodeError("odd header"), ValueError("no such thing")])
def test_what_can_never_be_sent_is_a_dead_letter_at_once(broker, alias, forwarder, error):
    """What is wrong with the message itself doesn't change by waiting."""
    broker.refusal = lambda one: error if one.headers["id"] == "bad" else None
    parking.park([envelope("bad"), envelope("good")])
    assert forwarder.turn(5) == 1
    assert DeadLetter.objects.get().task_id == "bad"
    assert deadletters.envelope_of(DeadLetter.objects.get()).queue == "default"
    assert not rows(alias).exists()


def test_a_row_that_nobody_parked_is_a_dead_letter(broker, alias, forwarder):
    """Somebody put it into the reserved queue by hand: nothing says where it is going."""
    DatabaseBroker(alias).publish([envelope("stray", queue=PARKED)])
    parking.park([envelope("broken")])
    rows(alias).filter(task_id="broken").update(properties='{"parked":{}}')
    assert forwarder.turn(5) == 0
    assert set(DeadLetter.objects.values_list("task_id", "reason")) == {("stray", "unreadable"), ("broken", "unreadable")}
    assert not rows(alias).exists()


def test_a_settlement_that_failed_is_made_up_for(broker, alias, forwarder, monkeypatch):
    """The database was away right after the broker took the message: it is taken out as soon as it is back, and not sent again."""
    parking.park([envelope("1")])
    settle = forwarder._consumer.settle

    def away(settlements: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr(forwarder._consumer, "settle", away)
    with pytest.raises(OperationalError, match="away"):
        forwarder.turn(5)
    monkeypatch.setattr(forwarder._consumer, "settle", settle)
    assert forwarder.turn(0) == 0
    assert broker.ids == ["1"]
    assert not rows(alias).exists()


@pytest.mark.usefixtures("quick")
def test_a_forwarder_outlives_every_error(broker, alias, monkeypatch, caplog):
    """A database that is away, and a bug, are told and got over."""
    answers = [OperationalError("the database is away"), RuntimeError("a bug")]
    recover = DatabaseBroker.recover

    def failing(self: Any, now: datetime, *, limit: int) -> int:
        if answers:
            raise answers.pop(0)
        return recover(self, now, limit=limit)

    monkeypatch.setattr(DatabaseBroker, "recover", failing)
    monkeypatch.setattr(forwarding, "RECOVER_EVERY", 0.0)
    parking.park([envelope("1")])
    with running(broker):
        until(lambda: broker.sent and not answers)
    assert not answers
    assert "the database is away" in caplog.text
    assert "a bug" in caplog.text


# -- processes that are killed


def child(environment: dict[str, str], alias: str, script: str) -> "subprocess.Popen[str]":
    """Start a process on this test's databases; ``alias`` is its outbox."""
    told = {
        "TEST_BROKER_URL": "memory://",
        "TEST_TASK_PUBLISH_OUTBOX": "true",
        "TEST_TASK_OUTBOX_DATABASE": alias,
        "TEST_WORKER_LEASE": "1",
    }
    start = "import django\ndjango.setup()\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + textwrap.dedent(script)], env={**environment, **told}, stdout=subprocess.PIPE, text=True
    )


def test_killed_right_after_the_commit(broker, alias, forwarder, child_environment):
    """What a process committed is sent, although it didn't live to send it."""
    script = f"""
        import os, signal
        from django.db import transaction
        from tests.sampleapp.tasks import add
        with transaction.atomic(using={alias!r}):
            print(add.delay(1, 2).id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    with child(child_environment, alias, script) as process:
        out, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    until(lambda: broker.sent, forwarder.turn)
    assert broker.ids == [out.strip()]


@pytest.mark.usefixtures("quick")
def test_a_forwarder_killed_before_it_could_settle(broker, alias, forwarder, child_environment):
    """Its message is sent again when its lease has lapsed: the same message, with the same id."""
    parking.park([envelope("1")])
    script = """
        import time
        from django_tasks import deadletters, parking
        from django_tasks.brokers.memory import MemoryBroker

        class Broker(MemoryBroker):
            def publish(self, envelopes):
                super().publish(envelopes)
                print(envelopes[0].headers["id"], flush=True)
                time.sleep(60)

        parking.Forwarder(Broker(), consumer_id="killed", bury=deadletters.record).turn(10)
        """
    with child(child_environment, alias, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "1"
        assert forwarder.turn(0) == 0
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: broker.sent, forwarder.turn)
    assert broker.ids == ["1"]
    assert not rows(alias).exists()
