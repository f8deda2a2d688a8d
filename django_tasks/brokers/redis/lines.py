"""Connections to a server, used one at a time.

redis-py's client looks up, times and traces each command, which takes longer than the command itself: a line writes to the
connection and reads the answer.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from django_tasks.exceptions import OperationalError
from django_tasks.redisaccess import RedisServer

#: Bytes from which commands leave before the rest is packed.
_PIECE: Final = 64 * 1024


class Line:
    """One connection, which connects when something is sent. After an error that is no answer it is closed."""

    __slots__ = ("_connected", "connection")

    def __init__(self, server: RedisServer) -> None:
        self.connection = server.connection()
        self._connected = False

    def call(self, *command: Any) -> Any:
        """Send a command and return its answer. Raises redis-py's errors."""
        connection = self.connection
        try:
            if not self._connected:
                self._connect()
            connection.send_packed_command(connection.pack_command(*command))
            return connection.read_response()
        except ResponseError:
            # An answer, too: what comes next on this connection belongs to the next command.
            raise
        except BaseException:
            # Also for what a signal handler raises: half an answer may be on its way.
            self.close()
            raise

    def send(self, *command: Any) -> None:
        """Send a command whose answer is read with ``read`` later on."""
        try:
            if not self._connected:
                self._connect()
            self.connection.send_command(*command)
        except BaseException:
            self.close()
            raise

    def read(self) -> Any:
        """Read the answer to what was sent before."""
        try:
            return self.connection.read_response()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        # Sending would connect, too, but not to the master that sentinels name.
        self.connection.connect()
        self._connected = True

    def calls(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Send commands together and return their answers; the first error among them is raised when all are read.

        Many leave in pieces, as they are made, so that the server reads one while the next is written.
        """
        asked = _Packing(self.connection, commands)
        try:
            if not self._connected:
                self._connect()
            self.connection.send_packed_command(asked)
            answers = [self._answer() for _ in range(asked.count)]
        except BaseException:
            self.close()
            raise
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    def transaction(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Carry out all commands or none, in one round trip. What is refused is raised, and nothing has happened."""
        answers: list[Any] = self.calls(chain((("MULTI",),), commands, (("EXEC",),)))[-1]
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    def tries(self, commands: Sequence[Sequence[Any]]) -> None:
        """Send commands together whose refusal doesn't matter."""
        with suppress(ResponseError):
            self.calls(commands)

    def _answer(self) -> Any:
        try:
            return self.connection.read_response()
        except ResponseError as error:
            return error

    def usable(self) -> bool:
        """Whether the connection can be used again: between two commands the end of it is all that could be read."""
        try:
            return not self.connection.can_read(timeout=0)
        except (RedisConnectionError, OSError):
            return False

    def close(self) -> None:
        """Disconnect."""
        self._connected = False
        with suppress(RedisError, OSError):
            self.connection.disconnect()


class _Packing:
    """Packs commands while they are sent, and counts them."""

    __slots__ = ("_commands", "_connection", "count")

    def __init__(self, connection: Any, commands: Iterable[Sequence[Any]]) -> None:
        self._connection = connection
        self._commands = commands
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        pack = self._connection.pack_command
        pieces: list[bytes] = []
        size = 0
        for command in self._commands:
            self.count += 1
            for piece in pack(*command):
                pieces.append(piece)
                size += len(piece)
            if size >= _PIECE:
                yield b"".join(pieces)
                pieces, size = [], 0
        yield b"".join(pieces)


class Loan:
    """A line for the length of a ``with`` block. By hand: a generator would take longer than packing a command."""

    __slots__ = ("_at", "_doing", "_line", "_lines")

    def __init__(self, lines: "Lines", doing: str) -> None:
        self._lines = lines
        self._doing = doing

    def __enter__(self) -> Line:
        lines = self._lines
        lines.enter(self._doing)
        self._at = lines.server.at
        try:
            self._line = lines.take()
        except RedisError as error:
            lines.leave()
            raise lines.server.failure(error, self._doing, self._at) from error
        except BaseException:
            lines.leave()
            raise
        return self._line

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        lines = self._lines
        try:
            if error is None or isinstance(error, ResponseError):
                lines.give_back(self._line)
            elif isinstance(error, RedisError):
                # The others were opened to the same place.
                lines.close()
        finally:
            lines.leave()
        if isinstance(error, RedisError):
            raise lines.server.failure(error, self._doing, self._at) from error


class Lines:
    """Idle lines to a server, the one used last first. Safe for threads; ``forget`` is for forked children."""

    def __init__(self, server: RedisServer, *, most: int | None, patience: float) -> None:
        """``most`` lines may be in use at once (None: any number, 0: none is kept); ``patience`` seconds are waited for one."""
        self.server = server
        self._most = most
        self._patience = patience
        self.forget()

    def forget(self) -> None:
        """Begin anew without closing anything: in a forked child, the connections are the parent's."""
        self._idle: list[Line] = []
        # Tokens in a queue and not a semaphore: that is written in Python, this in C.
        self._room: SimpleQueue[None] | None = SimpleQueue() if self._most else None
        for _ in range(self._most or 0):
            self.leave()

    def line(self, doing: str) -> Loan:
        """Lend a line. What goes wrong is raised as OperationalError: ``doing`` says what was being done."""
        return Loan(self, doing)

    def enter(self, doing: str) -> None:
        """Wait until one more line may be used."""
        if self._room is None:
            return
        try:
            self._room.get(timeout=self._patience)
        except Empty:
            raise OperationalError(
                f"{doing} failed: none of {self._most} connections to {self.server.urls[0]} got free in {self._patience:g} s;"
                " BROKER_POOL_LIMIT says how many there may be"
            ) from None

    def leave(self) -> None:
        """Let the next one in."""
        if self._room is not None:
            self._room.put(None)

    def give_back(self, line: Line) -> None:
        """Keep a line for the next one who asks."""
        if self._most != 0:
            self._idle.append(line)
        else:
            line.close()

    def take(self) -> Line:
        """Return a line that works, as far as can be seen."""
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if line.usable():
                return line
            line.close()
        return Line(self.server)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()
