"""Chores that any node may do, any number at once: lapsed leases, due messages, chords left behind, expired results."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from django_tasks import clock, events
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.dbaccess import delete
from django_tasks.models import DeadLetter, Rerun, Revocation, RevokedStamp
from django_tasks.models.times import as_models_give
from django_tasks.result_backends import lifetimes
from django_tasks.result_backends.backend import ReadyChord, ResultBackend
from django_tasks.worker.recounts import Recounts

logger = logging.getLogger("django_tasks.worker")

#: Most rows that one chore touches at a time.
CHUNK: Final = 1000
#: Seconds between two looks for lapsed leases, and for expired results.
LEASES_EVERY: Final = 5.0
#: Most abandoned chords taken at a time: their bodies must be sent while the new claim holds.
CHORDS: Final = 20
#: Seconds for which chords are counted again in one turn; the rest follows with the next one.
RECOUNTING: Final = 1.0
RESULTS_EVERY: Final = 60.0
EVENTS_EVERY: Final = 20.0
#: Most events deleted at a time: there may be thousands a second.
EVENTS: Final = 5000
#: Revocations are kept as long as results, and at least this long.
REVOCATIONS_KEPT: Final = timedelta(days=1)


class Maintenance:
    """Does what is due; ``turn`` is called every second or so, and does one chunk of each chore at most.

    ``send_bodies`` takes chords whose claimants died (``Completer.send_bodies``).
    """

    def __init__(self, broker: Broker, backend: ResultBackend, send_bodies: Callable[[Sequence[ReadyChord]], None]) -> None:
        self._broker = broker
        self._backend = backend
        self._send_bodies = send_bodies
        self._recounts = Recounts(backend)
        self._revocations_at = 0.0
        self._events_at = 0.0
        self._leases_at = 0.0
        self._results_at = 0.0

    def turn(self) -> None:
        """Do the chores that are due now."""
        now = clock.monotonic()
        if now >= self._leases_at:
            self._leases_at = now + LEASES_EVERY
            self._recover()
            self._reclaim_chords()
        self._recount_chords()
        if now >= self._results_at:
            # A full chunk means that there is more: the next one follows with the next turn, for somebody may wait for this thread.
            self._results_at = now + (0.0 if self._expire() else RESULTS_EVERY)
        if now >= self._revocations_at:
            self._revocations_at = now + (
                0.0 if max(self._forget_revocations(), forget_operations(limit=CHUNK)) >= CHUNK else RESULTS_EVERY
            )
        if now >= self._events_at:
            self._events_at = now + (0.0 if events.current().expire(limit=EVENTS) >= EVENTS else EVENTS_EVERY)

    def _recover(self) -> None:
        while (recovered := self._broker.recover(clock.now(), limit=CHUNK)) > 0:
            logger.warning("Gave back %d messages whose worker has been silent for longer than its lease", recovered)
            if recovered < CHUNK:
                break
        self._broker.promote(clock.now(), limit=CHUNK)

    def _reclaim_chords(self) -> None:
        chords = self._backend.reclaim_chords(CHORDS)
        if chords:
            logger.warning("Sending the bodies of %d chords whose worker died before it could", len(chords))
            self._send_bodies(chords)

    def _recount_chords(self) -> None:
        until = clock.monotonic() + RECOUNTING
        while True:
            chords = self._recounts.turn(clock.now())
            if chords:
                logger.warning("Sending the bodies of %d chords with parts that were stored and not counted", len(chords))
                self._send_bodies(chords)
            if not self._recounts.more or clock.monotonic() >= until:
                return

    def _expire(self) -> bool:
        kept = settings.RESULT_EXPIRES
        return bool(kept) and self._backend.expire(clock.now() - timedelta(seconds=kept), limit=CHUNK) >= CHUNK

    def _forget_revocations(self) -> int:
        kept = max(REVOCATIONS_KEPT, timedelta(seconds=settings.RESULT_EXPIRES or 0))
        return forget_revocations(timezone.now() - kept, limit=CHUNK)


def forget_revocations(before: datetime, *, limit: int, alias: str | None = None) -> int:
    """Delete what was revoked before this time: up to ``limit`` tasks and stamps; return how many."""
    everything = (model.objects.using(alias) if alias else model.objects.all() for model in (Revocation, RevokedStamp))
    tasks, stamps = (rows.filter(revoked_at__lt=before) for rows in everything)
    deleted = delete(tasks, limit)
    return deleted + delete(stamps, limit - deleted)


def forget_operations(*, limit: int) -> int:
    """Delete dead letters that are past DEAD_LETTER_EXPIRES, and what is noted of reruns whose results are gone; return how many."""
    deleted = 0
    if settings.DEAD_LETTER_EXPIRES:
        died = clock.after(-settings.DEAD_LETTER_EXPIRES)
        deleted = delete(DeadLetter.objects.filter(died_at__lt=died).order_by("died_at"), limit)
    if (kept := lifetimes.of_failures()) is not None:
        ran = as_models_give(clock.after(-kept))
        deleted += delete(Rerun.objects.filter(run_at__lt=ran).order_by("run_at"), limit - deleted)
    return deleted
