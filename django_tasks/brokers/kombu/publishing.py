"""Publishing to RabbitMQ: confirmed, in transactions where there are several, over a pool of connections."""

import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from amqp.exceptions import MessageNacked, NotFound

from django_tasks import clock
from django_tasks.brokers.kombu import delays
from django_tasks.brokers.kombu.connecting import Server
from django_tasks.brokers.kombu.declaring import Declared, declare
from django_tasks.brokers.kombu.envelopes import Outgoing
from django_tasks.brokers.kombu.frames import Writer, confirmed
from django_tasks.conf import settings
from django_tasks.exceptions import OperationalError, SoftTimeLimitExceeded

_BLOCKED: Final = "RabbitMQ takes no messages at the moment (it is short of memory or disk: see its log)"
#: Bytes of a batch that are written at once: the server works on them while the next ones are made.
_PIECE: Final = 65536


class Line:
    """One connection for publishing, with a channel that confirms and one that commits."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.client, self.raw = server.open()
        self.blocked = False
        self.raw.on_blocked, self.raw.on_unblocked = self._on_blocked, self._on_unblocked
        self._confirming: Any = None
        self._committing: Any = None
        self._sent = 0
        self._confirmed = 0
        self._refused = False
        self._returned: list[tuple[str, str]] = []
        self._writers: dict[int, Writer] = {}

    # ---- health

    def _on_blocked(self, reason: str) -> None:
        self.blocked = True
        self.raw.transport.sock.settimeout(self._server.patience)

    def _on_unblocked(self) -> None:
        self.blocked = False

    def is_alive(self) -> bool:
        """Whether the server has not ended the connection meanwhile. Costs a system call."""
        try:
            while self.raw.transport.has_frame() or select.select([self.raw.transport.sock], [], [], 0)[0]:
                self.raw.blocking_read()
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # noqa: BLE001  whatever it is, the connection is of no use
            return False
        return bool(self.raw.connected)

    def wait_until_unblocked(self) -> None:
        """Wait while the server takes no messages; raise OperationalError, with nothing sent, if that lasts."""
        deadline = clock.monotonic() + self._server.patience
        while self.blocked:
            left = deadline - clock.monotonic()
            if left <= 0:
                raise OperationalError(f"publishing failed on {self._server}: {_BLOCKED}; nothing was sent")
            with suppress(TimeoutError):
                self.raw.blocking_read(left)

    def close(self) -> None:
        """End the connection; with no word to a server that does not listen."""
        with suppress(Exception):
            if not self.blocked and self.raw.connected:
                self.raw.transport.sock.settimeout(1.0)
                self.raw.close()
        with suppress(Exception):
            self.raw.collect()

    # ---- channels

    def channel(self) -> Any:
        """Open a channel for declarations."""
        return self.raw.channel()

    def send(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Send all of them or none; return those that no queue took. Raises what py-amqp raises."""
        self.wait_until_unblocked()
        self._returned.clear()
        try:
            if len(messages) == 1:
                self._send_one(messages[0])
            else:
                self._send_together(messages)
        except TimeoutError:
            if self.blocked:
                raise OperationalError(f"publishing failed on {self._server}: {_BLOCKED}") from None
            raise
        if not self._returned:
            return []
        gone = set(self._returned)
        return [one for one in messages if (one.exchange, one.routing_key) in gone]

    def _send_one(self, one: Outgoing) -> None:
        channel = self._confirming
        if channel is None:
            channel = self._confirming = self._open()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.confirm_select()
            self._sent = self._confirmed = 0
        self._write(channel, [one])
        self._sent += 1
        while self._confirmed < self._sent:
            # py-amqp takes ten times as long to say the same.
            frame = self.raw.transport.read_frame()
            if number := confirmed(frame, channel.channel_id):
                self._confirmed = max(self._confirmed, number)
            else:
                self.raw.on_inbound_frame(frame)
        if self._refused:
            self._refused = False
            raise MessageNacked("the server refused the message: the queue is full or has no leader")

    def _send_together(self, messages: Sequence[Outgoing]) -> None:
        # A transaction: a connection that breaks half-way leaves nothing behind, which confirms can't promise.
        channel = self._committing
        if channel is None:
            channel = self._committing = self._open()
            channel.tx_select()
        self._write(channel, messages)
        channel.tx_commit()

    def _write(self, channel: Any, messages: Sequence[Outgoing]) -> None:
        writer = self._writers.get(channel.channel_id)
        if writer is None:
            writer = self._writers[channel.channel_id] = Writer(channel.channel_id, self.raw.frame_max)
        pieces: list[bytes] = []
        size = 0
        for one in messages:
            if "user_id" in one.properties and one.properties["user_id"] != self.client.userid:
                # The server refuses any user but the connection's: the message comes from somebody else's, and is sent again.
                del one.properties["user_id"]
            piece = writer.message(one.exchange, one.routing_key, one.properties, one.envelope.body, mandatory=one.mandatory)
            pieces.append(piece)
            size += len(piece)
            if size >= _PIECE:
                self.raw.transport.write(b"".join(pieces))
                pieces, size = [], 0
        if pieces:
            self.raw.transport.write(b"".join(pieces))

    def _open(self) -> Any:
        channel = self.raw.channel()
        channel.events["basic_return"].add(self._on_return)
        return channel

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._confirmed = max(self._confirmed, tag)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._confirmed, self._refused = max(self._confirmed, tag), True

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        self._returned.append((exchange, routing_key))


