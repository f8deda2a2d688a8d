"""Events by way of a message broker, as Celery sends and hears them: on the exchange ``celeryev``, by kombu.

Task events of one batch travel as one list, by the key ``task.multi``; every other event, and one that is alone, by its own
key. Where the broker has no topics (Redis), the exchange is a fanout whose channels carry the key.
"""

import logging
import select
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from kombu.transport import TRANSPORT_ALIASES

from django_tasks import clock, kombuaccess
from django_tasks.conf import settings
from django_tasks.events.channel import Event, EventChannel, EventReceiver
from django_tasks.events.routingkeys import EVERYTHING, batch_key_of, matching, routing_key_of
from django_tasks.events.silent import SilentEvents
from django_tasks.exceptions import ImproperlyConfigured, TaskError
from django_tasks.kombuaccess import Line, kombu
from django_tasks.messages import new_id
from django_tasks.serializers import Payload, dumps, loads
from django_tasks.urls import URL, mask

logger = logging.getLogger("django_tasks.events")

#: The group whose events travel together, as Celery's workers send them.
_BUFFERED: Final = "task-"
#: Most events of one message.
_AT_ONCE: Final = 100
#: Transports whose exchange is a fanout: Celery's rule.
_WITHOUT_TOPICS: Final = frozenset({"redis", "gcpubsub"})
#: Most events that a receiver returns at a time.
_RECEIVED_AT_ONCE: Final = 1000
#: Seconds that one look at the connection lasts, and one for what came with the first event.
_LOOK: Final = 1.0
_GLANCE: Final = 0.001
#: Seconds in which Redis confirms a subscription.
_SUBSCRIBED_WITHIN: Final = 4.0
#: Seconds between two looks of transports that can't wait.
_POLLED_EVERY: Final = 0.1
_TRANSIENT: Final = 1


class KombuEvents(EventChannel):
    """Events over the exchange EVENT_EXCHANGE of a message broker; Celery's monitors hear them, and it hears Celery's workers.

    One connection, for all threads; it opens with the first event. Receivers have connections of their own.
    """

    def __init__(self, maker: Callable[[], Any], where: str) -> None:
        """Take what makes a kombu connection, and its name for messages."""
        self._maker = maker
        self._where = where
        self._sender = _Sender(maker, where)

    @classmethod
    def from_urls(cls, urls: Sequence[URL]) -> EventChannel:
        """Open a broker or a fail-over list. Raises ImproperlyConfigured for what kombu can't use."""
        texts = [url.text for url in urls]
        maker = partial(kombuaccess.connection, texts, options={"polling_interval": _POLLED_EVERY})
        # Exchanges of which only the process knows that declared them reach nobody else.
        told = "fanout" in maker().get_transport_cls().implements.exchange_type
        return cls(maker, mask(texts)) if told else SilentEvents(mask(texts))

    @classmethod
    def on(cls, connection: Any) -> Self:
        """Open a channel beside a kombu connection, to the same broker. The connection itself is left alone."""
        return cls(connection.clone, connection.as_uri())

    @classmethod
    def schemes(cls) -> Collection[str]:
        """Names of kombu's transports."""
        return {name.lower() for name in TRANSPORT_ALIASES} | {"amqps", "unix"}

    def send(self, events: Sequence[Event]) -> None:
        """Publish them; on RabbitMQ without waiting for the server."""
        if letters := list(_letters(events)):
            self._sender.using(f"Sending {len(events)} event(s)", lambda: self._sender.publish(letters))

    def listen(self, routing_key: str = EVERYTHING) -> "KombuReceiver":
        """Open a receiver with a queue of its own, which goes when it is closed."""
        return KombuReceiver(self._maker, self._where, routing_key)

    def close(self) -> None:
        """Close the connection that sends."""
        self._sender.close()


@dataclass(frozen=True, slots=True)
class _Letter:
    """A message to publish."""

    routing_key: str
    hostname: str
    payload: Payload


def _letters(events: Sequence[Event]) -> Iterator[_Letter]:
    """Serialize a batch: task events of a node together, where its first one stands; every other event by itself."""
    bundles: list[list[Event]] = []
    open_bundles: dict[str, list[Event]] = {}
    for event in events:
        bundle = open_bundles.get(event["hostname"]) if event["type"].startswith(_BUFFERED) else None
        if bundle is not None and len(bundle) < _AT_ONCE:
            bundle.append(event)
            continue
        bundles.append([event])
        if event["type"].startswith(_BUFFERED):
            open_bundles[event["hostname"]] = bundles[-1]
    return map(_letter, bundles)


def _letter(bundle: list[Event]) -> _Letter:
    first, alone = bundle[0], len(bundle) == 1
    key = routing_key_of(first["type"]) if alone else batch_key_of(first["type"])
    return _Letter(key, first["hostname"], dumps(first if alone else bundle, settings.EVENT_SERIALIZER))


def _exchange(connection: Any) -> Any:
    kind = "fanout" if connection.transport.driver_type in _WITHOUT_TOPICS else "topic"
    return kombu.Exchange(settings.EVENT_EXCHANGE, type=kind)


