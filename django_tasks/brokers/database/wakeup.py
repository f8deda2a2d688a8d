"""How an idle consumer hears of new messages: NOTIFY on PostgreSQL, a cheap change probe on SQLite, a timer on MySQL.

All of them end a wait early; none of them is trusted alone: a consumer looks at the table once a second in any case.
"""

import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Final

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks import clock
from django_tasks.brokers.database.claims import CHANNEL

#: Most seconds between two looks at the table.
LOOK: Final = 1.0
#: No descriptor beside the doorbell's.
NOTHING: Final = -1


class Doorbell:
    """A pair of sockets that makes waiting interruptible: from other threads and from signal handlers.

    Sockets and not a pipe, since Windows can wait for nothing else.
    """

    def __init__(self) -> None:
        self._outside, self._inside = socket.socketpair()
        self._outside.setblocking(False)
        self._inside.setblocking(False)
        self._bell = self._inside.fileno()
        self._other = NOTHING
        self._poll = self._watching(NOTHING)

    def ring(self) -> None:
        """End the wait of now, or the next one."""
        # Full: it rings already. Closed: nobody waits any more.
        with suppress(BlockingIOError, OSError):
            self._outside.send(b"\0")

    def wait(self, seconds: float, other: int = NOTHING) -> bool:
        """Wait until it rings (then return True), the other descriptor can be read, or the time is up."""
        if other != self._other:
            self._poll, self._other = self._watching(other), other
        # Milliseconds, rounded up: rounding down would spin through the last one.
        ready = self._poll(int(seconds * 1000) + 1 if seconds > 0 else 0)
        if not ready or all(number != self._bell for number, _ in ready):
            return False
        with suppress(BlockingIOError):
            while self._inside.recv(1024):
                pass
        return True

    def _watching(self, other: int) -> Callable[[int], list[tuple[int, int]]]:
        numbers = [self._bell] if other == NOTHING else [self._bell, other]
        if not hasattr(select, "poll"):
            return lambda pause: [(number, 0) for number in select.select(numbers, [], [], pause / 1000)[0]]
        poll = select.poll()
        for number in numbers:
            poll.register(number, select.POLLIN)
        return poll.poll

    def close(self) -> None:
        """Let go of the sockets."""
        self._outside.close()
        self._inside.close()


class Wakeup(ABC):
    """A consumer's ear. ``watch`` is called before every look at the table, ``wait`` after one that found nothing."""

    def __init__(self, doorbell: Doorbell) -> None:
        self._doorbell = doorbell

    @abstractmethod
    def watch(self, connection: BaseDatabaseWrapper) -> None:
        """From here on, changes end the next ``wait``."""

    @abstractmethod
    def wait(self, connection: BaseDatabaseWrapper, seconds: float) -> bool:
        """Wait for a change, the time, or the doorbell; True only for the doorbell."""

    def close(self, connection: BaseDatabaseWrapper) -> None:
        """Stop listening."""


