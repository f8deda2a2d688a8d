"""The database broker beyond the contract: transactions, lost connections, locks, plans of the planner, odd rows."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection as default_connection
from django.db import connections, transaction

from django_tasks import clock
from django_tasks.brokers.database import DatabaseBroker
from django_tasks.brokers.database.claims import dialect_of
from django_tasks.brokers.database.wakeup import Doorbell, Timer, wakeup_of
from django_tasks.exceptions import EncodeError, ImproperlyConfigured, OperationalError
from django_tasks.messages import Disposition, Settlement
from django_tasks.models import Message, MessageState
from django_tasks.testing.broker_probes import envelope, names, settled

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])

only_postgres = pytest.mark.parametrize("alias", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
only_sqlite = pytest.mark.parametrize("alias", ["default"], indirect=True)
servers = pytest.mark.parametrize(
    "alias", [pytest.param("postgres", marks=pytest.mark.postgres), pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)


@pytest.fixture
def broker(alias: str) -> DatabaseBroker:
    return DatabaseBroker(alias)


@pytest.fixture
def consumer(broker: DatabaseBroker) -> Iterator[Any]:
    consumer = broker.consume(["default"], consumer_id="one")
    yield consumer
    consumer.close()


def in_thread(work: Callable[[], None], after: float = 0.0) -> threading.Timer:
    """Run work in a thread of its own, with connections of its own."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    timer = threading.Timer(after, run)
    timer.start()
    return timer


@contextmanager
def statements(alias: str) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements, and their parameters, that go through Django's cursors."""
    seen: list[tuple[str, Any]] = []

    def note(execute, sql, params, many, context):
        seen.append((sql, params))
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(note):
        yield seen


def kill(alias: str) -> None:
    """Cut this thread's connection off at the server, from another connection."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if alias == "postgres" else "SELECT CONNECTION_ID()")
        number = cursor.fetchone()[0]

    def work() -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute(f"SELECT pg_terminate_backend({number})" if alias == "postgres" else f"KILL {number}")

    in_thread(work).join()


# -- publishing


def test_the_row_of_a_message(broker, alias):
    """A row holds what people look for in columns of its own, and only the headers that say something."""
    broker.publish([envelope("1", priority=-100), envelope("2", queue="q", priority=255, not_before=clock.after(60))])
    now, later = Message.objects.using(alias).order_by("id")
    assert (now.state, now.until, now.priority, now.deliveries, now.claimed_by) == (MessageState.READY, None, -100, 0, None)
    assert (now.task_id, now.task, bytes(now.body)) == ("1", "contract.task", b"1")
    assert now.headers == '{"id":"1","task":"contract.task","retries":0}'
    assert (later.state, later.queue, later.priority) == (MessageState.DELAYED, "q", 255)
    assert abs((later.until - clock.after(60)).total_seconds()) < 5
    assert abs((now.created_at - clock.now()).total_seconds()) < 5


@pytest.mark.parametrize("count", [1, 5, 700])
def test_all_or_none(broker, alias, count):
    """A batch of any size is published whole, in the caller's transaction or in one of its own, or not at all."""
    good = [envelope(str(number)) for number in range(count)]
    with pytest.raises(OperationalError, match="priority 256"):
        broker.publish([*good, envelope("bad", priority=256)])
    assert Message.objects.using(alias).count() == 0
    with transaction.atomic(using=alias):
        broker.publish(good)
        assert in_another_thread(alias) == 0
    assert in_another_thread(alias) == count


def in_another_thread(alias: str) -> int:
    """Count the messages that other connections see."""
    seen: list[int] = []
    in_thread(lambda: seen.append(Message.objects.using(alias).count())).join()
    return seen[0]


@servers
def test_a_refused_batch_leaves_nothing(broker, alias):
    """What the database itself refuses in the middle of a batch takes the whole batch with it."""
    with pytest.raises(OperationalError, match="Publishing 701 message"):
        broker.publish([*(envelope(str(number)) for number in range(700)), envelope("bad", queue="x" * 256)])
    assert Message.objects.using(alias).count() == 0


def test_headers_keep_what_json_has_no_word_for(broker, consumer):
    """Times and other values that our JSON knows survive as headers; what it doesn't know is refused at the caller."""
    moment = clock.now()
    broker.publish([envelope(headers={"id": "1", "task": "t", "at": moment}), envelope("2")])
    received = consumer.receive(2, 5)
    assert received[0].envelope.headers["at"] == moment
    assert names(received) == ["1", "2"]
    with pytest.raises(EncodeError):
        broker.publish([envelope(headers={"id": "1", "task": "t", "odd": object()})])


