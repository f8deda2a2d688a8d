"""What tasks leave behind of database connections is tidied up before the next one."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, connections, transaction
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from django_tasks import shared_task
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.executor import Executor
from django_tasks.messages import TaskMessage
from django_tasks.models import Queue
from django_tasks.outcomes import Outcome
from django_tasks.worker import dbconnections
from django_tasks.worker.dbconnections import tidy_after_task
from django_tasks.worker.pools import AsyncioPool, Pool, SoloPool, ThreadsPool
from django_tasks.worker.scoreboard import Scoreboard

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


def in_a_slot(work: Callable[[], None]) -> None:
    """Run in a thread of its own, as in a pool; what it raises is raised here."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    if failures:
        raise failures[0]


def test_what_synchronous_code_of_coroutines_leaves_is_seen_from_their_thread(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that was begun by hand is found by who asks in another thread, on every database."""
    monkeypatch.setattr(dbconnections, "_of_coroutines", [])

    def begin() -> None:
        in_use.alias = alias
        _begin()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(dbconnections.tidy_after_coroutine).result(20)
        thread.submit(begin).result(20)
        assert dbconnections.coroutines_left_something()
        thread.submit(dbconnections.tidy_after_coroutine).result(20)
        assert not dbconnections.coroutines_left_something()
        thread.submit(connections.close_all).result(20)


@pytest.mark.parametrize("idle_before", [True, False], ids=["first-connection", "known-connection"])
def test_a_transaction_that_a_task_leaves_open_is_rolled_back(caplog: pytest.LogCaptureFixture, idle_before: bool) -> None:
    """Also when it is the slot's first task that uses the database, after others that did not."""

    def work() -> None:
        if idle_before:
            tidy_after_task()
        else:
            connection.ensure_connection()
            tidy_after_task()
        atomic = transaction.atomic()
        atomic.__enter__()
        assert connection.in_atomic_block
        tidy_after_task()
        assert not connection.in_atomic_block
        connection.ensure_connection()
        assert connection.get_autocommit()

    with caplog.at_level(logging.WARNING, "django_tasks.worker"):
        in_a_slot(work)
    assert ["left a transaction open" in text for text in caplog.messages] == [True]


def test_a_wrapper_that_a_task_lays_around_its_statements_ends_with_it(alias: str) -> None:
    """Also when the connection is opened inside: what listens to MySQL's statements must not be taken away in its place."""
    seen: list[str] = []

    def wrapper(execute: Any, sql: str, *more: Any) -> Any:
        seen.append(sql)
        return execute(sql, *more)

    def work() -> None:
        tidy_after_task()
        with connections[alias].execute_wrapper(wrapper):
            assert not Queue.objects.using(alias).exists()
        first = list(seen)
        assert first
        assert not Queue.objects.using(alias).exists()
        assert seen == first
        connections[alias].close()

    in_a_slot(work)


def test_a_lost_connection_without_autocommit_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to roll back any more, and the process of the pool runs on."""

    def work() -> None:
        def fail() -> None:
            raise OperationalError("server has gone away")

        tidy_after_task()
        monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
        connection.ensure_connection()
        monkeypatch.setattr(connections["default"], "rollback", fail)
        tidy_after_task()
        assert connection.connection is None

    in_a_slot(work)


def test_a_connection_that_is_opened_again_is_known() -> None:
    """Closed between two tasks and opened by the next: its leftovers are found all the same."""

    def work() -> None:
        for _ in range(2):
            connection.ensure_connection()
            transaction.set_autocommit(True)
            connection.needs_rollback = True
            tidy_after_task()
            assert not connection.needs_rollback
            connection.close()

    in_a_slot(work)


def _switch_off() -> None:
    connections[in_use.alias].set_autocommit(False)


def _begin() -> None:
    with connections[in_use.alias].cursor() as cursor:
        cursor.execute("BEGIN")


def _begin_and_commit() -> None:
    with connections[in_use.alias].cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("COMMIT")


in_use = threading.local()


@pytest.mark.parametrize(
    ("leave", "said"),
    [(_switch_off, "left autocommit off"), (_begin, "left a transaction open"), (_begin_and_commit, None), (lambda: None, None)],
    ids=["autocommit-off", "BEGIN", "committed", "nothing"],
)
def test_later_tasks_are_written_whatever_one_has_left(
    alias: str, caplog: pytest.LogCaptureFixture, leave: Callable[[], None], said: str | None
) -> None:
    """Autocommit that is off and a transaction that was begun by hand end with their task, which is named; both writes are then kept."""
    request = Request(message=TaskMessage(id="id-1", task="shop.careless"))

    def work() -> None:
        in_use.alias = alias
        tidy_after_task()
        Queue.objects.using(alias).create(name="before")
        leave()
        tidy_after_task(request)
        Queue.objects.using(alias).create(name="after")
        tidy_after_task()
        connections[alias].close()

    with caplog.at_level(logging.WARNING, "django_tasks.worker"):
        in_a_slot(work)
    assert set(Queue.objects.using(alias).values_list("name", flat=True)) == {"before", "after"}
    warned = [text for text in caplog.messages if "shop.careless[id-1]" in text]
    assert len(warned) == (said is not None)
    assert said is None or said in warned[0]


@pytest.mark.parametrize("pool", [SoloPool, ThreadsPool, AsyncioPool])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["function", "coroutine"])
def test_what_a_task_activates_ends_with_it(pool: type[Pool], asynchronous: bool) -> None:
    """Language, time zone, URLconf and script prefix, and autocommit, are for the next task as they were for this one."""
    seen: list[Any] = []

    def work() -> None:
        seen.append((translation.get_language(), timezone.get_current_timezone_name(), get_urlconf(), get_script_prefix()))
        connection.ensure_connection()
        seen.append(connection.get_autocommit())
        translation.activate("de")
        timezone.activate("Asia/Tokyo")
        set_urlconf("elsewhere.urls")
        set_script_prefix("/prefix/")
        transaction.set_autocommit(False)

    async def work_async() -> None:
        work_in_context()
        await sync_to_async(transaction.set_autocommit)(False)

    def work_in_context() -> None:
        seen.append((translation.get_language(), timezone.get_current_timezone_name(), get_urlconf(), get_script_prefix()))
        translation.activate("de")
        timezone.activate("Asia/Tokyo")
        set_urlconf("elsewhere.urls")

    task = shared_task(name=f"tests.activates.{pool.__name__}.{asynchronous}")(work_async if asynchronous else work)
    running = pool(Executor(follow=followups), Scoreboard(1, 1)[0])
    outcomes: list[Outcome] = []
    running.submit([Request(message=TaskMessage(id=f"id-{n}", task=task.name), definition=task) for n in range(3)])
    running.stop()
    in_a_slot(lambda: running.run(outcomes.append))
    assert [outcome.state for outcome in outcomes] == ["SUCCESS"] * 3
    assert len(set(seen)) == (1 if asynchronous else 2)
