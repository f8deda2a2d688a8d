"""Which workers live, by their heartbeats."""

from datetime import datetime, timedelta
from typing import Final

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_tasks import clock
from django_tasks.conf import settings
from django_tasks.models import Worker
from django_tasks.models.times import aware

#: Heartbeats that may be missed before a worker counts as stale.
MISSED: Final = 3


class Liveness(models.TextChoices):
    """What the heartbeats say of a worker."""

    ALIVE = "alive", _("alive")
    STALE = "stale", _("stale")
    STOPPED = "stopped", _("stopped")


def oldest_heartbeat(now: datetime | None = None) -> datetime:
    """Return the time before which a last heartbeat means that the worker is gone."""
    return (now or clock.now()) - timedelta(seconds=MISSED * settings.WORKER_HEARTBEAT)


def liveness(worker: Worker, now: datetime | None = None) -> Liveness:
    """Say whether a worker is alive, went away without a word (stale), or has stopped."""
    if worker.stopped_at is not None:
        return Liveness.STOPPED
    return Liveness.ALIVE if aware(worker.heartbeat_at) >= oldest_heartbeat(now) else Liveness.STALE


def in_state(workers: "models.QuerySet[Worker]", wanted: str) -> "models.QuerySet[Worker]":
    """Narrow a query to the workers of one ``Liveness``."""
    if wanted == Liveness.STOPPED:
        return workers.filter(stopped_at__isnull=False)
    running = workers.filter(stopped_at__isnull=True)
    if wanted == Liveness.ALIVE:
        return running.filter(heartbeat_at__gte=oldest_heartbeat())
    return running.filter(heartbeat_at__lt=oldest_heartbeat())


def alive() -> "models.QuerySet[Worker]":
    """The workers that live."""
    return in_state(Worker.objects.all(), Liveness.ALIVE)


def uptime(worker: Worker, now: datetime | None = None) -> timedelta:
    """How long a worker has run, or had run when it was last seen."""
    lives = liveness(worker, now) is Liveness.ALIVE
    end = now or clock.now() if lives else aware(worker.stopped_at or worker.heartbeat_at)
    return max(end - aware(worker.started_at), timedelta(0))
