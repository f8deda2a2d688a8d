"""What workers say of their tasks and themselves, and the channel that carries it. Celery's names and fields.

An event is a flat dictionary with ``type``, ``hostname``, ``timestamp`` (seconds since 1970), ``pid``, ``clock`` (a Lamport
time) and ``utcoffset`` (hours west of UTC, as Celery counts them); task events also have ``uuid``. Values are what JSON takes.
"""

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from django_tasks import clock as _clock

Event: TypeAlias = dict[str, Any]

#: Seconds in an hour, as ``utcoffset`` counts in hours.
_HOUR: Final = 3600.0


class LamportClock:
    """Orders events of several processes: grows with every event sent, and past every one received.

    It is never behind the time of day, in microseconds. Processes of one worker don't hear each other, and one that is new would
    otherwise count from 1: monitors, which sort by this, would take its tasks for the oldest and forget them first.
    """

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()

    def forward(self) -> int:
        """Count one event sent; return its time."""
        with self._lock:
            self.value = max(self.value + 1, int(_clock.timestamp() * 1_000_000))
            return self.value

    def adjust(self, other: int) -> int:
        """Count one event received, whose sender's clock showed ``other``; return the time here."""
        with self._lock:
            self.value = max(self.value, other) + 1
            return self.value


#: This process's.
lamport: Final = LamportClock()


def event(type_: str, hostname: str, **fields: Any) -> Event:
    """Build an event of this moment: ``event("task-started", "w1@host", uuid=task_id)``."""
    return {
        "type": type_,
        "hostname": hostname,
        "timestamp": _clock.timestamp(),
        "pid": os.getpid(),
        "utcoffset": utc_offset(),
        "clock": lamport.forward(),
        **fields,
    }


def utc_offset() -> float:
    """Return the hours by which this machine's time lies west of UTC: Celery's sign, the opposite of ISO 8601's."""
    local = time.localtime()
    return (time.altzone if local.tm_isdst > 0 else time.timezone) / _HOUR


class EventReceiver(ABC):
    """Hears events, from the moment it was opened. Not for several threads at once."""

    @abstractmethod
    def receive(self, timeout: float | None) -> list[Event]:
        """Return what has come, oldest first; waits up to ``timeout`` seconds (None: for ever) for the first, then returns [].

        Raises OperationalError when the server can't be reached; calling again tries again, and what was sent meanwhile may be
        missed: events are news, not records.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop hearing; closing twice does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class EventChannel(ABC):
    """Where events go, by the broker's URL. Safe for threads and forks; nothing connects before the first event."""

    @abstractmethod
    def send(self, events: Sequence[Event]) -> None:
        """Send events, in this order, in one round trip. Nobody needs to listen.

        Raises OperationalError when the server can't be reached: then none was sent, and the caller decides whether to drop
        them. Values that JSON doesn't take raise EncodeError.
        """

    @abstractmethod
    def listen(self, routing_key: str = "#") -> EventReceiver:
        """Open a receiver. ``routing_key`` narrows what is heard, in Celery's way: ``task.*``, ``worker.#``."""

    def expire(self, *, limit: int) -> int:
        """Delete what is older than this channel keeps, of the ``limit`` oldest events; return how many. Most channels keep none."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Let go of connections; the next event opens new ones."""