def test_a_broken_row_is_delivered(broker, alias, consumer):
    """A row whose headers somebody destroyed comes out, without headers, and holds up nobody else's."""
    broker.publish([envelope("1"), envelope("2"), envelope("3")])
    rows = Message.objects.using(alias)
    rows.filter(task_id="1").update(headers='{"id"')
    rows.filter(task_id="2").update(headers='1], {"id": 2}')
    received = consumer.receive(5, 5)
    assert [delivery.envelope.headers.get("id") for delivery in received] == [None, None, "3"]
    assert [delivery.envelope.body for delivery in received] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("use_tz", [True, False])
def test_any_time_zone(broker, alias, settings, use_tz):
    """Times are UTC in the table, whatever the project's time zone and USE_TZ."""
    settings.TIME_ZONE, settings.USE_TZ = "Asia/Kolkata", use_tz
    consumer = broker.consume(["default"], consumer_id="one")
    try:
        broker.publish([envelope("1"), envelope("2", not_before=clock.after(0.2)), envelope("3", not_before=clock.after(600))])
        assert names(consumer.receive(5, 0)) == ["1"]
        assert names(consumer.receive(5, 5)) == ["2"]
        assert consumer.receive(5, 0.3) == []
        assert broker.recover(clock.after(30), limit=5) == 0
        assert broker.recover(clock.after(90), limit=5) == 2
    finally:
        consumer.close()


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
def test_a_lost_connection_is_one_error(broker, alias, consumer):
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
    assert names(consumer.receive(1, 20)) == ["2"]
    assert clock.monotonic() - begun < 0.9
    timer.join()


@only_postgres
def test_cut_while_waiting(broker, alias, consumer):
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
        consumer.receive(1, 20)
    assert clock.monotonic() - begun < 0.9
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


# -- claims, settlements and other transactions


def test_settling_is_part_of_the_open_transaction(broker, alias, consumer):
    """Results and settlements stand or fall together: a rolled back settlement has not happened."""
    broker.publish([envelope("1"), envelope("2")])
    first, second = consumer.receive(2, 5)
    with transaction.atomic(using=alias):
        consumer.settle([Settlement(first, Disposition.ACK), Settlement(second, Disposition.REQUEUE)])
        transaction.set_rollback(True, using=alias)
    assert consumer.receive(2, 0) == []
    assert set(Message.objects.using(alias).values_list("claimed_by", "deliveries")) == {("one", 1)}
    with transaction.atomic(using=alias):
        consumer.settle([Settlement(first, Disposition.ACK), Settlement(second, Disposition.REQUEUE)])
    assert [(name, one.deliveries) for one in consumer.receive(2, 5) for name in names([one])] == [("2", 2)]


@servers
def test_locked_rows_hold_up_nobody(broker, alias):
    """Rows in another's hands are passed over, also when they are all the best of several queues."""
    queues = ["a", "b"]
    broker.publish([envelope(str(number), queue=queues[number % 2]) for number in range(200)])
    locked, done = threading.Event(), threading.Event()

    def lock() -> None:
        with transaction.atomic(using=alias):
            best = Message.objects.using(alias).filter(
                pk__in=list(Message.objects.using(alias).order_by("pk").values_list("pk", flat=True)[:100])
            )
            assert len(best.select_for_update()) == 100
            locked.set()
            done.wait(30)

    thread = in_thread(lock)
    assert locked.wait(30)
    try:
        for names_of_queues, expected in ((queues, ["100"]), (["a"], ["102"])):
            consumer = broker.consume(names_of_queues, consumer_id="one")
            assert names(consumer.receive(1, 0)) == expected
            consumer.close()
        assert broker.promote(clock.after(1000), limit=10) == 0
    finally:
        done.set()
        thread.join()


def test_a_busy_table(broker, alias):
    """Publishing, claiming, delaying, recovering and settling at once lose nothing and double nothing."""
    wanted = {str(number) for number in range(400)}
    seen: list[str] = []
    errors: list[BaseException] = []
    finished = threading.Event()

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
                finished.set()

        return run

    def publish() -> None:
        for number in range(0, 400, 20):
            broker.publish(
                [envelope(str(one), priority=one % 3, not_before=clock.after(0.01 * (one % 5))) for one in range(number, number + 20)]
            )

    def consume() -> None:
        consumer = broker.consume(["default", "other"], consumer_id=f"busy-{threading.get_ident()}")
        while not finished.is_set():
            got = consumer.receive(7, 0.05)
            again = [one for one in got if one.deliveries == 1 and int(one.envelope.headers["id"]) % 4 == 0]
            done = [one for one in got if one not in again]
            consumer.settle([*settled(again, Disposition.DELAY, until=clock.after(0.02)), *settled(done, Disposition.ACK)])
            seen.extend(names(done))
            if len(seen) >= 400:
                finished.set()
        consumer.close()

    def maintain() -> None:
        while not finished.wait(0.01):
            broker.promote(clock.now(), limit=50)
            broker.recover(clock.now(), limit=50)

    threads = [in_thread(guarded(work)) for work in (publish, consume, consume, consume, maintain)]
    finished.wait(60)
    finished.set()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert sorted(seen) == sorted(wanted)
    assert broker.size("default") == 0


