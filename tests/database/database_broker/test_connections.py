"""Connections that are kept, lost, and woken up by."""

import signal
import threading

import pytest
from django.db import connection as default_connection
from django.db import connections, transaction

from django_tasks import clock
from django_tasks.brokers.database.claims import dialect_of
from django_tasks.brokers.database.wakeup import Doorbell, Timer, wakeup_of
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.messages import Disposition, Settlement
from django_tasks.models import Message
from django_tasks.testing.broker_probes import envelope, names, settled
from tests.database.database_broker.sessions import in_thread, kill, only_postgres, servers
from tests.processes import SOON

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


# -- connections


def test_connections_are_kept(broker, alias, consumer):
    """CONN_MAX_AGE = 0, Django's default, costs no connection a call: nobody closes a healthy one."""
    assert connections[alias].settings_dict["CONN_MAX_AGE"] == 0
    connections[alias].ensure_connection()
    raw = connections[alias].connection
    for _ in range(3):
        broker.publish([envelope("1")])
        consumer.settle(settled(consumer.receive(1, 5), Disposition.ACK))
        consumer.receive(1, 0.03)
    assert connections[alias].connection is raw


@servers
def test_a_lost_connection_is_one_error(broker, alias, consumer, no_look):
    """After a cut the next call says what happened and the one after it works, listening again."""
    broker.publish([envelope("1")])
    (delivery,) = consumer.receive(1, 5)
    for call in (
        lambda: consumer.receive(1, 5),
        lambda: consumer.settle(settled([delivery], Disposition.REQUEUE)),
        lambda: consumer.extend([delivery]),
        lambda: broker.publish([envelope("2")]),
        lambda: broker.size("default"),
    ):
        kill(alias)
        with pytest.raises(OperationalError, match=f"failed on the database '{alias}'"):
            call()
    consumer.settle(settled([delivery], Disposition.ACK))
    timer = in_thread(lambda: broker.publish([envelope("2")]), after=0.2)
    begun = clock.monotonic()
    assert names(consumer.receive(1, 60)) == ["2"]
    assert clock.monotonic() - begun < SOON
    timer.join()


@only_postgres
def test_cut_while_waiting(broker, alias, consumer, no_look):
    """A wait ends at once when the server cuts the connection."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        number = cursor.fetchone()[0]

    def cut() -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [number])

    timer = in_thread(cut, after=0.2)
    begun = clock.monotonic()
    with pytest.raises(OperationalError):
        consumer.receive(1, 60)
    assert clock.monotonic() - begun < SOON
    timer.join()
    assert consumer.receive(1, 0) == []


def test_a_missing_table_is_explained(broker, alias):
    """Without the table, the error says what to run."""
    table = Message._meta.db_table
    with connections[alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        try:
            with pytest.raises(OperationalError, match=r"manage\.py migrate"):
                broker.publish([envelope("1")])
        finally:
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
    broker.publish([envelope("1")])


def test_a_database_without_a_dialect(monkeypatch):
    """A database that the broker doesn't speak is refused by name."""
    monkeypatch.setattr(default_connection, "vendor", "oracle")
    with pytest.raises(ImproperlyConfigured, match="speaks PostgreSQL"):
        dialect_of(default_connection)


# -- waking up


def test_a_commit_ends_the_wait(broker, alias, consumer, no_look):
    """A message reaches an idle consumer soon after its transaction commits, and not before."""
    committed: list[float] = []

    def publish() -> None:
        with transaction.atomic(using=alias):
            broker.publish([envelope("1")])
            threading.Event().wait(0.3)
        committed.append(clock.monotonic())

    timer = in_thread(publish, after=0.1)
    (delivery,) = consumer.receive(1, 60)
    received = clock.monotonic()
    timer.join()
    assert delivery.envelope.body == b"1"
    assert -0.1 < received - committed[0] < SOON


def test_own_messages_are_seen(broker, consumer, no_look):
    """What the consumer's own thread published or delayed a moment ago is received on time, though nothing wakes it."""
    broker.publish([envelope("1")])
    (delivery,) = consumer.receive(1, 5)
    broker.publish([envelope("2", not_before=clock.after(0.2))])
    consumer.settle([Settlement(delivery, Disposition.DELAY, until=clock.after(0.1))])
    begun = clock.monotonic()
    assert names([*consumer.receive(1, 60), *consumer.receive(1, 60)]) == ["1", "2"]
    assert clock.monotonic() - begun < SOON


@only_postgres
def test_without_listen_a_timer_does(broker, alias, monkeypatch):
    """Behind a pooler that shares sessions nobody listens; messages come all the same."""
    monkeypatch.setitem(connections[alias].settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    doorbell = Doorbell()
    assert isinstance(wakeup_of(connections[alias], doorbell), Timer)
    doorbell.close()
    consumer = broker.consume(["default"], consumer_id="one")
    timer = in_thread(lambda: broker.publish([envelope("1")]), after=0.2)
    assert names(consumer.receive(1, 20)) == ["1"]
    timer.join()
    consumer.close()


def test_wake_from_a_signal_handler(consumer):
    """``wake`` may be called by a signal handler, in the middle of anything."""
    before = signal.signal(signal.SIGALRM, lambda *_: consumer.wake())
    try:
        for limit in (0, 5):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            begun = clock.monotonic()
            assert consumer.receive(limit, 60) == []
            assert clock.monotonic() - begun < SOON
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_waking_too_often_is_no_error():
    """However often it rings before anybody waits, one wait ends; and a closed one rings in vain."""
    doorbell = Doorbell()
    for _ in range(100_000):
        doorbell.ring()
    assert doorbell.wait(5)
    assert not doorbell.wait(0)
    doorbell.close()
    doorbell.ring()


@only_postgres
def test_closing_stops_listening(broker, alias):
    """A connection that goes back to a pool carries no subscription of ours."""
    consumer = broker.consume(["default"], consumer_id="one")
    with transaction.atomic(using=alias):
        # In a transaction the connection stays open when the consumer is closed.
        consumer.receive(1, 0)
        consumer.close()
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM pg_listening_channels()")
            assert cursor.fetchone()[0] == 0