class Pool:
    """Connections for publishing, BROKER_POOL_LIMIT at most. A forked child starts with none."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._changed = threading.Condition()
        self._idle: list[Line] = []
        self._busy = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # The sockets are the parent's too: they are left as they are, and not closed with words.
        self._changed = threading.Condition()
        self._idle, self._busy = [], 0

    @contextmanager
    def line(self, *, fresh: bool = False) -> Iterator[tuple[Line, bool]]:
        """Lend a connection, and say whether it lay idle before. One that raised is not kept."""
        kept = self._take(fresh=fresh)
        try:
            line = kept or Line(self._server)
        except BaseException:
            self._give_back(None)
            raise
        try:
            yield line, kept is not None
        except BaseException:
            self._give_back(None)
            line.close()
            raise
        self._give_back(line)

    def _take(self, *, fresh: bool) -> Line | None:
        limit = settings.BROKER_POOL_LIMIT or 0
        patience = settings.BROKER_POOL_ACQUIRE_TIMEOUT or self._server.patience
        stale: list[Line] = []
        try:
            with self._changed:
                if limit and not self._changed.wait_for(lambda: self._busy < limit, patience):
                    raise OperationalError(
                        f"all {limit} connections to {self._server} were busy for {patience} s: raise BROKER_POOL_LIMIT, or publish in"
                        " fewer threads"
                    )
                self._busy += 1
                if fresh:
                    stale, self._idle = self._idle, []
                try:
                    while self._idle:
                        stale.append(self._idle.pop())
                        if stale[-1].is_alive():
                            return stale.pop()
                except BaseException:
                    # A task's soft time limit: it must not count as busy for ever.
                    self._busy -= 1
                    raise
                return None
        finally:
            for one in stale:
                one.close()

    def _give_back(self, line: Line | None) -> None:
        with self._changed:
            self._busy -= 1
            keep = line is not None and settings.BROKER_POOL_LIMIT
            if keep and line is not None:
                self._idle.append(line)
            self._changed.notify()
        if line is not None and not keep:
            line.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._changed:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()


class Publisher:
    """Sends messages, declaring each queue once a process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.pool = Pool(server)
        self._declared: set[str] = set()
        self._has_ladder = False

    def publish(self, messages: Sequence[Outgoing], queues: Iterable[Declared], delayed: Iterable[Declared]) -> None:
        """Send all of the messages or none. ``delayed``: queues to which the ladder of delays must lead."""
        queues, delayed = list(queues), list(delayed)
        with self._server.translating("publishing"):
            returned = self._try(messages, queues, delayed)
            if not returned:
                return
            # The queue has gone since it was declared, or its bindings have: declare it again, and address it by its name.
            self._declared.clear()
            self._has_ladder = False
            for one in returned:
                if one.exchange != delays.FIRST_EXCHANGE:
                    one.exchange, one.routing_key = "", one.envelope.queue
            if lost := self._try(returned, queues, delayed):
                names = ", ".join(sorted({one.envelope.queue for one in lost}))
                raise OperationalError(f"publishing failed on {self._server}: no queue took {len(lost)} message(s) to {names}")

    def _try(self, messages: Sequence[Outgoing], queues: list[Declared], delayed: list[Declared]) -> list[Outgoing]:
        try:
            with self.pool.line() as (line, was_idle):
                return self._send(line, messages, queues, delayed)
        except NotFound:
            # An exchange has gone.
            self._declared.clear()
            self._has_ladder = False
        except (OperationalError, SoftTimeLimitExceeded):
            raise
        except Exception:
            # A connection that lay idle may have ended unnoticed; a new one that fails is news.
            if not was_idle:
                raise
        with self.pool.line(fresh=True) as (line, _):
            return self._send(line, messages, queues, delayed)

    def _send(self, line: Line, messages: Sequence[Outgoing], queues: list[Declared], delayed: list[Declared]) -> list[Outgoing]:
        self._declare(line, queues, delayed)
        return line.send(messages)

    def _declare(self, line: Line, queues: list[Declared], delayed: list[Declared]) -> None:
        missing = [queue for queue in queues if queue.name not in self._declared]
        unbound = [queue for queue in delayed if f"delayed {queue.name}" not in self._declared]
        if not missing and not unbound:
            return
        channel = line.channel()
        declare(channel, missing)
        if unbound:
            if not self._has_ladder:
                delays.declare_ladder(_Channels(line.channel))
                self._has_ladder = True
            for queue in unbound:
                delays.bind(channel, queue.queue.name)
        channel.close()
        self._declared.update(queue.name for queue in missing)
        self._declared.update(f"delayed {queue.name}" for queue in unbound)


class _Channels:
    """What kombu's declaration of the ladder needs of a connection."""

    def __init__(self, channel: Callable[[], Any]) -> None:
        self.channel = channel
