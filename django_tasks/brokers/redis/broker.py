"""``RedisBroker``: messages in kombu's lists, which Celery's workers and producers can share."""

import os
import random
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple, Self

from django_tasks import clock
from django_tasks.brokers.broker import Broker
from django_tasks.brokers.redis import options as transport
from django_tasks.brokers.redis import wire
from django_tasks.brokers.redis.bindings import binding_of
from django_tasks.brokers.redis.consumer import RedisConsumer
from django_tasks.brokers.redis.keys import Keys
from django_tasks.brokers.redis.lines import Line, Lines
from django_tasks.brokers.redis.recovery import recover_abandoned, recover_lapsed
from django_tasks.brokers.redis.scripts import script
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.messages import Envelope
from django_tasks.redisaccess import RedisServer
from django_tasks.urls import URL

#: Seconds after which kombu takes a message for lost, unless the transport options say otherwise.
VISIBILITY_TIMEOUT: Final = 3600.0
#: Seconds in which the server must answer, unless the transport options say otherwise.
_SOCKET_TIMEOUT: Final = 60.0
#: Most messages, and bytes, that one command of a batch holds: the server reads it while the next is written.
_MESSAGES: Final = 250
_BYTES: Final = 4 * 1024 * 1024
#: A delayed message that is due within these seconds is announced, so that nobody sleeps past it.
_SOON: Final = 2.0
#: Most pairs of queue and priority whose keys are remembered.
_PLACES: Final = 1000


class _Place(NamedTuple):
    """Where messages of one queue and priority go."""

    label: str
    #: The list of those that are not delayed.
    ready: str
    bell: str
    #: The priority as kombu is told.
    said: int


