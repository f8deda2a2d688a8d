"""Where a process is that passed a hard time limit: ``faulthandler`` writes its stack when the supervisor asks.

That happens in the signal handler in C, so it needs no help of the process: it may hang in an extension, with the interpreter's
lock held.
"""

import faulthandler
import os
import signal
import time
from contextlib import suppress
from typing import Final

#: Users have SIGUSR1 and SIGUSR2; systems without real-time signals show no stacks.
_SIGNAL: Final[int | None] = signal.SIGRTMIN + 5 if hasattr(signal, "SIGRTMIN") else None
#: Seconds that a process has to show its stack before it is killed, and between two looks.
_TIMEOUT: Final = 0.25
_PAUSE: Final = 0.005
#: Bytes of a stack that are read.
_LONGEST: Final = 16_384


class StackReport:
    """A file in memory that a parent shares with the child that it forks next."""

    def __init__(self) -> None:
        self._file = os.memfd_create("django_tasks-stack") if _SIGNAL is not None and hasattr(os, "memfd_create") else None

    def install(self) -> None:
        """In the child: write the stacks of all threads whenever the parent asks."""
        if self._file is not None and _SIGNAL is not None:
            faulthandler.register(_SIGNAL, file=self._file)

    def ask(self, pid: int) -> str:
        """In the parent: return the stacks of the child's threads, most recent call first.

        "" if they don't come within a quarter of a second.
        """
        if self._file is None or _SIGNAL is None:
            return ""
        # Both processes write at one position.
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        with suppress(ProcessLookupError):
            os.kill(pid, _SIGNAL)
            self._await_end()
        return os.pread(self._file, _LONGEST, 0).decode(errors="replace").rstrip()

    def _await_end(self) -> None:
        before, end = 0, time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            time.sleep(_PAUSE)
            size = os.fstat(self._file or 0).st_size
            if size and size == before:
                return
            before = size

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
