"""Two that revoke the same tasks at the same time, on every database."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import connections, transaction

from django_tasks.models import Revocation
from django_tasks.result import revoke_tasks
from django_tasks.result_backends.memory import MemoryResultBackend

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])

#: Seconds after which one of the two goes on without the other, which waits for it in the database.
PATIENCE = 0.5


@pytest.fixture(autouse=True)
def _everything_in(alias: str, settings: Any) -> None:
    """Keep the rows in the database of the test."""

    class Router:
        def db_for_read(self, model: Any, **hints: Any) -> str:
            return alias

        db_for_write = db_for_read

    settings.DATABASE_ROUTERS = [Router()]


class Meeting:
    """Lets two threads go on to their second statement together, if the database lets both do the first."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._gate = threading.Barrier(2)
        self.errors: list[Exception] = []

    def revoke(self, *task_ids: str, by: str) -> None:
        """Revoke, in a thread of its own."""
        met: list[bool] = []

        def meet(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
            result = execute(sql, params, many, context)
            if not met and Revocation._meta.db_table in sql:
                met.append(True)
                with suppress(threading.BrokenBarrierError):
                    self._gate.wait(PATIENCE)
            return result

        try:
            with connections[self._alias].execute_wrapper(meet):
                revoke_tasks(task_ids, by=by, backend=MemoryResultBackend("revoking"))
        except Exception as error:
            self.errors.append(error)
        finally:
            connections.close_all()


@pytest.fixture
def meeting(alias: str) -> Iterator[Meeting]:
    return Meeting(alias)


@pytest.mark.parametrize("before", [(), ("b", "a")])
def test_both_succeed(alias: str, meeting: Meeting, before: tuple[str, ...]) -> None:
    """Whatever the order of their ids, and whether they were revoked before: nobody gets an error, and each task has one row, a new one."""
    revoke_tasks(before, backend=MemoryResultBackend("revoking"))
    old = max(Revocation.objects.values_list("id", flat=True), default=0)
    threads = [
        threading.Thread(target=meeting.revoke, args=task_ids, kwargs={"by": task_ids[0]})
        for task_ids in (("a", "b", "c"), ("c", "b", "a"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert meeting.errors == []
    rows = list(Revocation.objects.order_by("id").values_list("id", "task_id", "revoked_by"))
    assert sorted(row[1] for row in rows) == ["a", "b", "c"]
    assert len({row[2] for row in rows}) == 1
    assert min(row[0] for row in rows) > old


def test_in_transactions_of_their_own(alias: str, meeting: Meeting) -> None:
    """One that revokes in a transaction makes the other one wait for its end, and fail at nothing."""
    second = threading.Thread(target=meeting.revoke, args=("a",), kwargs={"by": "second"})
    with transaction.atomic(using=alias):
        revoke_tasks(["a"], by="first", backend=MemoryResultBackend("revoking"))
        second.start()
        second.join(PATIENCE)
    second.join(30)
    assert meeting.errors == []
    assert Revocation.objects.get().revoked_by == "second"