class Listen(Wakeup):
    """PostgreSQL: LISTEN on the consumer's own connection, and wait for its socket beside the doorbell."""

    def __init__(self, doorbell: Doorbell) -> None:
        super().__init__(doorbell)
        self._listening: Any = None
        self._notified = False

    def watch(self, connection: BaseDatabaseWrapper) -> None:
        """Listen, on each new connection once, and forget what was announced before this look."""
        connection.ensure_connection()
        if connection.connection is not self._listening:
            self._listen(connection)
        self._notified = False
        self._drop_backlog()

    def _listen(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        self._listening = connection.connection
        if hasattr(self._listening, "add_notify_handler"):
            # psycopg 3 may read a notification together with the answer to any query; psycopg 2 keeps those in a list.
            self._listening.add_notify_handler(self._on_notify)

    def _on_notify(self, _notification: Any) -> None:
        self._notified = True

    def _drop_backlog(self) -> bool:
        backlog = getattr(self._listening, "notifies", None)
        if not isinstance(backlog, list) or not backlog:
            return False
        backlog.clear()
        return True

    def wait(self, connection: BaseDatabaseWrapper, seconds: float) -> bool:
        """Wait. A readable socket is either a notification or the end of the connection: the next look will tell."""
        if self._notified or self._drop_backlog():
            return False
        with connection.wrap_database_errors:
            return self._doorbell.wait(min(seconds, LOOK), self._listening.fileno())

    def close(self, connection: BaseDatabaseWrapper) -> None:
        """Stop listening: a pool may give this connection to somebody else."""
        if self._listening is None or connection.connection is not self._listening:
            return
        if hasattr(self._listening, "remove_notify_handler"):
            self._listening.remove_notify_handler(self._on_notify)
        self._listening = None
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute(f"UNLISTEN {CHANNEL}")


class Probe(Wakeup):
    """SQLite: ask every 20 ms whether another connection has written to the file, which takes some microseconds.

    After some seconds without a change it asks a little less often: waking up is what costs.
    """

    PERIOD: ClassVar[float] = 0.02
    QUIET_PERIOD: ClassVar[float] = 0.03
    QUIET_AFTER: ClassVar[float] = 2.0
    QUESTION: ClassVar[str] = "PRAGMA data_version"

    def __init__(self, doorbell: Doorbell) -> None:
        super().__init__(doorbell)
        self._version: Any = None
        self._changed_at = clock.monotonic()

    def watch(self, connection: BaseDatabaseWrapper) -> None:
        """Remember the file's state. What this connection writes itself doesn't change it, and needn't."""
        connection.ensure_connection()
        with connection.wrap_database_errors:
            self._version = connection.connection.execute(self.QUESTION).fetchone()

    def wait(self, connection: BaseDatabaseWrapper, seconds: float) -> bool:
        """Wait until the file changes."""
        now = clock.monotonic()
        end = now + min(seconds, LOOK)
        period = self.PERIOD if now - self._changed_at < self.QUIET_AFTER else self.QUIET_PERIOD
        # Past Django's cursors, whose wrappers would cost more than the question.
        ask, ring = connection.connection.execute, self._doorbell.wait
        with connection.wrap_database_errors:
            while (left := end - clock.monotonic()) > 0:
                if ring(min(left, period)):
                    return True
                if ask(self.QUESTION).fetchone() != self._version:
                    self._changed_at = clock.monotonic()
                    return False
        return False


class Timer(Wakeup):
    """MySQL and MariaDB can't tell: look again after 20 ms, and less and less often while nothing comes."""

    FIRST: ClassVar[float] = 0.02
    LAST: ClassVar[float] = 0.2
    GROWTH: ClassVar[float] = 1.1

    def __init__(self, doorbell: Doorbell) -> None:
        super().__init__(doorbell)
        self._pause = self.FIRST
        self._idle_looks = 0

    def watch(self, connection: BaseDatabaseWrapper) -> None:
        """Count the looks: two in a row without a wait between them mean that there is work."""
        self._idle_looks += 1
        if self._idle_looks > 1:
            self._pause = self.FIRST

    def wait(self, connection: BaseDatabaseWrapper, seconds: float) -> bool:
        """Wait for the pause, or less."""
        self._idle_looks = 0
        pause, self._pause = self._pause, min(self._pause * self.GROWTH, self.LAST)
        return self._doorbell.wait(min(seconds, pause))


def wakeup_of(connection: BaseDatabaseWrapper, doorbell: Doorbell) -> Wakeup:
    """Return what a connection's database offers."""
    if connection.vendor == "sqlite":
        return Probe(doorbell)
    # Behind a pooler that shares sessions (which is when Django wants this option set), LISTEN would hear nothing.
    shares_sessions = connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    if connection.vendor == "postgresql" and not shares_sessions:
        return Listen(doorbell)
    return Timer(doorbell)
