"""The rows by which a node is seen."""

import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from django_tasks import clock, signals
from django_tasks.models import Worker
from django_tasks.version import __version__
from django_tasks.worker.options import WorkerOptions

logger = logging.getLogger("django_tasks.worker")

#: Heartbeats missed after which a worker counts as dead.
MISSED: Final = 3
#: How long the row of a worker that has gone is kept.
KEPT: Final = timedelta(days=1)


class Heartbeat:
    """One node's Worker row: written at the start, renewed while it lives, closed at the end."""

    def __init__(self, options: WorkerOptions, *, host: str, pid: int) -> None:
        self._options = options
        self._host = host
        self._pid = pid

    def begin(self) -> None:
        """Enter this node, and warn if another of its name is alive."""
        now = clock.now()
        twins = Worker.objects.filter(name=self._options.name, stopped_at=None, heartbeat_at__gt=now - self._patience)
        for twin in twins.exclude(instance=self._options.instance):
            if twin.host == self._host and not process_exists(twin.pid):
                continue
            logger.warning(
                "Another worker is named %r already (process %d on %s). Both work, and neither touches what the other holds, "
                "but remote control and the admin can't tell them apart: start one with -n OTHERNAME@%%h.",
                twin.name,
                twin.pid,
                twin.host,
            )
        Worker.objects.update_or_create(
            instance=self._options.instance,
            defaults={
                "name": self._options.name,
                "host": self._host,
                "pid": self._pid,
                "pool": self._options.pool,
                "concurrency": self._options.concurrency,
                "queues": list(self._options.queues),
                "version": __version__,
                "started_at": now,
                "heartbeat_at": now,
                "stopped_at": None,
            },
        )

    def beat(self, *, active: int, processed: int, queues: Sequence[str]) -> None:
        """Renew the row and remove those of nodes long gone."""
        now = clock.now()
        changed = Worker.objects.filter(instance=self._options.instance).update(
            heartbeat_at=now, active=active, processed=processed, queues=list(queues), concurrency=self._options.concurrency
        )
        if not changed:  # someone deleted the row in the admin
            self.begin()
        Worker.objects.filter(heartbeat_at__lt=now - KEPT).delete()
        signals.heartbeat_sent.send(self._options.name)

    def end(self, *, processed: int) -> None:
        """Say that this node has stopped, and what it has finished: one that lived for less than a heartbeat has not said it yet."""
        now = clock.now()
        Worker.objects.filter(instance=self._options.instance).update(heartbeat_at=now, stopped_at=now, active=0, processed=processed)

    @property
    def _patience(self) -> timedelta:
        return timedelta(seconds=self._options.heartbeat * MISSED)


def process_exists(pid: int) -> bool:
    """Whether a process of this id lives on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
