"""The broker behind every URL that kombu understands."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any, ClassVar, Self

from amqp.exceptions import NotFound
from kombu.transport import TRANSPORT_ALIASES

from django_tasks import clock, routing
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.brokers.kombu import delays
from django_tasks.brokers.kombu.connecting import Server
from django_tasks.brokers.kombu.consumer import AMQPConsumer
from django_tasks.brokers.kombu.declaring import QUEUE_TYPE, Declared, declared
from django_tasks.brokers.kombu.envelopes import Outgoing, key_of_tag, outgoing
from django_tasks.brokers.kombu.publishing import Publisher
from django_tasks.brokers.kombu.redeliveries import Redeliveries
from django_tasks.brokers.kombu.virtual import VirtualConsumer, VirtualPublisher
from django_tasks.conf import settings
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Death, Envelope
from django_tasks.urls import URL

#: SQS keeps a message aside for 15 minutes at most.
_SQS_LONGEST = 900.0
#: Transports without RabbitMQ that sort by priority.
_SORTED = frozenset({"mongodb", "zookeeper"})


class KombuBroker(Broker):
    """RabbitMQ over AMQP, and every other transport of kombu through its virtual channels.

    ``quarantine``: seconds for which a message that comes again waits before it is handed out, so that whoever saw the
    process die that ran it can write down how.
    """

    #: Of RabbitMQ with quorum queues, and of SQS: in whole seconds, and with no look into what waits.
    delays = False
    joins_transaction: ClassVar[bool] = False
    recovers: ClassVar[bool] = False
    #: RabbitMQ's priorities hold within a queue that TASK_QUEUE_MAX_PRIORITY declares, not across queues.
    priorities: ClassVar[int] = 1
    quarantine: float = 1.0

    def __init__(self, urls: Sequence[URL], **transport_options: Any) -> None:
        self.server = Server(urls, **transport_options)
        self._queues: dict[str, Declared] = {}
        self._router: Any = None
        self.wants_settling_soon = self.server.native
        self._amqp = Publisher(self.server) if self.server.native else None
        self._virtual = None if self.server.native else VirtualPublisher(self.server)
        self.redeliveries = Redeliveries()
        self.longest_delay = self._longest_delay()
        self.delays = self.longest_delay > 0

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open one URL."""
        return cls([url])

    @classmethod
    def from_urls(cls, urls: Sequence[URL]) -> Self:
        """Open a fail-over list: the first URL that answers is used."""
        return cls(urls)

    @classmethod
    def schemes(cls) -> Collection[str]:
        """Names of kombu's transports."""
        return {name.lower() for name in TRANSPORT_ALIASES} | {"amqps"}

    def _longest_delay(self) -> float:
        if self.server.scheme == "sqs":
            return _SQS_LONGEST
        if not self.server.native:
            return 0.0
        # Celery's rule: where quorum queues are used, the ladder is.
        kinds = {settings.TASK_DEFAULT_QUEUE_TYPE, settings.TASK_CREATE_MISSING_QUEUE_TYPE}
        kinds.update(self.queue(name).arguments.get(QUEUE_TYPE, "classic") for name in routing.current().queue_names)
        return delays.LONGEST if "quorum" in kinds else 0.0

    def queue(self, name: str) -> Declared:
        """Describe a queue by its name."""
        router = routing.current()
        if router is not self._router:
            # The settings have changed.
            self._router, self._queues = router, {}
        found = self._queues.get(name)
        if found is None:
            found = self._queues[name] = declared(name)
        return found

    def belongs_to_one(self, queue: str) -> bool:
        """Whether it is a broadcast's."""
        return self.queue(queue).broadcast

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Hand over all envelopes or none (virtual transports: one by one, in order).

        Raises OperationalError when the server can't be reached, refuses, is short of memory, or no queue takes a message; and
        for a ``not_before`` beyond ``longest_delay``.
        """
        if not envelopes:
            return
        now = clock.now()
        waits = [delays.seconds_until(envelope.not_before, now) for envelope in envelopes]
        self._check_delays(envelopes, waits)
        if not self.longest_delay:
            # What is due within a second goes out at once: a worker keeps it until its time.
            waits = [0.0] * len(waits)
        if self._virtual is not None:
            self._virtual.publish(envelopes, [self.queue(envelope.queue) for envelope in envelopes], waits)
            return
        queues = {envelope.queue: self.queue(envelope.queue) for envelope in envelopes}
        delayed = {envelope.queue for envelope, wait in zip(envelopes, waits, strict=True) if wait > 0}
        messages = [_addressed(outgoing(envelope, queues[envelope.queue]), wait) for envelope, wait in zip(envelopes, waits, strict=True)]
        assert self._amqp is not None  # noqa: S101  one of both is there
        self._amqp.publish(messages, queues.values(), [queues[name] for name in delayed])

    def _check_delays(self, envelopes: Sequence[Envelope], waits: Sequence[float]) -> None:
        for envelope, wait in zip(envelopes, waits, strict=True):
            # A moment that has nearly come is not worth an error: it is published at once.
            if wait > max(self.longest_delay, 1.0):
                raise OperationalError(
                    f"{self.server} keeps messages for {self.longest_delay:.0f} s at most, but one for the queue {envelope.queue!r} is"
                    f" to wait {wait:.0f} s; the client parks such messages in the database, so publish with apply_async"
                )

    def consume(self, queues: Sequence[str], *, consumer_id: str) -> Consumer:
        """Open a consumer of these queues. Connects when first used."""
        kind = AMQPConsumer if self.server.native else VirtualConsumer
        return kind(self.server, queues, consumer_id=consumer_id, redeliveries=self.redeliveries, quarantine=self.quarantine)

    def promote(self, now: datetime, *, limit: int) -> int:
        """Return 0: the server makes delayed messages receivable by itself."""
        return 0

    def recover(self, now: datetime, *, limit: int) -> int:
        """Return 0: the server gives back what a broken connection held by itself."""
        return 0

    def size(self, queue: str) -> int | None:
        """How many messages wait in the queue; delayed ones are elsewhere, and not counted."""
        if self._virtual is not None:
            return self._virtual.size(self.queue(queue))
        with self._channel("asking for a queue's size") as channel:
            try:
                return int(channel.queue_declare(self.queue(queue).queue.name, passive=True).message_count)
            except NotFound:
                return 0

    def queues(self) -> list[str]:
        """Names of known queues that hold messages; AMQP has no way to ask for others."""
        known = {*self._queues, *routing.current().queue_names}
        return sorted(name for name in known if self.size(name))

    def purge(self, queue: str) -> int:
        """Delete what waits in the queue."""
        if self._virtual is not None:
            return self._virtual.purge(self.queue(queue))
        with self._channel("purging a queue") as channel:
            try:
                return int(channel.queue_purge(self.queue(queue).queue.name) or 0)
            except NotFound:
                return 0

    @contextmanager
    def _channel(self, doing: str) -> Iterator[Any]:
        assert self._amqp is not None  # noqa: S101  virtual transports don't come here
        with self.server.translating(doing), self._amqp.pool.line() as (line, _), closing(line.channel()) as channel:
            yield channel

    def priority_step(self, queue: str, priority: int) -> int:
        """Return the step of a priority in this queue, as it is declared."""
        if self.server.native:
            return self.queue(queue).priority_step(priority)
        return max(0, min(priority, 9)) if self.server.scheme in _SORTED else 0

    def remember_deaths(self, deaths: Mapping[str, Death]) -> None:
        """Write down how the process died that ran these deliveries (by tag), for the consumer that gets them next."""
        self.redeliveries.remember({key_of_tag(tag): death for tag, death in deaths.items()})

    def close(self) -> None:
        """Close this process's connections."""
        if self._amqp is not None:
            self._amqp.pool.close()
        if self._virtual is not None:
            self._virtual.close()


def _addressed(message: Outgoing, wait: float) -> Outgoing:
    if wait > 0:
        message.exchange, message.routing_key = delays.FIRST_EXCHANGE, delays.routing_key(message.envelope.queue, wait)
        # Topic exchanges lead through the ladder, and every rung has a queue or a way past it.
        message.mandatory = True
    return message
