"""The parking lot and the outbox: messages that wait in the database for a broker that is not the database."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Self

import pytest
from django.db import connections, transaction
from django.urls import reverse

from django_tasks import brokers, client, clock, deadletters, parking, shared_task, signals
from django_tasks.brokers.broker import Broker
from django_tasks.brokers.database import DatabaseBroker
from django_tasks.exceptions import EncodeError, ImproperlyConfigured, OperationalError
from django_tasks.messages import PARKED, Envelope
from django_tasks.models import DeadLetter, Message, MessageState
from django_tasks.operations.queues import known_names, message_rows, overview, purge, run_now
from django_tasks.parking import forwarder as forwarding
from django_tasks.testing.broker_probes import envelope
from django_tasks.worker.options import chosen_queues

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])

only_sqlite = pytest.mark.parametrize("alias", ["default"], indirect=True)


@shared_task(name="tests.parked")
def parked(number=0):
    """Return the number."""
    return number


class RecordingBroker(Broker):
    """Keeps what it is given; may be down, refuse some, or delay only so long."""

    joins_transaction: ClassVar[bool] = False
    recovers: ClassVar[bool] = False
    priorities: ClassVar[int] = 10

    def __init__(self, *, longest_delay: float | None = None) -> None:
        self.delays = longest_delay is not None
        if longest_delay is not None:
            self.longest_delay = longest_delay
        self.sent: list[Envelope] = []
        self.batches: list[int] = []
        self.down = False
        self.tries = 0
        self.refusal: Callable[[Envelope], Exception | None] = lambda _: None
        self.lock = threading.Lock()

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        with self.lock:
            self.tries += 1
            if self.down:
                raise OperationalError("the broker is down")
            for one in envelopes:
                if (error := self.refusal(one)) is not None:
                    raise error
            self.sent += envelopes
            self.batches.append(len(envelopes))

    def consume(self, queues: Sequence[str], *, consumer_id: str) -> Any:
        raise NotImplementedError

    def promote(self, now: datetime, *, limit: int) -> int:
        return 0

    def recover(self, now: datetime, *, limit: int) -> int:
        return 0

    def size(self, queue: str) -> int | None:
        return None

    def queues(self) -> list[str]:
        return []

    def purge(self, queue: str) -> int:
        return 0

    @property
    def ids(self) -> list[str]:
        return [one.headers["id"] for one in self.sent]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, settings: Any, alias: str) -> RecordingBroker:
    """The current broker, one that delays nothing; the parking lot is in ``alias``."""
    found = RecordingBroker()
    monkeypatch.setattr(brokers, "current", lambda: found)
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://", "TASK_OUTBOX_DATABASE": alias, "WORKER_LEASE": 1.0}
    return found


@pytest.fixture
def outbox(broker: RecordingBroker, settings: Any) -> RecordingBroker:
    """The same with TASK_PUBLISH_OUTBOX, and a broker that delays."""
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "TASK_PUBLISH_OUTBOX": True}
    broker.delays, broker.longest_delay = True, float("inf")
    return broker


@pytest.fixture
def forwarder(broker: RecordingBroker) -> Iterator[parking.Forwarder]:
    forwarder = parking.Forwarder(broker, consumer_id="tests", bury=deadletters.record)
    yield forwarder
    forwarder.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses."""
    monkeypatch.setattr(forwarding, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(forwarding, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(forwarding, "LONGEST_REFUSAL", 0.01)
    monkeypatch.setattr(forwarding, "RECOVER_EVERY", 0.1)


def until(condition: Callable[[], Any], turn: Callable[[float], Any] = time.sleep) -> None:
    """Take turns until the condition holds; fail after ten seconds."""
    deadline = clock.monotonic() + 10
    while not condition():
        assert clock.monotonic() < deadline, "it didn't happen within ten seconds"
        turn(0.02)


def rows(alias: str) -> Any:
    return Message.objects.using(alias)


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """Run the block in a transaction, or a savepoint, that is rolled back."""
    with transaction.atomic(using=alias):
        yield
        transaction.set_rollback(True, using=alias)


# -- parking and coming back


def test_what_is_parked_comes_out_as_it_went_in(broker, alias, forwarder):
    """Queue, exchange, routing key, priority, headers that are null, and properties: all as they were."""
    one = envelope(
        "1",
        queue="mail",
        priority=300,
        exchange="topics",
        routing_key="mail.de",
        headers={"id": "1", "task": "t", "eta": None, "stamps": {"a": [1]}, "text": "ä\ud800"},
        properties={"correlation_id": "another", "reply_to": "r", "delivery_info": {"exchange": "topics"}, "priority": 9, "x": None},
        not_before=clock.now(),
    )
    two = envelope("2", exchange=None, routing_key=None)
    parking.park([one, two])
    assert {row.queue for row in rows(alias).all()} == {PARKED}
    assert parking.waiting() == parking.waiting(alias) == 2
    assert forwarder.turn(5) == 2
    assert broker.sent == [one, two]
    assert parking.waiting() == 0
    assert not rows(alias).exists()


def test_priorities_leave_in_their_order(broker, forwarder):
    """What is more urgent is handed over first, else what was parked first."""
    parking.park([envelope("late", priority=0), envelope("urgent", priority=9), envelope("next", priority=0)])
    forwarder.turn(5)
    assert broker.ids == ["urgent", "late", "next"]


def test_only_what_the_broker_can_not_delay_is_parked(broker, alias, forwarder):
    """A broker that delays fifteen minutes gets what is due by then, and the rest when no more than that is left."""
    broker.delays, broker.longest_delay = True, 900.0
    far = clock.after(901.5)
    client.forward([envelope("now"), envelope("soon", not_before=clock.after(899)), envelope("far", not_before=far)])
    assert broker.ids == ["now", "soon"]
    assert rows(alias).get().state == MessageState.DELAYED
    assert forwarder.turn(0) == 0
    until(lambda: forwarder.turn(1), lambda _: None)
    assert broker.ids == ["now", "soon", "far"]
    assert broker.sent[-1].not_before == far
    assert 899 < (far - clock.now()).total_seconds() <= 900


def test_delayed_calls_of_a_broker_that_delays_nothing(broker, alias, forwarder):
    """``countdown`` parks the call; it leaves when it is due and not before."""
    begin = clock.monotonic()
    sent = parked.apply_async((1,), countdown=0.5, queue="other", priority=3)
    assert not broker.sent
    until(lambda: broker.sent, lambda _: forwarder.turn(1))
    assert 0.5 <= clock.monotonic() - begin < 2
    assert (broker.ids, broker.sent[0].queue, broker.sent[0].priority) == ([sent.id], "other", 3)
    assert "shadow" in broker.sent[0].headers


def test_a_due_time_in_the_past_is_no_delay(broker, alias):
    """What was to run a minute ago goes to the broker at once."""
    client.forward([envelope("1", not_before=clock.after(-60))])
    assert broker.ids == ["1"]
    assert not rows(alias).exists()


def test_a_forwarder_puts_back_what_its_broker_can_not_take_yet(broker, alias, forwarder):
    """Rows that were parked for a broker that delays are kept for one that doesn't."""
    broker.delays, broker.longest_delay = True, float("inf")
    due = clock.after(3600)
    parking.park([envelope("1", not_before=due)])
    broker.delays = False
    assert forwarder.turn(5) == 0
    row = rows(alias).get()
    assert (row.state, row.deliveries) == (MessageState.DELAYED, 0)
    assert abs((row.until - due).total_seconds()) < 0.01


def test_a_batch_is_sent_and_parked_as_one(broker, alias):
    """When the broker takes its part of a batch not, the other part is not parked either."""
    broker.down = True
    with pytest.raises(OperationalError, match="down"):
        client.forward([envelope("now"), envelope("later", not_before=clock.after(60))])
    assert not rows(alias).exists()
    with transaction.atomic(using=alias):
        with pytest.raises(OperationalError, match="down"):
            client.forward([envelope("now"), envelope("later", not_before=clock.after(60))])
        broker.down = False
        client.forward([envelope("now"), envelope("later", not_before=clock.after(60))])
    assert broker.ids == ["now"]
    assert rows(alias).get().task_id == "later"


@only_sqlite
def test_without_its_table_a_delayed_call_says_what_is_missing(broker, alias):
    """A project that never migrated is told why its broker needs the database, and that nothing was sent."""
    with connections[alias].cursor() as cursor:
        cursor.execute("ALTER TABLE django_tasks_message RENAME TO elsewhere")
    try:
        with pytest.raises(OperationalError, match=r"does not delay messages.*'default' \(TASK_OUTBOX_DATABASE\).*migrate"):
            parked.apply_async(countdown=60, retry=False)
        parked.delay()
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO django_tasks_message")
    assert len(broker.sent) == 1


@only_sqlite
def test_a_database_that_can_not_be_opened(broker, alias, monkeypatch):
    """The same for a database that doesn't answer at all: BEGIN fails."""
    connections[alias].close()
    monkeypatch.setitem(connections[alias].settings_dict, "NAME", "/nowhere/at/all.sqlite3")
    with pytest.raises(OperationalError, match="TASK_OUTBOX_DATABASE"):
        parked.apply_async(countdown=60, retry=False)
    assert not broker.sent
    connections[alias].close()


@only_sqlite
def test_an_outbox_in_no_database(broker, settings):
    """A name that DATABASES doesn't have is a mistake of the settings, with the nearest name."""
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "TASK_OUTBOX_DATABASE": "defalt"}
    with pytest.raises(ImproperlyConfigured, match=r"did you mean .*default"):
        parking.park([envelope("1")])


@pytest.mark.parametrize(
    ("delay", "outbox_on", "wanted"), [(None, False, True), (900.0, False, True), (float("inf"), False, False), (float("inf"), True, True)]
)
@only_sqlite
def test_who_needs_a_forwarder(alias, settings, delay, outbox_on, wanted):
    """Brokers that can't delay for ever, and any with an outbox, except the database broker."""
    settings.DJANGO_TASKS = {"TASK_PUBLISH_OUTBOX": outbox_on}
    assert parking.needed(RecordingBroker(longest_delay=delay)) is wanted
    assert parking.needed(DatabaseBroker()) is False


# -- the outbox


def test_the_outbox_is_part_of_the_transaction(outbox, alias, forwarder):
    """A rolled back call was never there; a committed one is sent once; nothing is sent before the commit."""
    with rolled_back(alias):
        parked.delay(1)
    assert not rows(alias).exists()
    with transaction.atomic(using=alias):
        sent = parked.delay(2)
        assert rows(alias).get().task_id == sent.id
        assert not connections[alias].run_on_commit
    assert not outbox.sent
    assert forwarder.turn(5) == 1
    assert forwarder.turn(0) == 0
    assert outbox.ids == [sent.id]


def test_savepoints_of_the_outbox(outbox, alias, forwarder):
    """A block inside the transaction that is rolled back takes its calls with it."""
    with transaction.atomic(using=alias):
        kept = parked.delay(1)
        with rolled_back(alias):
            parked.delay(2)
    forwarder.turn(5)
    assert outbox.ids == [kept.id]


def test_without_a_transaction_nothing_is_parked(outbox, alias):
    """Nor with ``on_commit=False``: the broker gets it at once."""
    parked.delay()
    with transaction.atomic(using=alias):
        parked.apply_async(on_commit=False)
    assert len(outbox.sent) == 2
    assert not rows(alias).exists()


@only_sqlite
def test_a_transaction_on_another_database(outbox, alias, settings):
    """There is no row of it to write: a hook sends after its commit, and never if it rolls back."""
    others = [name for name in connections if name != alias]
    if not others:
        pytest.skip("only one database answers here")
    with transaction.atomic(using=others[0]):
        parked.delay()
        assert not outbox.sent
    assert len(outbox.sent) == 1
    with rolled_back(others[0]):
        parked.delay()
    assert len(outbox.sent) == 1
    assert not rows(alias).exists()


def test_delayed_calls_in_the_outbox_go_to_a_broker_that_delays(outbox, alias, forwarder):
    """The broker gets them after the commit, with their due time, and keeps them itself."""
    with transaction.atomic(using=alias):
        parked.apply_async(countdown=3600)
    assert forwarder.turn(5) == 1
    assert (outbox.sent[0].not_before - clock.now()).total_seconds() > 3500


def test_signals_are_sent_once_when_the_message_is_parked(outbox, alias, forwarder):
    """Headers that a receiver adds travel along; forwarding announces nothing again."""
    seen: list[str] = []

    def before(sender=None, headers=None, **kwargs):
        headers["trace"] = "abc"
        seen.append("before")

    def after(sender=None, **kwargs):
        seen.append("after")

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        with transaction.atomic(using=alias):
            parked.delay()
        forwarder.turn(5)
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert seen == ["before", "after"]
    assert outbox.sent[0].headers["trace"] == "abc"


def test_the_outbox_is_quick(outbox, alias):
    """A waiting forwarder hears of the commit; the message is with the broker some hundredths of a second later."""
    with running(outbox):
        parked.delay()
        delays = []
        for number in range(5):
            with transaction.atomic(using=alias):
                parked.delay(number)
            begin = clock.monotonic()
            wanted = number + 2
            until(lambda wanted=wanted: len(outbox.sent) == wanted, lambda _: time.sleep(0.002))
            delays.append(clock.monotonic() - begin)
    assert sorted(delays)[2] < 0.5, delays


class running:
    """Run forwarders in threads of their own."""

    def __init__(self, broker: Broker, count: int = 1) -> None:
        self.stop = threading.Event()
        self.forwarders = [parking.Forwarder(broker, consumer_id=f"tests-{number}", bury=deadletters.record) for number in range(count)]
        self.threads = [threading.Thread(target=forwarder.run, args=(self.stop,)) for forwarder in self.forwarders]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_args: object) -> None:
        self.stop.set()
        for forwarder in self.forwarders:
            forwarder.wake()
        for thread in self.threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in self.threads)


