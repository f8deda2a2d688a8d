"""Chores that any node may do, any number at once: lapsed leases, due messages, expired results."""

import logging
from datetime import timedelta
from typing import Final

from django.utils import timezone

from django_tasks import clock
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.models import Revocation
from django_tasks.result_backends.backend import ResultBackend

logger = logging.getLogger("django_tasks.worker")

#: Most rows that one chore touches at a time.
CHUNK: Final = 1000
#: Seconds between two looks for lapsed leases, and for expired results.
LEASES_EVERY: Final = 5.0
RESULTS_EVERY: Final = 60.0
#: Revocations are kept as long as results, and at least this long.
REVOCATIONS_KEPT: Final = timedelta(days=1)


class Maintenance:
    """Does what is due; ``turn`` is called every second or so."""

    def __init__(self, broker: Broker, backend: ResultBackend) -> None:
        self._broker = broker
        self._backend = backend
        self._leases_at = 0.0
        self._results_at = 0.0

    def turn(self) -> None:
        """Do the chores that are due now."""
        now = clock.monotonic()
        if now >= self._leases_at:
            self._leases_at = now + LEASES_EVERY
            self._recover()
        if now >= self._results_at:
            self._results_at = now + RESULTS_EVERY
            self._expire()

    def _recover(self) -> None:
        while (recovered := self._broker.recover(clock.now(), limit=CHUNK)) > 0:
            logger.warning("Gave back %d messages whose worker has been silent for longer than its lease", recovered)
            if recovered < CHUNK:
                break
        self._broker.promote(clock.now(), limit=CHUNK)

    def _expire(self) -> None:
        kept = settings.RESULT_EXPIRES
        if kept:
            before = clock.now() - timedelta(seconds=kept)
            while self._backend.expire(before, limit=CHUNK) >= CHUNK:
                pass
        Revocation.objects.filter(revoked_at__lt=timezone.now() - max(REVOCATIONS_KEPT, timedelta(seconds=kept or 0))).delete()
