"""Which of several beats leads. It spares the others work; that no run is sent twice doesn't depend on it."""

import os
import secrets
import socket
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, router, transaction
from django.db.models import Q, QuerySet

from django_tasks import clock
from django_tasks.models import BeatTerm
from django_tasks.models.times import aware

NAME: Final = "beat"
#: Parts of BEAT_TERM. The row's lease ends before the term, so that a successor is at work within it; who leads
#: trusts it for less, by a clock of its own, because the clocks of two machines differ.
LEASE: Final = 0.9
TRUST: Final = 0.8
RENEW: Final = 0.5
#: Seconds between a follower's looks at most: a leader that stops on purpose is succeeded at once.
_LOOK: Final = 1.0


class Leader:
    """One beat's claim to lead for a term at a time."""

    def __init__(self, term: float) -> None:
        self.holder: Final = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        #: When another beat was last known to lead; None if none ever did.
        self.predecessor_at: datetime | None = None
        self._term = term
        self._trusted_until = self._renew_at = 0.0
        self._rival: tuple[str, datetime] | None = None
        self._rival_seen = 0.0

    def leads(self) -> bool:
        """Whether this beat may take itself for the leader now. Asks no one."""
        return clock.monotonic() < self._trusted_until

    def lead(self, now: datetime) -> bool:
        """Renew this beat's term when half of it is over, or take over one that has lapsed; return whether it leads."""
        if self.leads() and clock.monotonic() < self._renew_at:
            return True
        # The clock is read before the attempt: however long that takes, the row's lease is trusted for less than it lasts.
        started = clock.monotonic()
        if self._renew(now) or self._take_over(now):
            self._trusted_until = started + TRUST * self._term
            self._renew_at = started + RENEW * self._term
            self._rival = None
        else:
            self._trusted_until = 0.0
        return self.leads()

    def pause(self, now: datetime) -> float:
        """Return the seconds after which ``lead`` is worth another call."""
        if self.leads():
            return max(0.0, self._renew_at - clock.monotonic())
        if self._rival is None:
            return _LOOK
        return min(_LOOK, max(0.02, (self._rival[1] - now).total_seconds()))

    def resign(self) -> None:
        """End the term now, so that another beat need not wait for its end."""
        self._trusted_until = 0.0
        self._terms().filter(holder=self.holder).update(expires_at=clock.now())

    def _terms(self) -> QuerySet[BeatTerm]:
        return BeatTerm.objects.using(router.db_for_write(BeatTerm)).filter(name=NAME)

    def _renew(self, now: datetime) -> bool:
        if self._trusted_until == 0.0:
            return False
        return self._terms().filter(holder=self.holder).update(expires_at=self._lease(now)) == 1

    def _take_over(self, now: datetime) -> bool:
        row = self._terms().values_list("holder", "expires_at").first()
        if row is None:
            return self._found(now)
        seen = row[0], aware(row[1])
        if seen != self._rival:
            self._rival, self._rival_seen = seen, clock.monotonic()
        # A leader renews long before the end. One that doesn't is gone, whatever its clock made it write.
        silent = clock.monotonic() - self._rival_seen > LEASE * self._term
        if seen[1] > now and not silent:
            return False
        unchanged = Q(holder=row[0], expires_at=row[1])
        won = self._terms().filter(unchanged).update(holder=self.holder, elected_at=now, expires_at=self._lease(now)) == 1
        if won:
            self.predecessor_at = min(seen[1] - timedelta(seconds=LEASE * self._term), now)
        return won

    def _found(self, now: datetime) -> bool:
        alias = router.db_for_write(BeatTerm)
        try:
            with transaction.atomic(using=alias):
                BeatTerm.objects.using(alias).create(name=NAME, holder=self.holder, elected_at=now, expires_at=self._lease(now))
        except IntegrityError:
            return False
        return True

    def _lease(self, now: datetime) -> datetime:
        return now + timedelta(seconds=LEASE * self._term)


def last_led() -> tuple[str, datetime] | None:
    """Return which beat led last, and until when; None if none ever did."""
    found = BeatTerm.objects.using(router.db_for_write(BeatTerm)).filter(name=NAME).values_list("holder", "expires_at").first()
    return None if found is None else (found[0], aware(found[1]))


def leading_since() -> tuple[str, datetime] | None:
    """Return which beat leads now, and since when; None if none does."""
    terms = BeatTerm.objects.using(router.db_for_write(BeatTerm)).filter(name=NAME, expires_at__gt=clock.now())
    found = terms.values_list("holder", "elected_at").first()
    return None if found is None else (found[0], aware(found[1]))


def leading() -> str | None:
    """Return which beat leads now; None if none does."""
    found = last_led()
    return found[0] if found is not None and found[1] > clock.now() else None
