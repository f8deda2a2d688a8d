"""Consuming from RabbitMQ: a window of messages that the server pushes, and settlements in bursts."""

import logging
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final

from django_tasks import clock
from django_tasks.brokers.broker import Consumer
from django_tasks.brokers.kombu import delays
from django_tasks.brokers.kombu.connecting import Losing, Server
from django_tasks.brokers.kombu.declaring import Declared, declare_each, declared
from django_tasks.brokers.kombu.envelopes import envelope_of, outgoing, task_key
from django_tasks.brokers.kombu.frames import Cutter, ack, reject
from django_tasks.brokers.kombu.held import Held, delivery_of, goes_back, last_in_a_row
from django_tasks.brokers.kombu.publishing import Publisher
from django_tasks.brokers.kombu.redeliveries import Redeliveries
from django_tasks.brokers.kombu.waking import Alarm
from django_tasks.brokers.kombu.window import Window
from django_tasks.conf import settings
from django_tasks.kombuaccess import describe
from django_tasks.messages import DELIVERY_COUNT, KEPT_ASIDE, Delivery, Disposition, Envelope, Settlement

logger = logging.getLogger("django_tasks.brokers")

#: Seconds between two looks at the heartbeat.
_HEARTBEAT: Final = 1.0
#: Seconds without wish for messages after which those that are here already go back.
_UNWANTED: Final = 1.0
#: So many times as many messages as are asked for may lie here.
_FEW: Final = 16
#: Seconds for which a window that was just opened may bring more: what waits on the server comes in pieces; and between two pieces.
_LINGER: Final = 0.03
_GAP: Final = 0.01
#: Seconds for which a message that a crash may be the fault of waits until this consumer has nothing else in hands.
_ALONE: Final = 2.0
#: Seconds between extensions that the worker sees to; an AMQP connection's deliveries have no lease beside its heartbeat.
_LEASE: Final = 60.0
#: Seconds between two tries with queues that the server refuses.
_REFUSED_FOR: Final = 30.0


