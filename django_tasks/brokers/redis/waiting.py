"""How an idle consumer hears of new messages: it blocks on its queues' bells, on a connection of its own.

Whoever publishes through this package rings; kombu doesn't, so an idle consumer also looks by itself: often while such
messages come, seldom otherwise.
"""

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import Final

from django_tasks import clock
from django_tasks.brokers.redis.lines import Line
from django_tasks.redisaccess import RedisServer

#: Seconds between two looks for messages that nobody rang for: usually, and for a while after there were some.
SELDOM: Final = 0.25
OFTEN: Final = 0.02
A_WHILE: Final = 60.0
#: Seconds after which the server itself ends a blocking wait, so that it forgets waiters that are gone.
_BLOCKED: Final = 10


class Heard(Enum):
    """How a wait ended."""

    NOTHING = "the time was up"
    BELL = "a bell rang"
    WAKE = "wake() was called"


class Ear:
    """Waits for a bell, for ``wake`` from another thread, or for the time."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        # Sockets and not a pipe, since Windows can wait for nothing else.
        self._outside, self._inside = socket.socketpair()
        self._outside.setblocking(False)
        self._inside.setblocking(False)
        self._line: Line | None = None
        #: The bells that the server was asked to wait for, while its answer is due.
        self._armed: tuple[str, ...] = ()
        self._unannounced_until = float("-inf")
        #: Whether its answer is there, and unread.
        self._rung = False

    def wake(self) -> None:
        """End the wait of now, or the next one. Safe from any thread and from a signal handler."""
        # Full: it will end anyway. Closed: nobody waits any more.
        with suppress(BlockingIOError, OSError):
            self._outside.send(b"\0")

    def trusts_bells(self) -> bool:
        """Whether all that came of late was rung for."""
        return clock.monotonic() >= self._unannounced_until

    def pace(self) -> float:
        """Seconds until the next look without a bell."""
        return SELDOM if self.trusts_bells() else OFTEN

    def notice_unannounced(self) -> None:
        """Remember that a message came for which nobody rang, unless its token is still on its way to this ear."""
        if not (self._armed and self._line is not None and self._line.connection.can_read(timeout=0)):
            self._unannounced_until = clock.monotonic() + A_WHILE

    def wait(self, bells: Sequence[str], seconds: float) -> Heard:
        """Wait. Without bells none is waited for anew; one that was before may still ring, and is then for somebody else.

        Raises redis-py's errors when the server is gone.
        """
        if self._rung:
            self.which()
        if bells:
            self._arm(tuple(bells))
        watched = [self._inside.fileno()]
        if self._armed and self._line is not None:
            if self._line.connection.can_read(timeout=0):  # redis-py, or TLS, may have read ahead
                self._rung = True
                return Heard.BELL
            watched.append(self._line.connection._sock.fileno())  # noqa: SLF001  redis-py doesn't show its socket
        ready = _readable(watched, max(0.0, seconds))
        if watched[0] in ready:
            with suppress(BlockingIOError):
                while self._inside.recv(1024):
                    pass
            return Heard.WAKE
        self._rung = bool(ready)
        return Heard.BELL if ready else Heard.NOTHING

    def _arm(self, bells: tuple[str, ...]) -> None:
        if self._armed == bells:
            return
        if self._armed:
            self.hang_up()
        if self._line is None:
            self._line = Line(self._server)
        try:
            self._line.send("BLPOP", *bells, _BLOCKED)
        except BaseException:
            self.hang_up()
            raise
        self._armed = bells

    def which(self) -> str | None:
        """Read which bell it was that rang; None if there was none, but the server's end of the wait.

        Whoever only wants to know that one rang need not ask: the next wait reads it, when nobody is kept waiting.
        """
        line, self._armed, self._rung = self._line, (), False
        if line is None:
            return None
        try:
            answer = line.read()
        except BaseException:
            self.hang_up()
            raise
        return None if answer is None else str(answer[0].decode())

    def hang_up(self) -> None:
        """Close the connection; the next wait opens one."""
        line, self._line, self._armed, self._rung = self._line, None, (), False
        if line is not None:
            line.close()

    def close(self) -> None:
        """Let go of the connection and of the sockets."""
        self.hang_up()
        self._outside.close()
        self._inside.close()


def _readable(numbers: list[int], seconds: float) -> list[int]:
    if not hasattr(select, "poll"):
        return select.select(numbers, [], [], seconds)[0]
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    # Milliseconds, rounded up: rounding down would spin through the last one.
    return [number for number, _ in poll.poll(int(seconds * 1000) + 1 if seconds > 0 else 0)]
