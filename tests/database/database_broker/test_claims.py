"""Claims and settlements beside other transactions, and the plans of the planner for them."""

import threading
from collections.abc import Callable

import pytest
from django.db import connections, transaction

from django_tasks import clock
from django_tasks.brokers.database import DatabaseBroker
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Disposition, Settlement
from django_tasks.models import Message
from django_tasks.testing.broker_probes import envelope, names, settled
from tests.database.database_broker.sessions import in_thread, only_postgres, only_sqlite, servers, statements
from tests.processes import SOON

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


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
        with connections[alias].cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 60000")
        begun = clock.monotonic()
        assert consumer.receive(10, 0) == []
        assert broker.promote(clock.now(), limit=5) == broker.recover(clock.now(), limit=5) == 0
        assert clock.monotonic() - begun < SOON
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
