"""The memory broker: exact semantics on a clock that the test moves."""

import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from django_tasks import brokers, conf, opening
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.messages import Disposition, Settlement
from django_tasks.testing.broker_probes import envelope, names, settled


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def broker(clock: ManualClock) -> Iterator[MemoryBroker]:
    broker = MemoryBroker("unit", clock=clock, lease=30)
    yield broker
    broker.clear()


def test_a_due_time_is_exact(broker, clock):
    """A delayed message is there at its due time, and not a microsecond before."""
    due = clock() + timedelta(seconds=10)
    broker.publish([envelope("1", not_before=due)])
    consumer = broker.consume(["default"], consumer_id="c")
    clock.time = due - timedelta(microseconds=1)
    assert consumer.receive(1, 0) == []
    clock.time = due
    assert names(consumer.receive(1, 0)) == ["1"]


def test_due_messages_keep_their_age(broker, clock):
    """A promoted message takes the place that its priority and its time of publishing give it."""
    broker.publish([envelope("old", not_before=clock() + timedelta(seconds=5)), envelope("new"), envelope("urgent", priority=1)])
    clock.move(5)
    assert names(broker.consume(["default"], consumer_id="c").receive(3, 0)) == ["urgent", "old", "new"]


def test_a_lease_lapses_at_its_end(broker, clock):
    """A lease holds until its last moment, and recover gives back what it held from then on."""
    broker.publish([envelope("1")])
    first, second = (broker.consume(["default"], consumer_id=name) for name in "ab")
    held = first.receive(1, 0)
    clock.move(29)
    first.extend(held)
    clock.move(29)
    assert broker.recover(clock(), limit=10) == 0
    clock.move(1)
    assert broker.recover(clock(), limit=10) == 1
    (again,) = second.receive(1, 0)
    assert again.deliveries == 2


def test_delays_settled_twice_count_once(broker, clock):
    """A message that is delayed again is due at the later settlement's time only."""
    broker.publish([envelope("1")])
    consumer = broker.consume(["default"], consumer_id="c")
    for seconds in (5, 50):
        (delivery,) = consumer.receive(1, 0)
        consumer.settle([Settlement(delivery, Disposition.DELAY, until=clock() + timedelta(seconds=seconds))])
        clock.move(5)
    assert broker.size("default") == 1
    assert consumer.receive(1, 0) == []
    clock.move(45)
    (delivery,) = consumer.receive(1, 0)
    assert delivery.deliveries == 3


def test_brokers_of_one_name_share_a_store(broker):
    """A producer and a worker in one process meet by the name in the URL; another name is another store."""
    MemoryBroker("unit").publish([envelope("1")])
    assert (broker.size("default"), MemoryBroker("other").size("default")) == (1, 0)
    broker.clear()
    assert broker.size("default") == 0


def test_wake_from_a_signal_handler(broker):
    """``wake`` may be called by a signal handler that interrupts the very thread that waits."""
    consumer = broker.consume(["default"], consumer_id="c")
    before = signal.signal(signal.SIGALRM, lambda *_: consumer.wake())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert consumer.receive(1, 30) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_wake_before_the_wait_counts(broker):
    """A wake that comes between two waits ends the next one, once."""
    consumer = broker.consume(["default"], consumer_id="c")
    consumer.wake()
    assert consumer.receive(1, 30) == []
    broker.publish([envelope("1")])
    consumer.settle(settled(consumer.receive(1, 30), Disposition.ACK))


def test_another_threads_message_ends_the_wait():
    """With the wall's clock nobody polls: publishing wakes who waits."""
    broker = MemoryBroker("unit-wall")
    try:
        consumer = broker.consume(["default"], consumer_id="c")
        threading.Timer(0.05, broker.publish, [[envelope("1")]]).start()
        assert names(consumer.receive(1, 30)) == ["1"]
    finally:
        broker.clear()


