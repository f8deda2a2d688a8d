"""A relay in front of a server, which a test can cut, close and stall: how a shared server "goes away" for one test only."""

import socket
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """Listens on a port of its own and passes everything on to ``host:port``. Use it as a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener: socket.socket | None = None
        #: Where clients connect; the same for all its life.
        self.port = 0
        #: How many connections it has taken.
        self.taken = 0

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self._flowing.set()

    def open(self) -> None:
        """Take connections (again)."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse new connections and cut the others, as a server does that is shut down."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # shutdown() ends the waiting accept(), which close() alone does not.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """End all connections; new ones are welcome at once."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            _end(each)

    def stall(self) -> None:
        """Pass nothing on, and say nothing of it: a network that swallows."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on again, what was held back first."""
        self._flowing.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                _end(client)
                continue
            server.settimeout(None)
            with suppress(OSError):
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.taken += 1
                self._sockets |= {client, server}
            # From here on cut() ends this connection, too, even before it passes anything on.
            if self._listener is not listener:
                _end(client)
                _end(server)
                return
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
        for each in (source, sink):
            _end(each)
            with self._lock:
                self._sockets.discard(each)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
