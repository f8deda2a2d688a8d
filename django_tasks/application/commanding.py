"""``app.control``: commands to the workers."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django_tasks import brokers, routing
from django_tasks.canvas.givenconnections import refuse_other_brokers
from django_tasks.result.revocation import revoke_stamped, revoke_tasks

logger = logging.getLogger("django_tasks")

#: Celery's control commands that need a conversation with the workers.
COMMANDS_TO_COME: Final = frozenset(
    {
        "add_consumer",
        "autoscale",
        "broadcast",
        "cancel_consumer",
        "disable_events",
        "election",
        "enable_events",
        "heartbeat",
        "inspect",
        "ping",
        "pool_grow",
        "pool_restart",
        "pool_shrink",
        "rate_limit",
        "shutdown",
        "time_limit",
    }
)


class Control:
    """Commands to the workers. What works now goes by way of the database; the rest raises NotImplementedError."""

    def revoke(
        self, task_id: str | Iterable[str], destination: Any = None, terminate: bool = False, signal: str | int = "SIGTERM", **kwargs: Any
    ) -> None:
        """Let no worker start these tasks; with ``terminate`` stop them where they run. Takes effect within seconds.

        None and an empty text stand for a task that was never sent, as in a row that keeps its id: they are passed over. Raises
        TypeError for what is no task id and ValueError for what is no signal; nothing is revoked then.
        """
        if destination is not None:
            raise NotImplementedError(
                "revoke(destination=...) comes in a later release; without it every worker is told. Nothing was revoked"
            )
        given: Any = task_id
        several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
        named = [one for one in (given if several else [given]) if one is not None and one != ""]
        if not named:
            logger.debug("revoke(%r) names no task: nothing to do", given)
        revoke_tasks(named, terminate=terminate, signal=signal)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | Iterable[str],
        destination: Any = None,
        terminate: bool = False,
        signal: str | int = "SIGTERM",
        **kwargs: Any,
    ) -> None:
        """Let no worker start tasks with one of these stamps; with ``terminate`` stop those that run. Takes effect within seconds.

        ``{"tenant": "acme", "order": [17, 18]}``, or ``["tenant=acme"]``. A stamp matches if it is one of the values, or is a list with
        one of them. Tasks that are sent later are meant, too, as long as the row (``RevokedStamp``) is kept: for RESULT_EXPIRES, a day at
        least; delete it, in the admin, to let them run again.
        """
        if destination is not None:
            raise NotImplementedError(
                "revoke_by_stamped_headers(destination=...) comes in a later release; without it every worker is told. Nothing was revoked"
            )
        revoke_stamped(headers, terminate=terminate, signal=signal)

    def terminate(self, task_id: str | Iterable[str], destination: Any = None, signal: str | int = "SIGTERM", **kwargs: Any) -> None:
        """``revoke`` with ``terminate=True``."""
        self.revoke(task_id, destination, terminate=True, signal=signal)

    def purge(self, connection: Any = None) -> int:
        """Delete all messages that wait in this project's queues; returns how many. ValueError for a connection to another broker."""
        if connection is not None:
            refuse_other_brokers({"connection": connection}, "purge", "Nothing was deleted; `celery -b URL purge` reaches that one")
        broker = brokers.current()
        names = dict.fromkeys([*routing.current().queue_names, *broker.queues()])
        return sum(brokers.purge(dict.fromkeys(names, broker)).values())

    discard_all = purge

    def __getattr__(self, name: str) -> Any:
        if name in COMMANDS_TO_COME:
            raise NotImplementedError(f"app.control.{name} comes in a later release; purge, terminate and the two ways to revoke work now")
        raise AttributeError(f"app.control has no command {name!r}")
