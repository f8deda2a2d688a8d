"""How long tasks run and waited, as far as their results tell."""

from datetime import datetime
from typing import Protocol

from django.utils import timezone

from django_tasks import clock, states

#: States without an end in which nothing runs.
_NOT_RUNNING = frozenset({states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED})


class Timed(Protocol):
    """A row of results, or a ResultMeta."""

    @property
    def status(self) -> str:
        """The state."""

    @property
    def runtime(self) -> float | None:
        """Seconds that it ran, as stored."""

    @property
    def date_started(self) -> datetime | None:
        """When it was started first."""


def is_running(result: Timed) -> bool:
    """Whether the task runs now, as far as is known: it has started, or says how far it has come."""
    return result.status not in states.READY_STATES and result.status not in _NOT_RUNNING


def run_time(result: Timed) -> float | None:
    """Return how long the task ran; of one that runs, how long it has been running."""
    if not is_running(result):
        return result.runtime
    return None if result.date_started is None else between(result.date_started, None)


def between(begin: datetime, end: datetime | None) -> float:
    """Return the seconds between two times, or until now. Clocks of two machines differ, so it is never below nothing."""
    until = clock.now() if end is None else _aware(end)
    return max(0.0, (until - _aware(begin)).total_seconds())


def _aware(moment: datetime) -> datetime:
    # Rows of results are in the project's zone where USE_TZ is off.
    return timezone.make_aware(moment, timezone.get_default_timezone()) if moment.tzinfo is None else moment


def waited(sent: datetime | None, started: datetime | None) -> float | None:
    """Return how long a task waited from being sent to its start; None where one of them isn't known."""
    return None if sent is None or started is None else between(sent, started)
