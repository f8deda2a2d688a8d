"""kombu's connection to RabbitMQ, with a transport that reads as much as there is with one system call."""

import socket
from struct import Struct
from typing import Any

from amqp.exceptions import UnexpectedFrame
from amqp.transport import SSLTransport, TCPTransport
from kombu.transport import pyamqp

from django_tasks.brokers.kombu.frames import END, Arrival, Cutter

#: Bytes asked of the socket at once: some 400 messages, so that what a worker does for a batch is done for many.
_CHUNK = 262144
_HEADER = Struct(">BHI")


class _Buffered:
    """Reads frames out of a buffer; py-amqp's own way asks the system three times a frame."""

    sock: socket.socket | None
    connected: bool
    _received: bytes = b""
    _position: int = 0

    def read_frame(self, *_: Any) -> tuple[int, int, bytes]:
        """Return the next frame: type, channel, payload. Raises OSError; after a TimeoutError nothing is lost."""
        while True:
            start, buffer = self._position, self._received
            if len(buffer) - start >= 8:
                kind, channel, size = _HEADER.unpack_from(buffer, start)
                end = start + 7 + size
                if end < len(buffer):
                    self._position = end + 1
                    if buffer[end] != END:
                        raise UnexpectedFrame(f"a frame ends with {buffer[end]:#x}")
                    return kind, channel, buffer[start + 7 : end]
            self.fill()

    def cut(self, cutter: Cutter) -> list[Arrival]:
        """Return the messages that lie whole in the buffer, up to the first frame of another kind."""
        found, self._position = cutter.cut(self._received, self._position)
        return found

    def has_frame(self) -> bool:
        """Whether ``read_frame`` has one without waiting."""
        start = self._position
        if len(self._received) - start < 8:
            return False
        size: int = _HEADER.unpack_from(self._received, start)[2]
        return start + 7 + size < len(self._received)

    def has_bytes(self) -> bool:
        """Whether TLS has decrypted bytes that ``select`` knows nothing of."""
        pending = getattr(self.sock, "pending", None)
        return pending is not None and pending() > 0

    def fill(self) -> None:
        """Read what is there; wait, as long as the socket may, while there is nothing. Raises OSError."""
        if self.sock is None:
            raise OSError("the connection is closed")
        try:
            chunk = self.sock.recv(_CHUNK)
        except TimeoutError:
            raise
        except OSError:
            self.connected = False
            raise
        if not chunk:
            self.connected = False
            raise OSError("the server closed the connection")
        self._received = self._received[self._position :] + chunk
        self._position = 0


class _TCP(_Buffered, TCPTransport):  # type: ignore[misc]
    pass


class _TLS(_Buffered, SSLTransport):  # type: ignore[misc]
    pass


class AMQPConnection(pyamqp.Connection):
    """py-amqp's connection over the buffered reader."""

    def Transport(self, host: str, connect_timeout: float | None, ssl: Any = False, *args: Any, **options: Any) -> Any:  # noqa: N802
        """Make the transport: plain, or TLS where ``ssl`` is set."""
        names = ("read_timeout", "write_timeout", "socket_settings")
        options.update(zip(names, args, strict=False))
        return (_TLS if ssl else _TCP)(host, connect_timeout=connect_timeout, ssl=ssl, **options)


class AMQPTransport(pyamqp.Transport):
    """kombu's transport for amqp://, with our connection."""

    Connection = AMQPConnection


class AMQPSTransport(pyamqp.SSLTransport):
    """kombu's transport for amqps://, with our connection."""

    Connection = AMQPConnection
