"""Which databases, threads with connections of their own, and what goes over them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections

only_postgres = pytest.mark.parametrize("alias", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)


only_sqlite = pytest.mark.parametrize("alias", ["default"], indirect=True)


servers = pytest.mark.parametrize(
    "alias", [pytest.param("postgres", marks=pytest.mark.postgres), pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)


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
