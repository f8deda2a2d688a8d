"""What tasks leave behind of database connections.

Django closes connections at the end of a web request; a worker has none. Closing them after every task, as
``CONN_MAX_AGE = 0`` taken literally would have it, costs a short task most of its time. So a slot keeps its connections
while it has work, lets go of those past their age once it idles, and renews them every minute all the same.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_tasks.context import Request

logger = logging.getLogger("django_tasks.worker")

#: Seconds after which connections past their age are closed even if work never pauses.
LONGEST_USE: Final = 60.0

_slot = threading.local()
#: The connections of the thread in which coroutines run synchronous code, once it is known.
_of_coroutines: list[dict[str, BaseDatabaseWrapper]] = []


def tidy_after_task(request: Request | None = None) -> None:
    """Make sure that the next task finds working connections, in autocommit, and none of this task's transactions.

    What ``request`` left open is rolled back, and the log names it.
    """
    known: dict[str, BaseDatabaseWrapper] | None = getattr(_slot, "known", None)
    if known is None:
        # Once a thread; from then on Django tells. Asking it for its connections costs as much as running a short task.
        known = _slot.known = {connection.alias: connection for connection in connections.all(initialized_only=True)}
        for connection in known.values():
            _listen(connection)
    if not known:
        return
    for connection in known.values():
        if (fault := _fault(connection)) is not None:
            _restore(connection, fault, request)
        elif connection.connection is None:
            continue
        elif connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
        elif not connection.autocommit:
            _end_transaction(connection)
    now = time.monotonic()
    since = getattr(_slot, "since", None)
    if since is None:
        _slot.since = now
    elif now - since > LONGEST_USE:
        tidy_after_idling()


def coroutines_left_something() -> bool:
    """Whether the thread in which coroutines run synchronous code has to be tidied: seen from any thread, without going there."""
    if not _of_coroutines:
        return True
    try:
        return any(_fault(connection) is not None or connection.errors_occurred for connection in _of_coroutines[-1].values())
    except Exception:  # noqa: BLE001  they change meanwhile, in their own thread: it will see
        return True


def tidy_after_coroutine(request: Request | None = None) -> None:
    """Do the same in the thread in which coroutines run synchronous code."""
    tidy_after_task(request)
    if not _of_coroutines or _of_coroutines[-1] is not _slot.known:
        _of_coroutines[:] = [_slot.known]


def _end_transaction(connection: BaseDatabaseWrapper) -> None:
    try:
        connection.rollback()
    except (DatabaseError, InterfaceError):
        # The server has closed it, and the transaction with it.
        connection.close()


def _fault(connection: BaseDatabaseWrapper) -> str | None:
    """Say what must not reach the next task; None where the connection is as a task finds it."""
    raw = connection.connection
    if raw is None:
        return None
    if connection.in_atomic_block or connection.needs_rollback:
        return "left a transaction open"
    wanted = connection.settings_dict["AUTOCOMMIT"]
    if connection.autocommit != wanted:
        return "left autocommit " + ("off" if wanted else "on")
    if not wanted:
        # The project commits by itself, and whatever reads leaves a transaction open.
        return None
    return _LOOKS.get(connection.vendor, _nothing_is_known)(raw, connection)


def _look_at_sqlite(raw: Any, connection: BaseDatabaseWrapper) -> str | None:
    return "left a transaction open" if raw.in_transaction else None


def _look_at_postgresql(raw: Any, connection: BaseDatabaseWrapper) -> str | None:
    # Psycopg 3; in psycopg2 the connection itself has this. Neither asks the server. 0: idle, 4: the connection is broken.
    status = raw.pgconn.transaction_status if hasattr(raw, "pgconn") else raw.info.transaction_status
    if status not in {0, 4}:
        return "left a transaction open"
    return "left autocommit off" if connection.autocommit and not raw.autocommit else None


def _look_at_mysql(raw: Any, connection: BaseDatabaseWrapper) -> str | None:
    if vars(connection).get(_BEGUN):
        return "left a transaction open"
    switched_off = connection.autocommit and hasattr(raw, "get_autocommit") and not raw.get_autocommit()
    return "left autocommit off" if switched_off else None


def _nothing_is_known(raw: Any, connection: BaseDatabaseWrapper) -> str | None:
    return "left a transaction open" if getattr(raw, "transaction_in_progress", False) else None


_LOOKS: Final = {"sqlite": _look_at_sqlite, "postgresql": _look_at_postgresql, "mysql": _look_at_mysql}


def _restore(connection: BaseDatabaseWrapper, fault: str, request: Request | None) -> None:
    who = "A task" if request is None else f"Task {request.message.task}[{request.message.id}]"
    logger.warning("%s %s on the database %r: what it had not committed was rolled back", who, fault, connection.alias)
    # First: closed inside a block, a connection would never be opened again. A new one is in the state that settings say.
    connection.in_atomic_block = False
    connection.close()
    connection.needs_rollback = False
    connection.savepoint_ids = []
    connection.atomic_blocks = []


# ---- MySQL's driver does not tell whether a transaction is open

_BEGINS: Final = re.compile(r"\s*(?:begin|start\s+transaction|xa\s+(?:start|begin))\b", re.IGNORECASE)
_ENDS: Final = re.compile(r"\s*(?:commit|rollback(?!\s+(?:work\s+)?to\b))", re.IGNORECASE)
#: First letters of most statements that Django makes; those of SELECT and SAVEPOINT are START's, too.
_HARMLESS: Final = frozenset("IUD")

#: Attribute of a connection on which a statement has begun a transaction: others than its own thread ask for it, too.
_BEGUN: Final = "_django_tasks_begun"


def _listen(connection: BaseDatabaseWrapper) -> None:
    if connection.vendor == "mysql" and _hear not in connection.execute_wrappers:
        # In front of those that are there: a ``with connection.execute_wrapper(...)`` takes away the last one at its end.
        connection.execute_wrappers.insert(0, _hear)


def _hear(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    if sql[:1] not in _HARMLESS:
        state = vars(context["connection"])
        if _BEGINS.match(sql):
            state[_BEGUN] = True
        elif _BEGUN in state and _ENDS.match(sql):
            del state[_BEGUN]
    return execute(sql, params, many, context)


def _note(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    # Called in the thread that connects.
    vars(connection).pop(_BEGUN, None)
    known: dict[str, BaseDatabaseWrapper] | None = getattr(_slot, "known", None)
    if known is not None:
        known[connection.alias] = connection
        _listen(connection)


connection_created.connect(_note, dispatch_uid="django_tasks.worker.dbconnections")


def tidy_after_idling() -> None:
    """Close connections that are past CONN_MAX_AGE or broken."""
    _slot.since = None
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
