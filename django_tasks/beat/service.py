"""Beat as a service: follows or leads until told to stop, and outlives the database's bad moments."""

import logging
import threading
from datetime import datetime, timedelta
from typing import Final

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections

from django_tasks import clock, signals
from django_tasks.beat.leader import Leader
from django_tasks.beat.scheduler import Scheduler
from django_tasks.conf import settings
from django_tasks.exceptions import OperationalError, ServerRefusedError
from django_tasks.readiness import check_databases

logger = logging.getLogger("django_tasks.beat")

#: Seconds between attempts while the database or the broker can't be used: the first pause, and the longest.
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0
#: How far back a successor looks for runs of declared entries that never ran before.
_MEMORY: Final = timedelta(minutes=5)


class BeatService:
    """Schedules periodic tasks. Any number may run; one leads, the others stand by.

    ``run`` blocks until its event is set: call it in a thread or process of its own. ``embedded`` says that it runs
    inside something else, a worker for instance. One that stands alone, and whose database has refused it for good before its
    first turn (missing tables, wrong credentials), raises ServerRefusedError instead of trying again for ever.
    """

    def __init__(self, *, max_interval: float | None = None, term: float | None = None, embedded: bool = True) -> None:
        self._max_interval = max_interval
        self._embedded = embedded
        self.leader = Leader(settings.BEAT_TERM if term is None else term)
        self.scheduler: Scheduler | None = None
        self._failures = 0
        self._worked = False

    def run(self, stop: threading.Event) -> None:
        """Schedule until ``stop`` is set; then resign, so that another beat takes over at once."""
        (signals.beat_embedded_init if self._embedded else signals.beat_init).send(self)
        try:
            while not stop.is_set():
                stop.wait(self._guarded_turn())
        finally:
            self._resign()

    def turn(self, now: datetime) -> float:
        """Do what is to be done now; return the seconds until the next turn."""
        if not self.leader.lead(now):
            if self.scheduler is not None:
                logger.warning("Another beat leads now; this one stands by")
                self.scheduler = None
            return self.leader.pause(now)
        if self.scheduler is None:
            logger.info("This beat leads (%s)", self.leader.holder)
            since = self.leader.predecessor_at
            self.scheduler = Scheduler(
                max_interval=self._max_interval,
                since=None if since is None or since < now - _MEMORY else since,
                may_send=self.leader.leads,
            )
        return min(self.scheduler.tick(now), self.leader.pause(now))

    def _guarded_turn(self) -> float:
        try:
            if not (self._worked or self._embedded):
                check_databases(beat=True)
            pause = self.turn(clock.now())
        except (ServerRefusedError, ImproperlyConfigured) as error:
            if not (self._worked or self._embedded):
                raise
            return self._recover(str(error))
        except (Error, OperationalError) as error:
            return self._recover(f"{type(error).__name__}: {error}".strip())
        except Exception:
            logger.exception("Beat failed")
            return self._recover("an error of its own")
        self._worked = True
        if self._failures:
            logger.info("Beat goes on after %d failed attempt(s)", self._failures)
            self._failures = 0
        return pause

    def _recover(self, fault: str) -> float:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * float(2 ** min(self._failures, 10)))
        self._failures += 1
        logger.error("Beat can't go on (%s); attempt %d follows in %.2g seconds", fault, self._failures + 1, pause)
        close_connections()
        return pause

    def _resign(self) -> None:
        self.scheduler = None
        try:
            if self._worked:
                self.leader.resign()
        except Exception as error:  # noqa: BLE001  it is stopping; the lease will lapse by itself
            logger.warning("Beat stops without giving up its term, which will end by itself: %s", error)
        close_connections()


def close_connections() -> None:
    """Close this thread's database connections; the next query opens new ones."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
