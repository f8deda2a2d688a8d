"""An alarm that any thread or signal handler may ring while another thread waits for a socket."""

import os
import select
import socket
from contextlib import suppress
from typing import Any


class Alarm:
    """A pipe beside the socket: what is written to it ends the wait."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def ring(self) -> None:
        """End the wait, or the next one."""
        # A full pipe has rung already; a closed one has nobody waiting.
        with suppress(OSError):
            os.write(self._write, b"!")

    def wait(self, sock: socket.socket | None, timeout: float) -> tuple[bool, bool]:
        """Wait until the socket is readable or the alarm rings; say which, the alarm first."""
        watched: list[Any] = [self._read] if sock is None else [sock, self._read]
        poll = select.poll()
        for one in watched:
            poll.register(one, select.POLLIN)
        ready = {number for number, _ in poll.poll(timeout * 1000)}
        rung = self._read in ready
        if rung:
            with suppress(BlockingIOError):
                os.read(self._read, 4096)
        return len(ready) > int(rung), rung

    def close(self) -> None:
        """Let go of the pipe."""
        for end in (self._read, self._write):
            with suppress(OSError):
                os.close(end)
        self._read = self._write = -1
