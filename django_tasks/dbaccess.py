"""The calling thread's database connection: what may be done with it, and what its errors mean to a user."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.db.transaction import TransactionManagementError

from django_tasks.exceptions import ImproperlyConfigured, OperationalError, ServerRefusedError
from django_tasks.urls import mask_alias

R = TypeVar("R")

#: MySQL's and MariaDB's «deadlock found», «lock wait timeout» and «record has changed since last read».
_TRANSIENT_CODES: Final = frozenset({1213, 1205, 1020})
_TRIES: Final = 6
#: Rows of one DELETE.
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a database goes on refusing until someone mends it: how each kind of database says so, and what mends it."""

    mend: str
    states: frozenset[str] = frozenset()  #: PostgreSQL's SQLSTATE
    codes: frozenset[int] = frozenset()  #: MySQL's and MariaDB's numbers
    words: tuple[str, ...] = ()  #: patterns of SQLite's texts, and of PostgreSQL's before there is a connection


#: How coroutines do what needs a database, by the first words of what is done.
_ASYNC_WAYS: Final = {
    **dict.fromkeys(("Publishing", "Opening", "Growing"), "adelay(...) or aapply_async(...), which take the same arguments,"),
    **dict.fromkeys(("Reading", "Waiting"), "the result itself, result.aget(), or sync_to_async(...) of what reads more than its value,"),
    "Revoking": "arevoke(...)",
}
#: The first that fits counts.
_REFUSALS: Final = (
    Refusal(
        "Run 'manage.py migrate' on it.",
        frozenset({"42P01", "42703", "3F000"}),
        frozenset({1054, 1109, 1146}),
        ("no such table", "no such column", "has no column named"),
    ),
    Refusal(
        "Correct USER and PASSWORD in DATABASES, or the user's rights on the server.",
        frozenset({"28000", "28P01", "42501"}),
        frozenset({1044, 1045, 1142, 1698}),
        ("password authentication failed", "no pg_hba.conf entry", "no password supplied", 'role "[^"]*" does not exist'),
    ),
    Refusal(
        "Create it, or correct its NAME in DATABASES.",
        frozenset({"3D000"}),
        frozenset({1049}),
        ("unable to open database file", "file is not a database", 'database "[^"]*" does not exist'),
    ),
)


def check_alias(alias: str) -> None:
    """Raise ImproperlyConfigured, naming the nearest one, for an alias that DATABASES doesn't have."""
    if alias not in connections:
        near = get_close_matches(alias, list(connections), n=1)
        hint = f"did you mean db://{near[0]}?" if near else f"there are {', '.join(connections)}"
        raise ImproperlyConfigured(f"db://{mask_alias(alias)}: DATABASES has no {mask_alias(alias)!r}; {hint}")


@contextmanager
def reaching(alias: str, doing: str) -> Iterator[BaseDatabaseWrapper]:
    """Give this thread's connection; what goes wrong with it is raised as OperationalError.

    A connection that broke is closed, so that the next call opens a new one; a healthy one is never touched, whatever
    its CONN_MAX_AGE: for other Django queues a connection a call costs three quarters of their speed.
    """
    connection = connections[alias]
    try:
        yield connection
    except SynchronousOnlyOperation as error:
        raise _for_async_code(doing) from error
    except TransactionManagementError:
        # The caller's transaction is already spoilt, which is no fault of the database.
        raise
    except (DatabaseError, InterfaceError) as error:
        close_if_broken(connection)
        kind = OperationalError if refusal_of(error) is None else ServerRefusedError
        raise kind(f"{doing} failed on the database {alias!r}: {in_words(error)}") from error


@contextmanager
def told_to_async_code(doing: str) -> Iterator[None]:
    """Raise Django's SynchronousOnlyOperation with the names of what a coroutine calls instead."""
    try:
        yield
    except SynchronousOnlyOperation as error:
        raise _for_async_code(doing) from error


def _for_async_code(doing: str) -> SynchronousOnlyOperation:
    ways = next((ways for words, ways in _ASYNC_WAYS.items() if doing.startswith(words)), "sync_to_async(...) of asgiref")
    return SynchronousOnlyOperation(f"{doing} is database work, which a coroutine can't wait for: await {ways} instead. Nothing was done.")


