"""The calling thread's database connection: how its errors are told, and which of them are a single row's fault."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from django_tasks.exceptions import OperationalError, SerializationError

R = TypeVar("R")

#: MySQL's and MariaDB's «deadlock found», «lock wait timeout» and «record has changed since last read».
_TRANSIENT_CODES: Final = frozenset({1213, 1205, 1020})
_TRIES: Final = 6
#: MySQL's «out of range», «wrong string», «too long», and its two ways to say that a packet is too large: errors of a value.
_VALUE_CODES: Final = frozenset({1264, 1366, 1406, 1153, 2020})


@contextmanager
def reaching(alias: str, doing: str) -> Iterator[BaseDatabaseWrapper]:
    """Give this thread's connection; what goes wrong with it is raised as OperationalError.

    A connection that broke is closed, so that the next call opens a new one; a healthy one is never touched.
    """
    connection = connections[alias]
    try:
        yield connection
    except TransactionManagementError:
        # The caller's transaction is already spoilt, which is no fault of the database.
        raise
    except (DatabaseError, InterfaceError) as error:
        close_if_broken(connection)
        text = str(error).strip() or type(error).__name__
        raise OperationalError(f"{doing} failed on the database {alias!r}: {text}.{_hint(text)}") from error


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


def trying_again(connection: BaseDatabaseWrapper, work: Callable[[], R]) -> R:
    """Do ``work`` again when MySQL gave it up for another's sake; inside the caller's transaction it can't be."""
    for left in reversed(range(_TRIES)):
        try:
            return work()
        except DatabaseError as error:
            if not left or connection.in_atomic_block or not _has_code(error, _TRANSIENT_CODES):
                raise
    raise AssertionError("unreachable")


def is_a_values_fault(error: Exception) -> bool:
    """Whether the database, or its driver, refused a value: others in the same batch may be fine."""
    if isinstance(error, DatabaseError):
        return isinstance(error, DataError | IntegrityError) or _has_code(error, _VALUE_CODES)
    return isinstance(error, TypeError | ValueError | OverflowError | SerializationError)


def hides_news(connection: BaseDatabaseWrapper) -> bool:
    """Whether this connection is in a transaction that will never see what others commit."""
    if not connection.in_atomic_block:
        return False
    if connection.vendor == "sqlite":
        return True
    level = getattr(connection, "isolation_level", None)
    if level is None:
        # Of MySQL, Django says None for «the server's default», which is REPEATABLE READ.
        return connection.vendor == "mysql"
    name = str(getattr(level, "name", level)).lower().replace("_", " ")
    return name in {"repeatable read", "serializable"}


def _has_code(error: DatabaseError, codes: frozenset[int]) -> bool:
    return bool(error.args) and error.args[0] in codes


def _hint(text: str) -> str:
    if any(words in text for words in ("no such table", "doesn't exist", "does not exist")):
        return " Has 'manage.py migrate' been run on it?"
    if "locked" in text:
        return " Another process holds the file's write lock; the database's OPTIONS['timeout'] says how long to wait for it."
    return ""
