"""What tasks leave behind of database connections is tidied up before the next one."""

import logging
import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from django_tasks.worker.dbconnections import tidy_after_task

pytestmark = pytest.mark.django_db(transaction=True)


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