@only_sqlite
def test_an_idle_look_takes_no_write_lock(broker, alias, consumer):
    """While another process writes, a consumer that finds nothing waits for no lock."""
    broker.publish([envelope("later", not_before=clock.after(60))])
    locked, done = threading.Event(), threading.Event()

    def write() -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            locked.set()
            done.wait(30)
            cursor.execute("ROLLBACK")

    thread = in_thread(write)
    assert locked.wait(30)
    try:
        begun = clock.monotonic()
        assert consumer.receive(10, 0) == []
        assert broker.promote(clock.now(), limit=5) == broker.recover(clock.now(), limit=5) == 0
        assert clock.monotonic() - begun < 1
        with connections[alias].cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 20")
        with pytest.raises(OperationalError, match="write lock"):
            broker.publish([envelope("1")])
    finally:
        done.set()
        thread.join()
    broker.publish([envelope("1")])
    assert names(consumer.receive(10, 5)) == ["1"]


# -- plans


def plan_of(alias: str, queues: list[str]) -> str:
    """Explain the statement that claims."""
    consumer = DatabaseBroker(alias).consume(queues, consumer_id="one")
    with statements(alias) as seen:
        consumer.receive(10, 0)
    consumer.close()
    sql, params = next((sql, params) for sql, params in seen if sql.startswith("UPDATE"))
    explain = "EXPLAIN QUERY PLAN " if alias == "default" else "EXPLAIN "
    with connections[alias].cursor() as cursor:
        cursor.execute(explain + sql, params)
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


@only_postgres
@pytest.mark.parametrize("queues", [["a"], ["a", "b"]])
def test_old_statistics_do_not_mislead(broker, alias, queues):
    """With statistics from a time when all was delayed, ready messages are still read in the index's order, not sorted."""
    broker.publish([envelope(str(number), queue="a", not_before=clock.after(3600)) for number in range(3000)])
    with connections[alias].cursor() as cursor:
        cursor.execute(f"ANALYZE {Message._meta.db_table}")
    broker.publish([envelope(str(number), queue="ab"[number % 2]) for number in range(6000)])
    plan = plan_of(alias, queues)
    assert "django_tasks_message_next" in plan
    assert "Seq Scan" not in plan
    assert "django_tasks_message_due" not in plan
    if len(queues) == 1:
        assert "Sort" not in plan
    else:
        assert "Merge Append" in plan


@only_sqlite
@pytest.mark.parametrize("queues", [["a"], ["a", "b"]])
def test_sqlite_reads_in_order(broker, alias, queues):
    """SQLite finds the best messages along the index; of several queues it only sorts the fronts."""
    broker.publish([envelope(str(number), queue="ab"[number % 2]) for number in range(50)])
    plan = plan_of(alias, queues)
    assert "django_tasks_message_next" in plan
    assert plan.count("TEMP B-TREE FOR ORDER BY") == (0 if len(queues) == 1 else 1)


# -- waking up


def test_a_commit_ends_the_wait(broker, alias, consumer):
    """A message reaches an idle consumer soon after its transaction commits, and not before."""
    committed: list[float] = []

    def publish() -> None:
        with transaction.atomic(using=alias):
            broker.publish([envelope("1")])
            threading.Event().wait(0.3)
        committed.append(clock.monotonic())

    timer = in_thread(publish, after=0.1)
    (delivery,) = consumer.receive(1, 20)
    received = clock.monotonic()
    timer.join()
    assert delivery.envelope.body == b"1"
    assert -0.1 < received - committed[0] < 0.5


def test_own_messages_are_seen(broker, consumer):
    """What the consumer's own thread published or delayed a moment ago is received on time, though nothing wakes it."""
    broker.publish([envelope("1")])
    (delivery,) = consumer.receive(1, 5)
    broker.publish([envelope("2", not_before=clock.after(0.2))])
    consumer.settle([Settlement(delivery, Disposition.DELAY, until=clock.after(0.1))])
    begun = clock.monotonic()
    assert names([*consumer.receive(1, 5), *consumer.receive(1, 5)]) == ["1", "2"]
    assert 0.15 < clock.monotonic() - begun < 0.5


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
            assert consumer.receive(limit, 30) == []
            assert clock.monotonic() - begun < 5
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


# -- names


def test_unknown_alias():
    """A URL that names a database which the project doesn't have is refused, with the nearest name."""
    with pytest.raises(ImproperlyConfigured, match="did you mean db://default"):
        DatabaseBroker("defualt")


def test_purge_of_many(broker, alias, monkeypatch):
    """A purge works in portions until nothing is left."""
    monkeypatch.setattr("django_tasks.brokers.database.broker._PURGED_AT_ONCE", 40)
    broker.publish([envelope(str(number), not_before=clock.after(60) if number % 2 else None) for number in range(170)])
    broker.publish([envelope("other", queue="other")])
    assert broker.purge("default") == 170
    assert Message.objects.using(alias).count() == 1