class _Sender(Line):
    """The connection that sends, and the exchange declared on it."""

    _producer: Any

    def connected(self) -> None:
        channel = self.connection.default_channel
        exchange = _exchange(self.connection)(channel)
        exchange.declare()
        self._producer = kombu.Producer(channel, exchange, auto_declare=False)

    def publish(self, letters: Sequence[_Letter]) -> None:
        """Publish on the open connection."""
        self._heed()
        for letter in letters:
            self._producer.publish(
                letter.payload.body,
                routing_key=letter.routing_key,
                content_type=letter.payload.content_type,
                content_encoding=letter.payload.content_encoding,
                headers={"hostname": letter.hostname},
                delivery_mode=_TRANSIENT,
            )

    def _heed(self) -> None:
        # RabbitMQ answers nothing to a publish: that it has closed the connection since shows only to those who look.
        transport = getattr(self.connection.connection, "transport", None)
        sock = getattr(transport, "sock", None)
        if self.connection.transport.driver_type == "amqp" and sock is not None and select.select([sock], [], [], 0)[0]:
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=_GLANCE)


class KombuReceiver(EventReceiver):
    """Hears events by a queue of its own: exclusive, and gone when it is closed."""

    def __init__(self, maker: Callable[[], Any], where: str, routing_key: str = EVERYTHING) -> None:
        """Take what makes a connection, and its name for messages. Connects, and is heard from then on."""
        self._inbox = _Inbox(maker, where, routing_key)
        self._inbox.using("Listening to events", lambda: None)

    def receive(self, timeout: float | None) -> list[Event]:
        """Return what has come."""
        deadline = None if timeout is None else clock.monotonic() + timeout
        return self._inbox.using("Receiving events", lambda: self._inbox.receive(deadline))

    def close(self) -> None:
        """Delete the queue and close the connection."""
        self._inbox.close()


class _Inbox(Line):
    """The connection that hears, its queues, and what has come out of them."""

    def __init__(self, maker: Callable[[], Any], where: str, routing_key: str) -> None:
        if settings.EVENT_QUEUE_EXCLUSIVE and settings.EVENT_QUEUE_DURABLE:
            raise ImproperlyConfigured("a queue can't be both: switch EVENT_QUEUE_EXCLUSIVE or EVENT_QUEUE_DURABLE off")
        super().__init__(maker, where)
        self._routing_key = routing_key
        self._matches = matching(routing_key)
        self._heard: list[Event] = []

    def connected(self) -> None:
        channel, name = self.connection.default_channel, new_id()
        queues = [self._queue(f"{name}.{number}" if number else name, key) for number, key in enumerate(self._keys())]
        consumer = kombu.Consumer(channel, queues, no_ack=True, on_message=self._take, on_decode_error=_unreadable)
        consumer.consume()
        if getattr(channel, "active_fanout_queues", None):
            _subscribe(channel)

    def _keys(self) -> list[str]:
        # What is sent as a list goes by another key than its events would: both are bound, and what isn't meant is left out here.
        batches = f"{self._routing_key.partition('.')[0]}.multi"
        return [self._routing_key] if self._matches("task-multi") or batches == "#.multi" else [self._routing_key, batches]

    def _queue(self, name: str, key: str) -> Any:
        return kombu.Queue(
            f"{settings.EVENT_QUEUE_PREFIX}.{name}",
            exchange=_exchange(self.connection),
            routing_key=key,
            durable=settings.EVENT_QUEUE_DURABLE,
            auto_delete=not settings.EVENT_QUEUE_DURABLE,
            exclusive=settings.EVENT_QUEUE_EXCLUSIVE,
            message_ttl=settings.EVENT_QUEUE_TTL,
            expires=settings.EVENT_QUEUE_EXPIRES,
        )

    def receive(self, deadline: float | None) -> list[Event]:
        """Wait for events until then (monotonic)."""
        while not self._heard:
            left = _LOOK if deadline is None else deadline - clock.monotonic()
            if not self._drain(max(_GLANCE, min(left, _LOOK))) and left <= 0:
                break
        while self._heard and len(self._heard) < _RECEIVED_AT_ONCE and self._drain(_GLANCE):
            pass
        heard, self._heard = self._heard, []
        return heard

    def _drain(self, seconds: float) -> bool:
        try:
            self.connection.drain_events(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def _take(self, message: Any) -> None:
        accept = {settings.EVENT_SERIALIZER, "json"}
        compression = (message.headers or {}).get("compression")
        try:
            body = loads(message.body, message.content_type, message.content_encoding, accept=accept, compression=compression)
        except TaskError as error:
            logger.warning("An event can't be read: %s", error)
            return
        found = body if isinstance(body, list) else [body]
        self._heard += [event for event in found if _is_event(event) and self._matches(event["type"])]


def _is_event(told: Any) -> bool:
    return isinstance(told, dict) and isinstance(told.get("type"), str)


def _unreadable(message: Any, error: Exception) -> None:
    logger.warning("An event can't be read: %s", error)


def _subscribe(channel: Any) -> None:
    # kombu would do it when it first waits, and events that come before would not be heard.
    channel.connection.cycle.on_poll_start()
    channel.subclient.connection.can_read(timeout=_SUBSCRIBED_WITHIN)