def close_if_broken(connection: BaseDatabaseWrapper) -> None:
    """Close the connection if it answers no more; inside a transaction that is left to the transaction's end."""
    if connection.in_atomic_block or connection.connection is None:
        return
    try:
        usable = connection.is_usable()
    except Exception:  # noqa: BLE001  a driver that can't even be asked is as good as broken
        usable = False
    if not usable:
        connection.close()


def close_broken() -> None:
    """Close those of this thread's connections that answer no more. For after a failure: it asks each server."""
    for connection in connections.all(initialized_only=True):
        close_if_broken(connection)


def trying_again(connection: BaseDatabaseWrapper, work: Callable[[], R]) -> R:
    """Do ``work`` again when MySQL gave it up for another's sake; inside the caller's transaction it can't be."""
    for left in reversed(range(_TRIES)):
        try:
            return work()
        except DatabaseError as error:
            if not left or connection.in_atomic_block or not has_code(error, _TRANSIENT_CODES):
                raise
    raise AssertionError("unreachable")


@contextmanager
def in_transaction(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """``transaction.atomic`` that leaves no broken connection behind: also where BEGIN and COMMIT are what fails.

    On MySQL and MariaDB BEGIN is the first that the server hears, so a connection that was closed while nobody used it (by KILL,
    or the limit on idle time) fails here, outside of what is done inside; it is opened anew, once. Django's errors pass unchanged.
    """
    connection = connections[alias]
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(transaction.atomic(using=alias))
            except (DatabaseError, InterfaceError):
                # Nothing has been done yet.
                close_if_broken(connection)
                stack.enter_context(transaction.atomic(using=alias))
            yield connection
    except (DatabaseError, InterfaceError):
        close_if_broken(connection)
        raise


def delete(rows: "QuerySet[Any]", limit: int) -> int:
    """Delete the first ``limit`` of these rows, in pieces that hold no lock for long; return how many.

    By primary key: a DELETE with a LIMIT is not everybody's, and one that looks for its rows waits, on MySQL, for each open
    transaction that has put one beside them.
    """
    keys = list(rows.values_list("pk", flat=True)[:limit]) if limit > 0 else []
    every = rows.model._default_manager.using(rows.db)  # noqa: SLF001  Django's documented name
    return sum(every.filter(pk__in=sorted(keys[start : start + _CHUNK])).delete()[0] for start in range(0, len(keys), _CHUNK))


def has_code(error: DatabaseError, codes: frozenset[int]) -> bool:
    """Whether MySQL or MariaDB gave the error one of these numbers."""
    return bool(error.args) and error.args[0] in codes


def refusal_of(error: BaseException) -> Refusal | None:
    """Return what the database refuses for good, or None: it may be away, busy or restarting, and is worth another try."""
    if not isinstance(error, DatabaseError | InterfaceError):
        return None
    state, code, text = getattr(error.__cause__, "sqlstate", None), error.args[0] if error.args else None, str(error)
    for refusal in _REFUSALS:
        if state in refusal.states or code in refusal.codes or any(re.search(words, text) for words in refusal.words):
            return refusal
    return None


def in_words(error: BaseException) -> str:
    """Say in one line what a database's error means and what mends it, without the statement that it was about."""
    # MySQL's errors are a number and a text.
    text = str(error.args[1] if len(error.args) > 1 and isinstance(error.args[0], int) else error).strip()
    lines = text.splitlines() or [type(error).__name__]
    # PostgreSQL shows the statement below; before there is a connection, each address that it tried.
    what = next((line for line in lines if "FATAL:" in line), lines[0]).rpartition("FATAL:")[2].strip().rstrip(".")
    refusal = refusal_of(error)
    if refusal is not None:
        return f"{what}. {refusal.mend}"
    if "locked" in what:
        return f"{what}. Another process holds the file's write lock; the database's OPTIONS['timeout'] says how long to wait for it."
    return f"{what}."
