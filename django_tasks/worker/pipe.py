"""The command pipe between the supervisor and its children: JSON lines over a socket pair."""

import json
import socket
import threading
from collections.abc import Mapping
from typing import Any, Self


class Channel:
    """One end. Commands are small dictionaries with a ``do`` key.

    ``send`` never blocks: what the other side has not read yet is kept here, so a child that hangs can't stop the
    supervisor.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._outgoing = b""
        #: A child's consumer answers in its own thread, while another one reads.
        self._sending = threading.Lock()
        self._incoming = b""
        #: The other side has gone.
        self.closed = False

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Make both ends."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Make it usable with ``select``."""
        return self._socket.fileno()

    def send(self, command: Mapping[str, Any]) -> None:
        """Queue a command and send as much as the other side takes now."""
        line = json.dumps(command).encode() + b"\n"
        with self._sending:
            self._outgoing += line
        self.push()

    def push(self) -> None:
        """Send on what is queued."""
        try:
            with self._sending:
                while self._outgoing and not self.closed:
                    self._outgoing = self._outgoing[self._socket.send(self._outgoing) :]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True

    def receive(self) -> list[dict[str, Any]]:
        """Return the commands that have arrived; never waits. Sets ``closed`` when there will be no more."""
        self.push()
        try:
            while True:
                part = self._socket.recv(65536)
                if not part:
                    self.closed = True
                    break
                self._incoming += part
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        *lines, self._incoming = self._incoming.split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close this end."""
        self.closed = True
        self._socket.close()
