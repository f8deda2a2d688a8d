"""What tasks leave behind of database connections.

Django closes connections at the end of a web request; a worker has none. Closing them after every task, as
``CONN_MAX_AGE = 0`` taken literally would have it, costs a short task most of its time. So a slot keeps its connections
while it has work, lets go of those past their age once it idles, and renews them every minute all the same.
"""

import logging
import threading
import time
from typing import Any, Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

logger = logging.getLogger("django_tasks.worker")

#: Seconds after which connections past their age are closed even if work never pauses.
LONGEST_USE: Final = 60.0

_slot = threading.local()


def tidy_after_task() -> None:
    """Make sure that the next task finds working connections, in autocommit, and none of this task's transactions."""
    known: dict[str, BaseDatabaseWrapper] | None = getattr(_slot, "known", None)
    if known is None:
        # Once a thread; from then on Django tells. Asking it for its connections costs as much as running a short task.
        known = _slot.known = {connection.alias: connection for connection in connections.all(initialized_only=True)}
    if not known:
        return
    for connection in known.values():
        if connection.connection is None:
            continue
        if connection.in_atomic_block or connection.needs_rollback:
            logger.warning("A task left a transaction open on the database %r; it was rolled back", connection.alias)
            # First: closed inside a block, a connection would never be opened again.
            connection.in_atomic_block = False
            connection.close()
            connection.needs_rollback = False
            connection.savepoint_ids = []
            connection.atomic_blocks = []
        elif connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
    now = time.monotonic()
    since = getattr(_slot, "since", None)
    if since is None:
        _slot.since = now
    elif now - since > LONGEST_USE:
        tidy_after_idling()


def _note(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    # Called in the thread that connects.
    known: dict[str, BaseDatabaseWrapper] | None = getattr(_slot, "known", None)
    if known is not None:
        known[connection.alias] = connection


connection_created.connect(_note, dispatch_uid="django_tasks.worker.dbconnections")


def tidy_after_idling() -> None:
    """Close connections that are past CONN_MAX_AGE or broken."""
    _slot.since = None
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
