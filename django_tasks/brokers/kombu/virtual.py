"""Every transport of kombu but RabbitMQ's: SQS, MongoDB, SQL tables, files, ..., through kombu's channels.

What these can promise differs; see docs/howto/sqs-and-other-transports.md. A message that is given back is published anew with
its count in a header, and then acknowledged, since few of them keep a count themselves.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from kombu.exceptions import ChannelError

from django_tasks import clock
from django_tasks.brokers.broker import Consumer
from django_tasks.brokers.kombu import sqs
from django_tasks.brokers.kombu.connecting import Server
from django_tasks.brokers.kombu.declaring import Declared, declare, declared
from django_tasks.brokers.kombu.envelopes import earlier_deliveries, task_key
from django_tasks.brokers.kombu.redeliveries import Redeliveries
from django_tasks.brokers.kombu.waking import Alarm
from django_tasks.exceptions import OperationalError, SoftTimeLimitExceeded
from django_tasks.layered import changeable
from django_tasks.messages import DELIVERY_COUNT, Delivery, Disposition, Envelope, Settlement

#: Seconds that one look for messages takes at most: how long ``wake`` may go unnoticed.
_SLICE: Final = 0.05
_LEASE: Final = 60.0
_OWN_PROPERTIES: Final = (
    "correlation_id",
    "reply_to",
    "delivery_mode",
    "message_id",
    "app_id",
    "timestamp",
    "type",
    "user_id",
    "cluster_id",
)


class Link:
    """A connection and its channel; for one thread at a time."""

    def __init__(self, server: Server) -> None:
        self.client, self.raw = server.open()
        self.channel = self.client.transport.create_channel(self.raw)
        self.declared: set[str] = set()

    def put(self, envelope: Envelope, queue: Declared, wait: float) -> None:
        """Publish one message."""
        self.declare(queue)
        exchange, routing_key = envelope.exchange or "", envelope.routing_key or envelope.queue
        if queue.broadcast and not exchange:
            exchange = queue.queue.exchange.name
        elif not exchange:
            routing_key = queue.queue.name
        given = envelope.properties
        properties: dict[str, Any] = {name: given[name] for name in _OWN_PROPERTIES if name in given}
        properties["delivery_info"] = {"exchange": exchange, "routing_key": routing_key}
        if wait > 0:
            properties["DelaySeconds"] = math.ceil(wait)
        message = self.channel.prepare_message(
            envelope.body,
            priority=max(0, min(9, envelope.priority)),
            content_type=envelope.content_type,
            content_encoding=envelope.content_encoding,
            headers=changeable(envelope.headers),
            properties=properties,
        )
        self.channel.basic_publish(message, exchange, routing_key)

    def declare(self, queue: Declared) -> None:
        """Declare a queue, once a connection."""
        if queue.name not in self.declared:
            declare(self.channel, [queue])
            self.declared.add(queue.name)

    def close(self) -> None:
        """End the connection; what is unacknowledged is given back by kombu."""
        with suppress(Exception):
            self.client.transport.close_connection(self.raw)


class VirtualPublisher:
    """Publishes over one connection, a thread at a time. A forked child starts with none."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._link: Link | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock, self._link = threading.Lock(), None

    @contextmanager
    def _linked(self, doing: str) -> Any:
        with self._lock, self._server.translating(doing):
            try:
                if self._link is None:
                    self._link = Link(self._server)
                yield self._link
            except Exception:
                link, self._link = self._link, None
                if link is not None:
                    link.close()
                raise

    def publish(self, envelopes: Sequence[Envelope], queues: Sequence[Declared], waits: Sequence[float]) -> None:
        """Publish in order. These transports have no batches: the error of a failure half-way says how many had gone."""
        sent = 0
        with self._linked("publishing") as link:
            try:
                for envelope, queue, wait in zip(envelopes, queues, waits, strict=True):
                    link.put(envelope, queue, wait)
                    sent += 1
            except SoftTimeLimitExceeded:
                raise
            except Exception as error:
                if sent:
                    raise OperationalError(
                        f"publishing failed on {self._server} after {sent} of {len(envelopes)} messages, which have been sent: {error}"
                    ) from error
                raise

    def size(self, queue: Declared) -> int | None:
        """How many messages wait."""
        with self._linked("asking for a queue's size") as link:
            try:
                return int(link.channel.queue_declare(queue.queue.name, passive=True).message_count)
            except (ChannelError, NotImplementedError):
                return 0

    def purge(self, queue: Declared) -> int:
        """Delete what waits."""
        with self._linked("purging a queue") as link:
            link.declare(queue)
            waiting = int(link.channel.queue_declare(queue.queue.name, passive=True).message_count)
            purged = int(link.channel.queue_purge(queue.queue.name) or 0)
            # kombu adds up ten answers of SQS to one question.
            return waiting if self._server.scheme == "sqs" else purged

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()


