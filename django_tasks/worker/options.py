"""How a worker is to run: from the command line, and from the settings where that says nothing."""

import logging
import os
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from django_tasks import brokers
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.messages import PARKED

logger = logging.getLogger("django_tasks.worker")

POOLS = ("prefork", "threads", "asyncio", "solo")
#: Bytes of a queue's name that every broker takes.
LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Everything a worker needs to know. Times are seconds, memory is KiB.

    ``children`` processes run ``slots`` tasks each; what -c means follows from the pool.
    """

    name: str
    queues: tuple[str, ...]
    pool: str = "prefork"
    concurrency: int = 1
    min_concurrency: int | None = None
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    prefetch_multiplier: int = 0
    prefetch_window: float = 0.1
    lease: float = 60.0
    heartbeat: float = 5.0
    #: Seconds until the first fetch of a process.
    start_timeout: float = 60.0
    shutdown_timeout: float | None = None
    drain: bool = False
    beat: bool = False
    purge: bool = False
    banner: bool = True
    #: Say what happens to tasks (-E).
    task_events: bool = False
    #: Unique for all time, so that two workers of one name never mix up what they hold.
    instance: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def forks(self) -> bool:
        """Whether tasks run in processes of their own."""
        return self.pool != "solo"

    @property
    def children(self) -> int:
        """How many processes run tasks."""
        return self.concurrency if self.pool == "prefork" else 1

    @property
    def slots(self) -> int:
        """How many tasks one process runs at once."""
        return 1 if self.pool in {"prefork", "solo"} else self.concurrency


def worker_name(name: str | None) -> str:
    """Complete ``-n``: ``%h`` is the host name, ``%n`` its first part, ``%d`` its domain, ``%%`` a per cent sign."""
    host = socket.gethostname()
    short, _, domain = host.partition(".")
    values = {"%h": host, "%n": short, "%d": domain, "%%": "%", "%i": "", "%I": ""}
    full = re.sub(r"%[hndiI%]", lambda match: values[match.group()], name or "celery@%h")
    return full if "@" in full else f"{full}@{host}"


def chosen_queues(wanted: Sequence[str], excluded: Sequence[str]) -> tuple[str, ...]:
    """Return what -Q names, else every queue of TASK_QUEUES, else the default queue; without what -X names."""
    configured = settings.TASK_QUEUES
    known = [getattr(queue, "name", queue) for queue in configured or ()] or [settings.TASK_DEFAULT_QUEUE]
    for name in set(excluded).difference(wanted or known):
        near = get_close_matches(name, wanted or known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        logger.warning("-X %s excludes nothing: this worker consumes no queue of that name%s", name, hint)
    queues = tuple(dict.fromkeys(queue for queue in (wanted or known) if queue not in set(excluded)))
    if not queues:
        raise ImproperlyConfigured(f"no queue is left to consume: -X excludes all of {', '.join(wanted or known)}")
    if PARKED in queues:
        raise ImproperlyConfigured(
            f"the queue {PARKED!r} can't be consumed: its messages wait for another broker, and every worker forwards them"
        )
    for queue in queues:
        _check_name(queue)
        if queue in wanted and (refusal := brokers.current().refusal(queue)) is not None:
            # Those of the settings are the system checks' to name.
            raise ImproperlyConfigured(refusal)
    return queues


def _check_name(queue: str) -> None:
    if not queue or len(queue.encode()) > LONGEST_NAME or any(ord(character) < ord(" ") for character in queue):
        raise ImproperlyConfigured(
            f"{queue[:80]!r} can't be the name of a queue: it must have 1 to {LONGEST_NAME} bytes and no control characters"
        )


def default_concurrency(pool: str) -> int:
    """One task a processor that this process may use; a hundred for asyncio, whose tasks mostly wait."""
    if pool == "solo":
        return 1
    return 100 if pool == "asyncio" else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