class RedisBroker(Broker):
    """Messages in Redis: kombu's lists and tables, leases beside them, delayed messages in sorted sets.

    ``options`` are those of BROKER_TRANSPORT_OPTIONS.
    """

    delays = True
    joins_transaction: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    priorities: ClassVar[int] = 10

    def __init__(self, server: RedisServer, options: Mapping[str, Any]) -> None:
        self.server = server
        self.keys: Keys = transport.keys_of(options)
        self._options = options
        patience, limit = settings.BROKER_POOL_ACQUIRE_TIMEOUT, options.get("max_connections") or settings.BROKER_POOL_LIMIT
        self._lines = Lines(server, most=limit, patience=settings.BROKER_CONNECTION_TIMEOUT if patience is None else patience)
        #: By queue and priority.
        self._places: dict[tuple[str, int], _Place] = {}
        #: Queues that are known to be no broadcasts.
        self._checked: set[str] = set()
        _brokers.add(self)

    @classmethod
    def from_urls(cls, urls: Sequence[URL]) -> Self:
        """Open the first of these addresses that answers; for ``sentinel://``, the master that those addresses know of."""
        options = transport.checked(settings.BROKER_TRANSPORT_OPTIONS)
        for_redis_py = {
            "socket_connect_timeout": settings.BROKER_CONNECTION_TIMEOUT,
            "socket_timeout": _SOCKET_TIMEOUT,
            **{name: value for name, value in options.items() if name in transport.REDIS_PY},
            "ssl": settings.BROKER_USE_SSL,
        }
        # Random, so that a cluster of workers is spread over servers that are equals.
        order = random.sample(urls, len(urls)) if settings.BROKER_FAILOVER_STRATEGY == "shuffle" else urls
        server = RedisServer(order, for_redis_py, setting="BROKER_URL")
        server.check()
        return cls(server, options)

    # ---- publishing

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Hand over all envelopes or none, in one round trip."""
        if not envelopes:
            return
        for envelope in envelopes:
            if envelope.queue not in self._checked:
                self._check(envelope.queue)
                self._checked.add(envelope.queue)
        if len(envelopes) == 1 and envelopes[0].not_before is None:
            self._publish_one(envelopes[0])
            return
        with self._lines.line(f"Publishing {len(envelopes)} message(s)") as line:
            line.transaction(self._commands(envelopes))

    def _publish_one(self, envelope: Envelope) -> None:
        place = self._place(envelope.queue, envelope.priority)
        payload = wire.write(envelope, place.said)
        with self._lines.line("Publishing 1 message") as line:
            script("publish").call(line, (place.ready, place.bell, self.keys.queues), payload, envelope.queue)

    def _commands(self, envelopes: Sequence[Envelope]) -> Iterator[tuple[Any, ...]]:
        keys, now = self.keys, clock.now()
        ready: defaultdict[str, _Part] = defaultdict(_Part)
        bells: set[str] = set()
        for envelope in envelopes:
            place, due = self._place(envelope.queue, envelope.priority), envelope.not_before
            payload = wire.write(envelope, place.said)
            wait = 0.0 if due is None else (due - now).total_seconds()
            if due is not None and wait > 0:
                yield "ZADD", keys.delayed(envelope.queue), due.timestamp(), place.label.encode() + b"\n" + payload
            else:
                part = ready[place.ready]
                if part.is_full(payload):
                    yield "LPUSH", place.ready, *part.payloads
                    part = ready[place.ready] = _Part()
                part.add(payload)
            if wait < _SOON:
                bells.add(place.bell)
        for name, part in ready.items():
            yield "LPUSH", name, *part.payloads
        yield "SADD", keys.queues, *{envelope.queue for envelope in envelopes}
        for bell in bells:
            # One token is enough: whoever takes it, and leaves something behind, rings again.
            yield from (("LPUSH", bell, "1"), ("LTRIM", bell, 0, 0), ("PEXPIRE", bell, 10_000))

    def _place(self, queue: str, priority: int) -> "_Place":
        place = self._places.get((queue, priority))
        if place is None:
            keys = self.keys
            label = keys.label(priority)
            place = _Place(label, keys.list_of(queue, label), keys.bell(queue), self._said_to_kombu(priority))
            if len(self._places) < _PLACES:
                self._places[queue, priority] = place
        return place

    def refusal(self, queue: str) -> str | None:
        """Say that a queue belongs to a fanout exchange, or has the name of another key, if that is so."""
        try:
            self._check(queue)
        except ImproperlyConfigured as error:
            return str(error)
        return None

    @property
    def memory(self) -> str:
        """Name the server whose memory messages take."""
        return self.server.memory

    def _check(self, queue: str) -> None:
        if (refusal := self.keys.refusal(queue)) is not None:
            raise ImproperlyConfigured(refusal)
        binding_of(queue)

    def priority_step(self, queue: str, priority: int) -> int:
        """Return the place of the list for this priority in the order of reading: larger is sooner."""
        return -self.keys.labels.index(self.keys.label(priority))

    def _said_to_kombu(self, priority: int) -> int:
        # Celery's scale begins at 0; below ours there is Celery's, the other way round.
        return priority if priority >= 0 or self.keys.celery_order else min(-priority, 9)

    # ---- consuming

    def consume(self, queues: Sequence[str], *, consumer_id: str) -> RedisConsumer:
        """Open a consumer of these queues."""
        for queue in queues:
            if (refusal := self.keys.refusal(queue)) is not None:
                raise ImproperlyConfigured(refusal)
        strategy = self._options.get("queue_order_strategy", "round_robin")
        return RedisConsumer(
            self.server,
            self.keys,
            queues,
            consumer_id=consumer_id,
            lease=settings.WORKER_LEASE,
            rotates=strategy == "round_robin",
            sorts=strategy == "sorted",
        )

    def promote(self, now: datetime, *, limit: int) -> int:
        """Make up to ``limit`` delayed messages that are due receivable. Consumers do so for their own queues."""
        keys, total = self.keys, 0
        with self._lines.line("Promoting delayed messages") as line:
            for queue in self._registered(line):
                if total >= limit:
                    break
                names = (keys.delayed(queue), keys.list_of(queue, ""), keys.bell(queue))
                total += int(script("promote").call(line, names, _by_the_server(line, now), limit - total, keys.sep))
        return total

    def recover(self, now: datetime, *, limit: int) -> int:
        """Give back up to ``limit`` messages of workers that are gone: ours after their lease, Celery's after the visibility timeout."""
        with self._lines.line("Recovering messages") as line:
            there = _by_the_server(line, now)
            before = there - self._options.get("visibility_timeout", VISIBILITY_TIMEOUT)
            count = recover_lapsed(line, self.keys, there, limit)
            return count if count >= limit else count + recover_abandoned(line, self.keys, before, limit - count)

    # ---- looking

    def size(self, queue: str) -> int:
        """How many messages wait in the queue, delayed ones included. None wait in one that can't be."""
        if self.keys.refusal(queue) is not None:
            return 0
        with self._lines.line("Counting messages") as line:
            return self._sizes(line, [queue])[0]

    def queues(self) -> list[str]:
        """Names of the queues that hold messages, sorted, among those that this package has published to or consumed from."""
        with self._lines.line("Listing queues") as line:
            names = self._registered(line)
            return [name for name, size in zip(names, self._sizes(line, names), strict=True) if size]

    def _registered(self, line: Line) -> list[str]:
        names = (name.decode(errors="backslashreplace") for name in line.call("SMEMBERS", self.keys.queues))
        # An earlier version, or somebody else, may have entered what is none.
        return sorted(name for name in names if self.keys.refusal(name) is None)

    def _sizes(self, line: Line, queues: Sequence[str]) -> list[int]:
        if not queues:
            return []
        asked = [command for queue in queues for command in self._counting(queue)]
        counts, each = line.calls(asked), len(asked) // len(queues)
        return [sum(counts[at : at + each]) for at in range(0, len(counts), each)]

    def _counting(self, queue: str) -> list[tuple[str, str]]:
        return [*(("LLEN", key) for key in self.keys.lists(queue)), ("ZCARD", self.keys.delayed(queue))]

    def purge(self, queue: str) -> int:
        """Delete what waits in the queue, delayed messages included; held ones stay. Raises ImproperlyConfigured for another key's name."""
        if (refusal := self.keys.refusal(queue)) is not None:
            raise ImproperlyConfigured(f"{refusal}. Nothing was deleted")
        everything = (*self.keys.lists(queue), self.keys.delayed(queue), self.keys.bell(queue))
        with self._lines.line(f"Purging the queue {queue!r}") as line:
            return sum(line.transaction([*self._counting(queue), ("DEL", *everything)])[:-1])

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones."""
        self._lines.close()
        self.server.close()

    def forget(self) -> None:
        """Forget the connections without closing them: in a forked child, they are the parent's."""
        self._lines.forget()


class _Part:
    """Messages that one command will push."""

    __slots__ = ("payloads", "size")

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.size = 0

    def is_full(self, payload: bytes) -> bool:
        """Whether this message belongs to the next part."""
        return len(self.payloads) >= _MESSAGES or (self.size > 0 and self.size + len(payload) > _BYTES)

    def add(self, payload: bytes) -> None:
        """Take a message."""
        self.payloads.append(payload)
        self.size += len(payload)


_brokers: weakref.WeakSet[RedisBroker] = weakref.WeakSet()


def _after_fork() -> None:
    for broker in list(_brokers):
        broker.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _by_the_server(line: Line, now: datetime) -> float:
    # Leases are written in the server's time, so they lapse in its time: a worker whose clock is ahead takes nothing from others.
    seconds, micros = line.call("TIME")
    return float(int(seconds) + int(micros) / 1_000_000 + (now - clock.now()).total_seconds())