@dataclass(slots=True)
class _Held:
    number: int
    message: Any
    queue: Declared
    key: str


class VirtualConsumer(Consumer):
    """One connection that asks its transport for messages in short slices."""

    pushed: ClassVar[bool] = True

    def __init__(self, server: Server, queues: Sequence[str], *, consumer_id: str, redeliveries: Redeliveries, quarantine: float) -> None:
        self.consumer_id = consumer_id
        self._server = server
        self._is_sqs = server.scheme == "sqs"
        self.lease = sqs.visibility_timeout() if self._is_sqs else _LEASE
        self._names = tuple(dict.fromkeys(queues))
        self._alarm = Alarm()
        self._link: Link | None = None
        self._connections = 0
        self._number = 0
        self._held: dict[int, _Held] = {}
        self._ready: deque[_Held] = deque()
        self._consumer_tags: list[str] = []

    # ---- receiving

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Take up to ``limit`` messages; wait up to ``timeout`` seconds for the first."""
        deadline = clock.monotonic() + timeout
        if limit <= 0:
            self._alarm.wait(None, max(0.0, timeout))
            return []
        try:
            with self._server.translating("receiving"):
                link = self._connected()
                link.channel.basic_qos(0, len(self._held) + max(0, limit - len(self._ready)), False)
                self._gather(link, limit, deadline)
                taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
                return [self._delivery(held) for held in taken]
        except OperationalError:
            self._lose()
            raise

    def _gather(self, link: Link, limit: int, deadline: float) -> None:
        transport = link.client.transport
        while len(self._ready) < limit:
            before = len(self._ready)
            left = deadline - clock.monotonic()
            try:
                transport.drain_events(link.raw, timeout=0 if self._ready else max(0.0, min(left, _SLICE)))
            except TimeoutError:
                if self._ready:
                    return
            if self._ready and self._is_sqs and len(self._ready) - before < sqs.LARGEST_ANSWER:
                # Asking once more would wait for as long as a long poll does.
                return
            _, rung = self._alarm.wait(None, 0)
            if not self._ready and (rung or clock.monotonic() >= deadline):
                return

    def _delivery(self, held: _Held) -> Delivery:
        message = held.message
        headers = message.headers or {}
        info = message.delivery_info or {}
        body = message.body
        given = message.properties or {}
        exchange, routing_key = info.get("exchange") or "", info.get("routing_key") or held.queue.name
        priority = given.get("priority") or 0
        properties: dict[str, Any] = {name: given[name] for name in _OWN_PROPERTIES if name in given}
        properties.update(delivery_info={"exchange": exchange, "routing_key": routing_key}, priority=priority)
        envelope = Envelope(
            body=body if isinstance(body, bytes) else str(body or "").encode(),
            content_type=message.content_type or "application/data",
            content_encoding=message.content_encoding or "binary",
            headers=headers,
            properties=properties,
            queue=held.queue.name,
            priority=int(priority),
            exchange=exchange,
            routing_key=routing_key,
        )
        again = sqs.receive_count(message) - 1 if self._is_sqs else int(_came_back(message))
        deliveries = 1 + earlier_deliveries(headers) + max(0, again)
        return Delivery(envelope, f"{self._connections}.{held.number}:{held.key}", held.queue.name, deliveries)

    def _arrived(self, queue: Declared, message: Any) -> None:
        self._number += 1
        held = _Held(self._number, message, queue, task_key(message.headers or {}, message.properties or {}))
        self._held[held.number] = held
        self._ready.append(held)

    # ---- settling

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Carry out all settlements, one by one."""
        try:
            with self._server.translating("settling"):
                for settlement in settlements:
                    held = self._find(settlement.delivery)
                    if held is not None and self._link is not None:
                        self._settle(self._link, held, settlement)
        except OperationalError:
            self._lose()
            raise

    def _settle(self, link: Link, held: _Held, settlement: Settlement) -> None:
        if settlement.disposition in (Disposition.REQUEUE, Disposition.DELAY):
            # First the new one, then the old: a crash in between doubles the message and does not lose it.
            delivery = settlement.delivery
            wait = (settlement.until - clock.now()).total_seconds() if settlement.until is not None else 0.0
            link.put(_counted(delivery, counted=settlement.counted), held.queue, wait)
        del self._held[held.number]
        if settlement.disposition is Disposition.DEAD:
            link.channel.basic_reject(held.message.delivery_tag, requeue=False)
        else:
            link.channel.basic_ack(held.message.delivery_tag)

    def _find(self, delivery: Delivery) -> _Held | None:
        connection, _, number = delivery.tag.partition(":")[0].partition(".")
        return self._held.get(int(number)) if connection == str(self._connections) else None

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """SQS: keep these invisible to others for as long again. Other transports have no such thing."""
        held = [one for delivery in deliveries if (one := self._find(delivery)) is not None]
        if self._is_sqs and self._link is not None:
            with self._server.translating("extending"):
                for one in held:
                    sqs.keep(self._link.channel, one.message, self.lease)

    def inherit(self, consumer_id: str, started: Collection[str]) -> list[Delivery]:
        """Return nothing: what a dead process held is the transport's business."""
        return []

    # ---- the connection

    def set_queues(self, queues: Sequence[str]) -> None:
        """Receive from exactly these queues from now on."""
        self._names = tuple(dict.fromkeys(queues))
        if self._link is not None:
            with self._server.translating("changing queues"):
                self._attend(self._link)

    def _connected(self) -> Link:
        if self._link is None:
            self._link = Link(self._server)
            self._connections += 1
            self._attend(self._link)
        return self._link

    def _attend(self, link: Link) -> None:
        for tag in self._consumer_tags:
            link.channel.basic_cancel(tag)
        self._consumer_tags = []
        for name in self._names:
            queue = declared(name, own=True)
            declare(link.channel, [queue])
            self._number += 1
            tag = f"django-tasks-{self._number}"
            link.channel.basic_consume(
                queue.queue.name, no_ack=False, callback=lambda message, queue=queue: self._arrived(queue, message), consumer_tag=tag
            )
            self._consumer_tags.append(tag)

    def _lose(self) -> None:
        link, self._link = self._link, None
        self._held.clear()
        self._ready.clear()
        self._consumer_tags = []
        if link is not None:
            link.close()

    def wake(self) -> None:
        """End a waiting ``receive`` within a twentieth of a second (SQS: a second)."""
        self._alarm.ring()

    def close(self) -> None:
        """Let go: kombu gives back what is unsettled."""
        self._lose()
        self._alarm.close()


def _came_back(message: Any) -> bool:
    info = message.delivery_info or {}
    return bool(info.get("redelivered") or getattr(message, "_raw", {}).get("redelivered"))


def _counted(delivery: Delivery, *, counted: bool) -> Envelope:
    count = delivery.deliveries if counted else delivery.deliveries - 1
    headers = {name: value for name, value in delivery.envelope.headers.items() if name != DELIVERY_COUNT}
    if count:
        headers[DELIVERY_COUNT] = count
    return replace(delivery.envelope, headers=headers, exchange="", routing_key="")
