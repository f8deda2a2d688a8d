"""A worker in a thread of the test."""

import logging
import sqlite3
import threading
import time

import pytest
from django.db import connections
from django.db.backends.signals import connection_created
from django.test import override_settings

from django_tasks import app, group, shared_task
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.models import TaskResult
from django_tasks.testing import in_memory, start_worker, travel, worker
from tests.sampleapp.models import Effect
from tests.sampleapp.tasks import add, fail, flaky, nap, record, record_async

ALIASES = ["default", "postgres", "mysql"]


@shared_task(queue="reports")
def report():
    """Lie in a queue of its own."""
    return "report"


def ours():
    return {
        thread.name for thread in threading.enumerate() if thread.name.startswith("django_tasks-") and thread.name != "django_tasks-loop"
    }


def wait_until_busy(running):
    deadline = time.monotonic() + 10
    while not running._child.pool.running():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("pool", "slots"), [("solo", 1), ("threads", 3), ("asyncio", 3)])
def test_a_worker_on_a_queue_in_memory_needs_no_database(pool, slots):
    """Tasks run in every pool, in whatever queue they name; then no thread is left."""
    with in_memory(), worker(pool=pool, concurrency=slots) as running:
        assert running.is_alive()
        assert group(add.s(number, 1) for number in range(5)).delay().get(timeout=50) == [1, 2, 3, 4, 5]
        assert report.delay().get(timeout=50) == "report"
        with pytest.raises(ValueError, match="broken"):
            fail.delay().get(timeout=50)
    assert not running.is_alive()
    assert ours() == set()


def test_queues_are_named_as_for_runworker():
    """Names come as a list or with commas; what is excluded isn't read, and something must be left."""
    with in_memory():
        with worker("a,b, c", exclude_queues="b") as running:
            assert running.queues == ("a", "c")
            left = add.apply_async((1, 2), queue="b")
            assert add.apply_async((1, 2), queue="c").get(timeout=50) == 3
        assert left.state == "PENDING"
        with pytest.raises(ImproperlyConfigured, match="no queue is left"), worker(["a"], exclude_queues=["a"]):
            pass


@pytest.mark.parametrize(("concurrency", "pool"), [(1, "solo"), (2, "threads")])
def test_celerys_start_worker(concurrency, pool):
    """Celery's name and arguments start a worker; processes become threads, and what has no counterpart is passed over."""
    with (
        in_memory(),
        start_worker(app, concurrency, "prefork", loglevel="INFO", perform_ping_check=False, hostname="w@h", shutdown_timeout=5) as running,
    ):
        assert (running.hostname, running._options.pool, running._options.slots) == ("w@h", pool, concurrency)
        result = add.delay(1, 2)
        assert (result.get(timeout=50), result.worker) == (3, "w@h")


def test_a_worker_takes_part_in_time_travel():
    """What is delayed is received when the journey comes to its time."""
    with travel() as journey, in_memory(), worker():
        result = add.apply_async((1, 2), countdown=3600)
        journey.by(hours=1, seconds=1)
        assert result.get(timeout=50) == 3


@pytest.mark.parametrize("pool", ["solo", "threads", "asyncio"])
@pytest.mark.django_db(transaction=True, databases=ALIASES)
def test_a_worker_on_the_database_broker(alias, pool):
    """Messages, results and rows in the test's database; afterwards no thread and no connection of one is left."""
    opened = []

    def note(*, connection, **_):
        opened.append(connection)

    from django.db.backends.signals import connection_created

    connection_created.connect(note)
    with override_settings(DJANGO_TASKS={"BROKER_URL": f"db://{alias}", "RESULT_BACKEND": f"db://{alias}"}):
        with worker(pool=pool, concurrency=2):
            results = [record.delay("one"), flaky.delay("two", 2), record_async.delay("three")]
            assert [result.get(timeout=20) for result in results] == ["one", 2, "three"]
        assert TaskResult.objects.using(alias).filter(status="SUCCESS").count() == 3
    connection_created.disconnect(note)
    assert Effect.objects.count() == 5
    mine = [connections[name] for name in connections]
    assert [one for one in opened if one.connection is not None and all(one is not other for other in mine)] == []
    assert ours() == set()


@pytest.mark.django_db(transaction=True)
def test_what_runs_is_finished_and_the_rest_given_back():
    """The end of the block is a warm shutdown."""
    with in_memory() as queue:
        with worker() as running:
            first, second = nap.delay(0.5, "first"), nap.delay(0.5, "second")
            wait_until_busy(running)
        assert (first.state, second.state) == ("SUCCESS", "PENDING")
        assert [one.id for one in queue.pending()] == [second.id]
    assert [effect.key for effect in Effect.objects.all()] == ["first"]


def test_a_task_that_runs_on_is_named():
    """A worker that can't stop in time says what runs, and leaves nothing behind in the process but its threads."""
    release = threading.Event()
    before = logging.getLogRecordFactory(), len(connection_created.receivers)
    stuck = shared_task(name="tests.hold")(release.wait)
    try:
        with in_memory():
            opened = worker()
            running = opened.__enter__()
            stuck.delay()
            wait_until_busy(running)
            with pytest.raises(RuntimeError, match=r"runs on after 0\.2 s, with tests\.hold"):
                running.stop(0.2)
            after = logging.getLogRecordFactory(), len(connection_created.receivers)
            release.set()
            opened.__exit__(None, None, None)
    finally:
        from django_tasks.registry import registry

        registry.unregister("tests.hold")
    assert after == before
    assert ours() == set()


@pytest.mark.django_db
def test_inside_a_transaction_the_database_broker_is_refused():
    """Where the worker would see nothing, it says what to use."""
    with pytest.raises(ImproperlyConfigured, match="transactional_db"), worker():
        pass


def test_other_pools_are_refused():
    """Processes are no threads."""
    with pytest.raises(ImproperlyConfigured, match="there are solo, threads, asyncio"), in_memory(), worker(pool="prefork"):
        pass


@pytest.mark.django_db(transaction=True)
def test_a_test_database_in_memory_is_shared_with_the_solo_pool(monkeypatch):
    """A task sees the rows of a SQLite database that lies in memory; the database broker there is refused."""
    connection = connections["default"]
    connection.ensure_connection()
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: True)
    monkeypatch.setattr(connection, "close", lambda: None)
    assert isinstance(connection.connection, sqlite3.Connection)
    with pytest.raises(ImproperlyConfigured, match="lies in memory"), worker():
        pass
    seen = []

    with in_memory(), worker():

        @shared_task
        def look():
            seen.append(connections["default"])

        look.delay().get(timeout=50)
    assert seen == [connection]
    assert not connection.allow_thread_sharing
