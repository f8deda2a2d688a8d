"""Events on their way out of a worker's process: gathered from any thread, sent in batches by a thread of their own.

So whoever has something to say never waits for a server, and an outage costs events, never work.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from django.db import connections

from django_tasks.events.channel import Event, EventChannel
from django_tasks.exceptions import OperationalError

logger = logging.getLogger("django_tasks.events")

#: Events that are kept while they can't be sent; of more, the oldest are dropped.
LIMIT: Final = 10_000
#: Most events of one round trip.
BATCH: Final = 1_000
#: Seconds between two batches: the first event after a pause leaves at once, those of a busy worker together.
PACE: Final = 0.05
#: Seconds between two tries while the server is away.
PAUSE: Final = 2.0
#: Seconds that the end of the process waits for the last events; a server that refuses them is not waited for.
PATIENCE: Final = 5.0


class EventBuffer:
    """Takes events without waiting and sends them in order. Costs nothing, not even a thread, before the first one."""

    def __init__(self, channel: Callable[[], EventChannel], *, limit: int = LIMIT) -> None:
        self._channel = channel
        self._limit = limit
        self._waiting: deque[Event] = deque()
        #: Held by whoever sends, so that batches keep their order.
        self._sending = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self._dropped = 0

    def add(self, events: Iterable[Event]) -> None:
        """Take events, from any thread; returns at once."""
        self._waiting.extend(events)
        if len(self._waiting) > self._limit:
            self._shed()
        if self._thread is None:
            self._start()
        if not self._wake.is_set():
            self._wake.set()

    def send_now(self, events: Sequence[Event]) -> None:
        """Send these behind what waits, in the same round trip. Raises what the channel raises; what waited is kept then."""
        with self._sending:
            self._send(self._taken(self._limit), events)

    def close(self, patience: float = PATIENCE) -> None:
        """Send what is left, for ``patience`` seconds at most, and end the thread; what comes later is dropped."""
        self._closing.set()
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join(patience)

    # ---- the thread

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._closing.is_set():
                thread = threading.Thread(target=self._run, name="django_tasks-events", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            reached = self._send_waiting()
            self._closing.wait(PACE if reached else PAUSE)
            if not reached:
                self._wake.set()
        self._send_waiting()
        connections.close_all()

    def _send_waiting(self) -> bool:
        """Send all that waits; False when the server is away."""
        try:
            while self._waiting:
                with self._sending:
                    self._send(self._taken(BATCH))
        except OperationalError as error:
            self._failed(error)
            return False
        except Exception:
            # Not the server's fault: the same events would fail again.
            logger.exception("Events could not be sent; %d are dropped", min(BATCH, len(self._waiting)))
            self._taken(BATCH)
        else:
            self._succeeded()
        return True

    def _send(self, waited: list[Event], further: Sequence[Event] = ()) -> None:
        if not waited and not further:
            return
        try:
            self._channel().send([*waited, *further])
        except BaseException:
            self._waiting.extendleft(reversed(waited))
            self._shed()
            raise

    def _taken(self, most: int) -> list[Event]:
        taken: list[Event] = []
        try:
            while len(taken) < most:
                taken.append(self._waiting.popleft())
        except IndexError:
            pass
        return taken

    def _shed(self) -> None:
        dropped = len(self._taken(len(self._waiting) - self._limit))
        if dropped and not self._failing and not self._dropped:
            logger.warning(
                "Events come faster than they can be sent; work goes on, and of more than %d the oldest are dropped", self._limit
            )
        self._dropped += dropped

    def _failed(self, error: OperationalError) -> None:
        if not self._failing:
            logger.warning("Events can't be sent; work goes on, and the last %d are kept meanwhile: %s", self._limit, error)
        self._failing = True

    def _succeeded(self) -> None:
        if self._failing or self._dropped:
            logger.warning("All events are sent again; %d were dropped meanwhile", self._dropped)
        self._failing, self._dropped = False, 0


_installed: EventBuffer | None = None


def install(buffer: EventBuffer) -> None:
    """Let everything that this process says go through ``buffer``: a worker's process must not wait for it."""
    global _installed  # noqa: PLW0603  one a process, as the channel is
    _installed = buffer


def uninstall(buffer: EventBuffer) -> None:
    """Take ``buffer`` away again, if it is the one."""
    global _installed  # noqa: PLW0603
    if _installed is buffer:
        _installed = None


def installed() -> EventBuffer | None:
    """Return the process's buffer; None outside of workers."""
    return _installed


def _forget() -> None:
    # A forked process has not the thread that sends.
    global _installed  # noqa: PLW0603
    _installed = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