def test_a_forked_child_starts_empty(broker):
    """What waits in a process's memory is that process's: a child would run it a second time."""
    broker.publish([envelope("1")])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(broker.size("default")).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"0"
    assert broker.size("default") == 1
    os.close(read)
    os.close(write)


def test_open_broker_by_url():
    """A URL's scheme finds the broker; its name is the store's."""
    broker = brokers.open_broker("memory://somewhere")
    assert isinstance(broker, MemoryBroker)
    assert broker.name == "somewhere"
    assert brokers.open_broker("memory://").name == "default"
    assert brokers.open_broker(["memory://one"]).name == "one"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memry://", "did you mean memory://?"),
        ("nonsense://", "no broker has the scheme 'nonsense'; did you mean"),
        ("zzzz://", "no broker has the scheme 'zzzz'; there are amqp://"),
        ("reddis://:secret@localhost", "did you mean redis://?"),
        ("redis://:secret@localhost:nonsense", "Port could not be cast to integer value as 'nonsense'"),
        ("redis://:secret@localhost/abc", "its path 'abc' is no number of a database"),
        ("redis://:secret@localhost/0?nosuch=1", "an option that redis-py can't use"),
        ("sentinel://:secret@localhost", "needs the name of the master"),
        ("amqp://guest:secret@localhost:nonsense", "nonsense"),
        ("redis://:secret@localhost;amqp://guest:secret@localhost", "a fail-over list of different kinds"),
        ("db://default;db://other", "fail-over list"),
        (["memory://", "memory://b"], "fail-over list"),
        ("", "is empty"),
        ("db://defalt", "did you mean db://default?"),
    ],
)
def test_urls_that_open_nothing(url, words):
    """A URL that no broker takes is refused with what is allowed, and without its password."""
    with pytest.raises(ImproperlyConfigured) as caught:
        brokers.open_broker(url)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_current_broker_follows_the_setting(settings):
    """``current()`` opens BROKER_URL once, and again when the setting has another value."""
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://first"}
    conf.settings.reset()
    first = brokers.current()
    assert brokers.current() is first
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://second"}
    conf.settings.reset()
    assert brokers.current().name == "second"
    brokers.reset()
    assert brokers.current() is not first


def test_an_entry_point_adds_a_scheme(monkeypatch):
    """A distribution can bring a broker by the entry-point group ``django_tasks.brokers``."""

    class Entry:
        name = "mine"

        def load(self):
            return MemoryBroker.from_url

    monkeypatch.setattr(opening, "entry_points", lambda group: [Entry()] if group == "django_tasks.brokers" else [])
    assert brokers.open_broker("mine://here").name == "here"


def test_a_journal_keeps_what_was_published(broker, clock):
    """It grows with everything published from then on, run since or not; asked for again it is the same one."""
    broker.publish([envelope("0")])
    journal = broker.keep_journal()
    broker.publish([envelope("1")])
    clock.move(5)
    broker.publish([envelope("2", not_before=clock() + timedelta(seconds=5))])
    assert [(at, one.headers["id"]) for at, one in journal] == [(clock() - timedelta(seconds=5), "1"), (clock(), "2")]
    assert broker.keep_journal() is journal


def test_what_waits_is_listed_in_its_order(broker, clock):
    """First what may be received, best first, then what is delayed, by its time; held messages are left out."""
    later = clock() + timedelta(seconds=60)
    broker.publish([envelope("later", not_before=later), envelope("soon", not_before=clock() + timedelta(seconds=5))])
    broker.publish([envelope("held", priority=9)])
    broker.consume(["default"], consumer_id="c").receive(1, 0)
    broker.publish([envelope("low"), envelope("high", priority=5)])
    assert [one.headers["id"] for one in broker.waiting()] == ["high", "low", "soon", "later"]
    clock.move(10)
    assert [one.headers["id"] for one in broker.waiting()] == ["high", "soon", "low", "later"]