# -- what operators see and do


@pytest.fixture
def quiet(broker: RecordingBroker) -> None:
    """Two parked messages, one of them for later."""
    parking.park(
        [envelope("1"), envelope("2", headers={"id": "2", "task": "t", "eta": "2099-01-01T00:00:00+00:00"}, not_before=clock.after(3600))]
    )


@pytest.mark.usefixtures("quiet")
def test_parked_messages_are_a_queue_to_operators(alias):
    """With what is delayed in it, and purged like any other."""
    assert PARKED in known_names()
    (lot, other) = overview([PARKED, "default"])
    assert (lot.size, lot.delayed, other.delayed) == (2, 1, None)
    assert purge([PARKED, "default"]) == {PARKED: 2, "default": 0}
    assert PARKED not in known_names()


@pytest.mark.usefixtures("quiet")
def test_a_parked_call_is_run_now(broker, alias, forwarder):
    """It leaves at once, and comes to the worker without its due time."""
    assert run_now(message_rows().filter(task_id="2")) == 1
    assert forwarder.turn(5) == 2
    assert (broker.sent[1].not_before, broker.sent[1].headers.get("eta")) == (None, None)


@only_sqlite
@pytest.mark.usefixtures("quiet")
def test_the_admin_shows_parked_messages(broker, admin_client):
    """In the list of messages and in that of queues, as being forwarded by nobody where no worker runs."""
    page = admin_client.get(reverse("admin:django_tasks_message_changelist")).content.decode()
    assert page.count(PARKED) >= 2
    assert "is counted under Queues" in page
    row = Message.objects.get(task_id="2")
    assert "2099" in admin_client.get(reverse("admin:django_tasks_message_change", args=[row.pk])).content.decode()
    assert PARKED in admin_client.get(reverse("admin:django_tasks_queue_changelist")).content.decode()


@only_sqlite
def test_the_reserved_queue_is_refused(broker):
    """By callers and by workers."""
    with pytest.raises(ValueError, match="reserved"):
        parked.apply_async(queue=PARKED)
    with pytest.raises(ImproperlyConfigured, match="forwards"):
        chosen_queues([PARKED], [])


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
    monkeypatch.setattr(forwarding, "FIRST_PAUSE", 0.05)
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
