"""What a database's errors and transactions mean for results."""

from typing import Final

from django.db import DatabaseError, DataError, IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks.dbaccess import has_code
from django_tasks.exceptions import SerializationError

#: MySQL's «out of range», «wrong string», «too long», and its two ways to say that a packet is too large: errors of a value.
_VALUE_CODES: Final = frozenset({1264, 1366, 1406, 1153, 2020})


def is_a_values_fault(error: Exception) -> bool:
    """Whether the database, or its driver, refused a value: others in the same batch may be fine."""
    if isinstance(error, DatabaseError):
        return isinstance(error, DataError | IntegrityError) or has_code(error, _VALUE_CODES)
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
