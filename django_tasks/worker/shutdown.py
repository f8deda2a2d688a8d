"""Signals → warm or cold shutdown, or a restart."""

import os
import signal
from enum import Enum
from types import FrameType
from typing import Final

from django_tasks import clock


class Shutdown(Enum):
    """How a worker is to end."""

    NO = "no"
    WARM = "warm"  #: finish what runs, give the rest back
    COLD = "cold"  #: stop at once; what ran is given back


#: Seconds within which a signal that comes again says the same once more: shells, ``timeout`` and containers signal a process, and
#: then its group.
SAME: Final = 1.0


class Request:
    """What the signals so far ask for.

    SIGTERM and SIGINT: a warm shutdown, and a cold one when a signal comes more than a second after the first. SIGQUIT: cold.
    SIGHUP: warm, then restart, unless a signal that ends the worker comes beside it.
    """

    def __init__(self) -> None:
        self.shutdown = Shutdown.NO
        self.restart = False
        self._first = 0.0

    def signalled(self, number: int) -> None:
        """Take in one of the signals."""
        now = clock.monotonic()
        if number == signal.SIGQUIT:
            self.shutdown, self.restart = Shutdown.COLD, False
        elif self.shutdown is Shutdown.NO:
            self.shutdown, self.restart, self._first = Shutdown.WARM, number == signal.SIGHUP, now
        else:
            self.restart = self.restart and number == signal.SIGHUP
            if now - self._first > SAME:
                self.shutdown, self.restart = Shutdown.COLD, False


class SignalMailbox(Request):
    """Notes signals and makes a file descriptor readable; the main loop decides what they mean.

    Beside those of a ``Request``, SIGTTIN and SIGTTOU: one process more or less.
    """

    def __init__(self) -> None:
        super().__init__()
        self.more = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._previous: dict[int, object] = {}

    def fileno(self) -> int:
        """Make it usable with ``select``."""
        return self._read

    def open(self) -> None:
        """Take over the signals. The main thread's to call."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._note)

    def close(self) -> None:
        """Give the signals back to who had them. A process that was told to stop is not to be killed by the same word on its way out."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            stopping = self.shutdown is not Shutdown.NO and number in _ENDING and handler in {signal.SIG_DFL, signal.default_int_handler}
            signal.signal(number, _heard if stopping else handler)  # type: ignore[arg-type]
        os.close(self._read)
        os.close(self._write)

    def drain(self) -> None:
        """Make the file descriptor unreadable again."""
        try:
            while os.read(self._read, 512):
                pass
        except BlockingIOError:
            pass

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number in _ENDING:
            self.signalled(number)
        elif number == signal.SIGTTIN:
            self.more += 1
        elif number == signal.SIGTTOU:
            self.more -= 1


def _heard(number: int, frame: FrameType | None) -> None:
    del number, frame


_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_SIGNALS: Final = (*_ENDING, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU)