class AMQPConsumer(Consumer):
    """One connection and one channel. A lost connection is noticed by the next call, which raises; the one after it reconnects."""

    pushed: ClassVar[bool] = True

    def __init__(self, server: Server, queues: Sequence[str], *, consumer_id: str, redeliveries: Redeliveries, quarantine: float) -> None:
        self.consumer_id = consumer_id
        self.lease = _LEASE
        self._server = server
        self._names = tuple(dict.fromkeys(queues))
        self._redeliveries = redeliveries
        self._quarantine = quarantine
        self._alarm = Alarm()
        self._connection: Any = None
        self._channel: Any = None
        self._publisher: Publisher | None = None
        self._connections = 0
        self._queues: list[Declared] = []
        #: What is said of queues that the server refuses, by their names, and when they are tried again.
        self._refused: dict[str, str] = {}
        self._refused_until = 0.0
        self._window: Window | None = None
        self._cutter: Any = None
        #: By tag, oldest first: all that is unsettled on this channel.
        self._outstanding: dict[str, Held] = {}
        self._ready: deque[Held] = deque()
        self._unexplained: deque[Held] = deque()
        #: Came again, and nobody says why: each is handed out alone, so that the next crash is held against it and no other.
        self._suspects: deque[Held] = deque()
        self._fresh_redeliveries: list[Held] = []
        self._ticked = 0.0
        self._wanted = self._fitted = clock.monotonic()

    # ---- receiving

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Take up to ``limit`` messages; wait up to ``timeout`` seconds for the first."""
        with self._translating("receiving"):
            self._connect()
            self._tick()
            now = clock.monotonic()
            if self._refused and now >= self._refused_until:
                self._try_refused()
            if limit > 0:
                self._wanted = now
                self._mind_hoarding(limit, now)
                linger_until = now + _LINGER if self._open(limit) else 0.0
            else:
                linger_until = 0.0
                if now - self._wanted > _UNWANTED:
                    self._give_back_what_waits()
            self._collect(limit, now + timeout, linger_until=linger_until)
            return self._taken(limit)

    def catch_up(self) -> None:
        """Return once everything that the server has sent until now can be received, what came again for unknown reasons too."""
        if self._channel is not None:
            with self._translating("receiving"):
                self._await_answer()
                self._read_what_is_here()
                self._ready += [*self._unexplained, *self._suspects, *self._fresh_redeliveries]
                for waiting in (self._unexplained, self._suspects, self._fresh_redeliveries):
                    waiting.clear()

    def _mind_hoarding(self, limit: int, now: float) -> None:
        # What was fetched while tasks were shorter would lie here for long, and other workers may be idle.
        if len(self._ready) <= _FEW * limit:
            self._fitted = now
        elif now - self._fitted > _UNWANTED:
            self._give_back_what_waits()

    def _collect(self, limit: int, deadline: float, *, linger_until: float) -> None:
        transport = self._connection.transport
        while True:
            self._read_what_is_here()
            self._sort_redeliveries()
            now = clock.monotonic()
            if limit > 0 and self._suspect_may_go(now):
                return
            if limit > 0 and self._ready:
                if len(self._ready) >= limit or now >= linger_until:
                    return
                pause = min(_GAP, linger_until - now)
            else:
                pause = self._pause(deadline - now)
            readable, rung = self._alarm.wait(transport.sock, max(0.0, pause))
            if readable:
                transport.fill()
                if not rung:
                    continue
                # Somebody has something for this thread to do, however much there is to read.
                self._read_what_is_here()
            elif limit > 0 and self._ready:
                return
            if rung or clock.monotonic() >= deadline:
                # One more look: what was sorted out meanwhile.
                self._sort_redeliveries()
                return
            self._tick()

    def _pause(self, remaining: float) -> float:
        pause = min(remaining, _HEARTBEAT)
        for waiting in (self._unexplained, self._suspects):
            if waiting:
                pause = min(pause, waiting[0].due - clock.monotonic())
        return pause

    def _suspect_may_go(self, now: float) -> bool:
        return bool(self._suspects) and (self._suspects[0].due <= now or self._in_hands() == 0)

    def _in_hands(self) -> int:
        """How many messages the worker has of this consumer."""
        here = (self._ready, self._unexplained, self._fresh_redeliveries, self._suspects)
        return len(self._outstanding) - sum(map(len, here))

    def _read_what_is_here(self) -> None:
        """Take in what has been read of the connection."""
        transport, window = self._connection.transport, self._window_of_this_channel()
        while True:
            for one in transport.cut(self._cutter):
                # What py-amqp does for the frames that it sees: without it, the connection would look dead.
                self._connection.bytes_recv += 1
                queue = window.sources.get(one.consumer)
                if queue is None:
                    self._write([reject(self._channel.channel_id, one.number, requeue=True)])
                    continue
                envelope = envelope_of(one.properties, one.body, one.exchange, one.routing_key, queue.name)
                self._hold(one.number, envelope, queue, one.consumer, again=one.again)
            if transport.has_frame():
                # Something else, or a message in several pieces.
                self._connection.on_inbound_frame(transport.read_frame())
            elif transport.has_bytes():
                transport.fill()
            else:
                return

    def _taken(self, limit: int) -> list[Delivery]:
        if limit > 0 and self._suspect_may_go(clock.monotonic()):
            taken = [self._suspects.popleft()]
        else:
            taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        again = [held.key for held in taken if held.again and held.key]
        known = self._redeliveries.count(list(dict.fromkeys(again))) if again else {}
        return [delivery_of(held, *known.get(held.key, (1, None))) if held.again else delivery_of(held) for held in taken]

    def _sort_redeliveries(self) -> None:
        """Let those redeliveries through whose row tells what happened; the others wait for it, for a while."""
        fresh, self._fresh_redeliveries = self._fresh_redeliveries, []
        if fresh:
            explained = self._redeliveries.explained([held.key for held in fresh]) if self._quarantine > 0 else set()
            due = clock.monotonic() + self._quarantine
            for held in fresh:
                if held.key in explained or self._quarantine <= 0:
                    self._ready.append(held)
                else:
                    held.due = due
                    self._unexplained.append(held)
        while self._unexplained and self._unexplained[0].due <= clock.monotonic():
            held = self._unexplained.popleft()
            held.due += _ALONE
            self._suspects.append(held)

    def _on_message(self, held_queue: Declared, window: str, message: Any) -> None:
        # The slow way, by py-amqp: a message that came in several pieces.
        info = message.delivery_info
        envelope = envelope_of(message.properties, message.body, info["exchange"], info["routing_key"], held_queue.name)
        self._hold(info["delivery_tag"], envelope, held_queue, window, again=info["redelivered"])

    def _hold(self, number: int, envelope: Envelope, queue: Declared, window: str, *, again: bool) -> None:
        key = task_key(envelope.headers, envelope.properties)
        again = again or KEPT_ASIDE in envelope.headers
        tag = f"{self._connections}.{number}:{key}"
        held = self._outstanding[tag] = Held(number, tag, envelope, queue, window, key, again)
        self._window_of_this_channel().held[window] += 1
        if held.again:
            self._fresh_redeliveries.append(held)
        else:
            self._ready.append(held)

    # ---- the window

    def _open(self, limit: int) -> bool:
        """Ask the server for what is missing; say whether it is a new window, which fills from nothing."""
        return self._window_of_this_channel().widen(limit, waiting=len(self._ready), outstanding=len(self._outstanding))

    def _give_back_what_waits(self) -> None:
        """End the window, and return what nobody asked for, so that others get it."""
        window = self._window_of_this_channel()
        if not (window.is_open or self._ready or self._unexplained or self._fresh_redeliveries or self._suspects):
            return
        window.close()
        self._await_answer()
        waiting = [*self._ready, *self._unexplained, *self._fresh_redeliveries, *self._suspects]
        self._ready.clear()
        self._suspects.clear()
        self._unexplained.clear()
        self._fresh_redeliveries.clear()
        # What came again has not been counted for it yet: its next hand-out will be.
        self._redeliveries.count_back([held.key for held in waiting if held.key and not held.again])
        self._write(reject(self._channel.channel_id, self._drop(held).number, requeue=True) for held in waiting)

    # ---- settling

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Carry out all settlements in one write; what an earlier connection had received is passed over."""
        found = [(held, settlement) for settlement in settlements if (held := self._outstanding.get(settlement.delivery.tag)) is not None]
        if not found:
            return
        with self._translating("settling"):
            self._tick()
            back = [(held, one) for held, one in found if goes_back(one)]
            if back:
                # Or the server would hand it to this consumer again at once, which may be the one that can't run it.
                self._window_of_this_channel().close()
            self._publish_delayed([one for _, one in found if one.disposition is Disposition.DELAY])
            self._redeliveries_settled(found)
            gone = {held.tag: one for held, one in found if not goes_back(one)}
            frames = [*self._acknowledge(gone), *(self._return(held) for held, _ in back)]
            self._write(frames)
            if back:
                # So that whoever asks next finds it there.
                self._await_answer()

    def _await_answer(self) -> None:
        # The server carries out what a channel says in order; to this it answers.
        self._channel.basic_qos(0, 0, False)

    def _redeliveries_settled(self, found: Sequence[tuple[Held, Settlement]]) -> None:
        uncounted = [held.key for held, one in found if goes_back(one) and not one.counted and held.key]
        if uncounted:
            self._redeliveries.count_back(uncounted)
        over = [held.key for held, one in found if held.again and not goes_back(one) and held.key]
        if over:
            self._redeliveries.forget(over)

    def _acknowledge(self, gone: dict[str, Settlement]) -> Iterable[bytes]:
        channel_id = self._channel.channel_id
        rejected = [
            tag
            for tag, one in gone.items()
            if one.disposition is Disposition.DEAD and self._outstanding[tag].queue.has_dead_letter_exchange
        ]
        for tag in rejected:
            # The server gives its copy to the queue's dead letter exchange.
            del gone[tag]
            yield reject(channel_id, self._drop(self._outstanding[tag]).number, requeue=False)
        # The oldest ones in a row go with one frame: everything up to the last of them.
        last = last_in_a_row(self._outstanding, gone)
        if last:
            yield ack(channel_id, last, multiple=True)
        for tag in gone:
            number = self._drop(self._outstanding[tag]).number
            if number > last:
                yield ack(channel_id, number, multiple=False)

    def _return(self, held: Held) -> bytes:
        return reject(self._channel.channel_id, self._drop(held).number, requeue=True)

    def _drop(self, held: Held) -> Held:
        del self._outstanding[held.tag]
        if self._window is not None:
            self._window.left(held.window)
        return held

    def _publish_delayed(self, settlements: Sequence[Settlement]) -> None:
        if not settlements:
            return
        if self._publisher is None:
            self._publisher = Publisher(self._server)
        now = clock.now()
        messages, queues = [], {}
        for one in settlements:
            queue = declared(one.delivery.queue)
            message = outgoing(one.delivery.envelope, queue)
            wait = delays.seconds_until(one.until, now)
            message.exchange, message.routing_key = delays.FIRST_EXCHANGE, delays.routing_key(queue.name, wait)
            count = one.delivery.deliveries - (0 if one.counted else 1)
            message.properties["application_headers"] = {**message.properties["application_headers"], DELIVERY_COUNT: count}
            messages.append(message)
            queues[queue.name] = queue
        self._publisher.publish(messages, queues.values(), queues.values())

    def _write(self, frames: Iterable[bytes]) -> None:
        burst = b"".join(frames)
        if burst:
            self._connection.transport.write(burst)
            self._connection.bytes_sent += 1

    def holds(self, tag: str) -> bool:
        """Whether it came by this connection and is unsettled."""
        return tag in self._outstanding

    def consumes(self, queue: str) -> bool:
        """Whether the server does not refuse it."""
        return queue not in self._refused

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Send a heartbeat if one is due: what an AMQP connection holds is its own as long as it lives."""
        if self._channel is not None:
            with self._translating("sending a heartbeat"):
                self._tick()

    def kept(self, deliveries: Sequence[Delivery]) -> set[str]:
        """Return the tags of those that came by this connection, if the server still knows it; raises OperationalError if not."""
        if self._channel is not None:
            with self._translating("asking whether the connection lives"):
                self._await_answer()
        return {delivery.tag for delivery in deliveries if delivery.tag in self._outstanding}

    def inherit(self, consumer_id: str, started: Collection[str]) -> list[Delivery]:
        """Return nothing: the server has given back already what a dead process held."""
        return []

    # ---- the connection

    def set_queues(self, queues: Sequence[str]) -> None:
        """Receive from exactly these queues from now on."""
        self._names = tuple(dict.fromkeys(queues))
        if self._window is None:
            return
        with self._translating("changing queues"):
            self._give_back_what_waits()
            self._attend()

    def _connect(self) -> None:
        if self._channel is not None:
            return
        _, self._connection = self._server.open(heartbeat=settings.BROKER_HEARTBEAT or 0)
        self._connections += 1
        self._channel = self._connection.channel()
        # Bodies are bytes, whatever their encoding says.
        self._channel.auto_decode = False
        self._cutter = Cutter(self._channel.channel_id)
        self._attend()
        self._wanted = clock.monotonic()

    def _attend(self) -> None:
        self._queues, refused = declare_each(self._connection, [declared(name, own=True) for name in self._names])
        self._note_refusals({name: describe(error) for name, error in refused.items()})
        self._window = Window(self._channel, self._connection, self._queues, self._on_message, known=self._window)

    def _note_refusals(self, refused: dict[str, str]) -> None:
        """Say of each queue once why it is not consumed, and that it is when it is."""
        for name, why in refused.items():
            if self._refused.get(name) != why:
                logger.error(
                    "The queue %r is not consumed (this worker's other queues don't suffer): %s. It is tried again every %.0f s",
                    *(name, why, _REFUSED_FOR),
                )
        for name in self._refused.keys() - refused.keys():
            if name in self._names:
                logger.warning("The queue %r is consumed now", name)
        self._refused, self._refused_until = refused, clock.monotonic() + _REFUSED_FOR

    def _try_refused(self) -> None:
        self._refused_until = clock.monotonic() + _REFUSED_FOR
        accepted, _ = declare_each(self._connection, [declared(name, own=True) for name in self._refused])
        if accepted:
            self._give_back_what_waits()
            self._attend()

    def _window_of_this_channel(self) -> Window:
        assert self._window is not None  # noqa: S101
        return self._window

    def _tick(self) -> None:
        now = clock.monotonic()
        if self._connection is not None and now - self._ticked >= _HEARTBEAT:
            self._ticked = now
            if self._connection.heartbeat:
                self._connection.heartbeat_tick()

    def _translating(self, doing: str) -> Losing:
        return Losing(self._server.translating(doing), self.lose)

    def lose(self) -> None:
        """Forget the connection and what came by it: the server gives it to others."""
        connection, self._connection, self._channel, self._window = self._connection, None, None, None
        for waiting in (self._ready, self._unexplained, self._fresh_redeliveries, self._suspects, self._outstanding):
            waiting.clear()
        if connection is not None:
            with suppress(Exception):
                connection.collect()

    def wake(self) -> None:
        """End a waiting ``receive`` now."""
        self._alarm.ring()

    def close(self) -> None:
        """Close the connection: what is unsettled goes back to its queue."""
        connection = self._connection
        if connection is not None:
            with suppress(Exception):
                if self._window is not None:
                    self._give_back_what_waits()
            with suppress(Exception):
                connection.transport.sock.settimeout(1.0)
                connection.close()
        self.lose()
        if self._publisher is not None:
            self._publisher.pool.close()
        self._alarm.close()
