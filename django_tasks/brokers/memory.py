"""``memory://``: a broker in this process's memory, with the exact semantics of the database broker.

For tests and for producer and worker in one process (threads, solo). Brokers of one name share one store; what it
holds dies with the process, and a forked child starts with empty stores.
"""

import heapq
import os
import threading
from bisect import insort
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Self

from django_tasks import clock as wall
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.messages import Delivery, Disposition, Envelope, Settlement
from django_tasks.urls import URL

#: Seconds for which a consumer holds a message, unless it is told otherwise.
DEFAULT_LEASE = 60.0


@dataclass(slots=True, eq=False)
class _Held:
    """A message and where it is: ready, delayed (``until`` is its due time) or claimed (``until`` is the lease's end)."""

    number: int
    envelope: Envelope
    until: datetime | None = None
    holder: str | None = None
    deliveries: int = 0

    @property
    def order(self) -> tuple[int, int]:
        return (-self.envelope.priority, self.number)


@dataclass(slots=True)
class _Store:
    """What the brokers of one name share. Everything happens under ``changed``, which waiting consumers listen to."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    last_number: int = 0
    #: queue → messages in the order in which they are handed out.
    ready: dict[str, list[_Held]] = field(default_factory=dict)
    delayed: dict[int, _Held] = field(default_factory=dict)
    #: Due times of what is delayed, and of some that no longer is.
    due_times: list[tuple[datetime, int]] = field(default_factory=list)
    claimed: dict[int, _Held] = field(default_factory=dict)
    #: When what was published, if somebody wants to know.
    journal: list[tuple[datetime, Envelope]] | None = None

    def put(self, held: _Held) -> None:
        held.holder = held.until = None
        insort(self.ready.setdefault(held.envelope.queue, []), held, key=lambda one: one.order)

    def take(self, queues: Collection[str], limit: int) -> list[_Held]:
        waiting = [self.ready[queue] for queue in queues if self.ready.get(queue)]
        best = sorted((held for line in waiting for held in line[:limit]), key=lambda one: one.order)[:limit]
        for held in best:
            # Each queue's part of ``best`` is its front, in order.
            line = self.ready[held.envelope.queue]
            line.pop(0)
            if not line:
                del self.ready[held.envelope.queue]
        return best

    def delay(self, held: _Held, until: datetime) -> None:
        held.holder, held.until = None, until
        self.delayed[held.number] = held
        heapq.heappush(self.due_times, (until, held.number))

    def next_due(self) -> datetime | None:
        while self.due_times:
            until, number = self.due_times[0]
            held = self.delayed.get(number)
            if held is not None and held.until == until:
                return until
            heapq.heappop(self.due_times)
        return None

    def promote(self, now: datetime, limit: int) -> int:
        count = 0
        while count < limit and (due := self.next_due()) is not None and due <= now:
            self.put(self.delayed.pop(heapq.heappop(self.due_times)[1]))
            count += 1
        return count


_stores: dict[str, _Store] = {}
_stores_lock = threading.Lock()


def _forget() -> None:
    # A forked child has copies of messages that the parent will run, and locks that nobody may ever release.
    global _stores_lock  # noqa: PLW0603
    _stores.clear()
    _stores_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class MemoryBroker(Broker):
    """Messages in this process's memory.

    ``clock`` tells the time (tests pass their own); ``lease`` is how many seconds a consumer holds a message.
    """

    delays = True
    joins_transaction: ClassVar[bool] = False
    recovers: ClassVar[bool] = True
    priorities: ClassVar[int] = 356

    def __init__(self, name: str = "default", *, clock: Callable[[], datetime] = wall.now, lease: float = DEFAULT_LEASE) -> None:
        self.name = name
        self.clock = clock
        self.lease = lease

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``memory://`` or ``memory://NAME``."""
        return cls(url.alias)

    @property
    def _store(self) -> _Store:
        with _stores_lock:
            return _stores.setdefault(self.name, _Store())

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Hand over all envelopes or none."""
        store, now = self._store, self.clock()
        with store.changed:
            if store.journal is not None:
                store.journal.extend((now, envelope) for envelope in envelopes)
            for envelope in envelopes:
                store.last_number += 1
                held = _Held(store.last_number, envelope)
                if envelope.not_before is not None and envelope.not_before > now:
                    store.delay(held, envelope.not_before)
                else:
                    store.put(held)
            store.changed.notify_all()

    def consume(self, queues: Sequence[str], *, consumer_id: str) -> "MemoryConsumer":
        """Open a consumer of these queues."""
        return MemoryConsumer(self._store, queues, consumer_id=consumer_id, clock=self.clock, lease=self.lease)

    def promote(self, now: datetime, *, limit: int) -> int:
        """Make what is due receivable."""
        store = self._store
        with store.changed:
            count = store.promote(now, limit)
            store.changed.notify_all()
        return count

    def recover(self, now: datetime, *, limit: int) -> int:
        """Give back what lapsed consumers hold."""
        store = self._store
        with store.changed:
            lapsed = [held for held in store.claimed.values() if held.until is not None and held.until <= now][:limit]
            for held in lapsed:
                store.put(store.claimed.pop(held.number))
            store.changed.notify_all()
        return len(lapsed)

    def size(self, queue: str) -> int:
        """How many messages wait in the queue, delayed ones included."""
        store = self._store
        with store.changed:
            delayed = sum(held.envelope.queue == queue for held in store.delayed.values())
            return delayed + len(store.ready.get(queue, ()))

    def queues(self) -> list[str]:
        """Names of the queues that hold messages, sorted."""
        store = self._store
        with store.changed:
            kept: Iterable[_Held] = (*store.delayed.values(), *store.claimed.values())
            return sorted({*store.ready, *(held.envelope.queue for held in kept)})

    def keep_journal(self) -> list[tuple[datetime, Envelope]]:
        """Return a list that grows with everything published from now on, each with its time."""
        store = self._store
        with store.changed:
            store.journal = journal = [] if store.journal is None else store.journal
        return journal

    def waiting(self) -> list[Envelope]:
        """Return what waits: first what may be received now, best first, then what is delayed, by its time."""
        store = self._store
        with store.changed:
            store.promote(self.clock(), limit=1_000_000)
            ready = sorted((held for line in store.ready.values() for held in line), key=lambda held: held.order)
            later = sorted(store.delayed.values(), key=lambda held: (held.until, held.number))
            return [held.envelope for held in (*ready, *later)]

    def purge(self, queue: str) -> int:
        """Delete what waits in the queue; held messages stay."""
        store = self._store
        with store.changed:
            delayed = [number for number, held in store.delayed.items() if held.envelope.queue == queue]
            for number in delayed:
                del store.delayed[number]
            return len(delayed) + len(store.ready.pop(queue, ()))

    def close(self) -> None:
        """Forget nothing: the store lives as long as the process. ``clear`` empties it."""

    def clear(self) -> None:
        """Delete every message, held ones too, as a test does between two cases."""
        with _stores_lock:
            _stores.pop(self.name, None)


class MemoryConsumer(Consumer):
    """A claim on some queues of a store."""

    def __init__(self, store: _Store, queues: Sequence[str], *, consumer_id: str, clock: Callable[[], datetime], lease: float) -> None:
        self.consumer_id = consumer_id
        self.lease = lease
        self._store = store
        self._queues = tuple(dict.fromkeys(queues))
        self._clock = clock
        self._woken = False

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Claim up to ``limit`` messages, best first; wait up to ``timeout`` seconds for the first."""
        deadline = wall.monotonic() + timeout
        with self._store.changed:
            while True:
                self._store.promote(self._clock(), limit=1_000_000)
                if deliveries := self._claim(limit):
                    return deliveries
                remaining = deadline - wall.monotonic()
                if self._woken or remaining <= 0:
                    self._woken = False
                    return []
                self._store.changed.wait(self._pause(remaining))

    def _pause(self, remaining: float) -> float:
        due = self._store.next_due()
        pause = remaining if due is None else min(remaining, (due - self._clock()).total_seconds())
        # A clock of the test's own may jump while this thread waits.
        return max(0.0, pause if self._clock is wall.now else min(pause, 0.01))

    def _claim(self, limit: int) -> list[Delivery]:
        until = self._clock() + timedelta(seconds=self.lease)
        taken = self._store.take(self._queues, limit) if limit > 0 else []
        for held in taken:
            held.holder, held.until = self.consumer_id, until
            held.deliveries += 1
            self._store.claimed[held.number] = held
        return [_delivery(held) for held in taken]

    def _mine(self, deliveries: Iterable[Delivery]) -> list[_Held]:
        found = (self._store.claimed.get(int(delivery.tag)) for delivery in deliveries)
        return [held for held in found if held is not None and held.holder == self.consumer_id]

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Carry out all settlements; what this consumer no longer holds is passed over."""
        with self._store.changed:
            for settlement in settlements:
                for held in self._mine([settlement.delivery]):
                    self._settle(held, settlement)
            self._store.changed.notify_all()

    def _settle(self, held: _Held, settlement: Settlement) -> None:
        del self._store.claimed[held.number]
        if settlement.disposition in (Disposition.ACK, Disposition.DEAD):
            return
        if not settlement.counted:
            held.deliveries -= 1
        if settlement.disposition is Disposition.DELAY and settlement.until is not None:
            self._store.delay(held, settlement.until)
        else:
            self._store.put(held)

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Renew the leases of these deliveries."""
        until = self._clock() + timedelta(seconds=self.lease)
        with self._store.changed:
            for held in self._mine(deliveries):
                held.until = until

    def kept(self, deliveries: Sequence[Delivery]) -> set[str]:
        """Renew these leases, and return the tags of those that are this consumer's still."""
        self.extend(deliveries)
        with self._store.changed:
            return {str(held.number) for held in self._mine(deliveries)}

    def inherit(self, consumer_id: str, started: Collection[str]) -> list[Delivery]:
        """Take over what a dead consumer held: what it had started; the rest goes back uncounted."""
        until = self._clock() + timedelta(seconds=self.lease)
        with self._store.changed:
            held_by_it = [held for held in self._store.claimed.values() if held.holder == consumer_id]
            kept = []
            for held in held_by_it:
                if str(held.number) in started:
                    held.holder, held.until = self.consumer_id, until
                    kept.append(_delivery(held))
                else:
                    del self._store.claimed[held.number]
                    held.deliveries -= 1
                    self._store.put(held)
            self._store.changed.notify_all()
        return kept

    def set_queues(self, queues: Sequence[str]) -> None:
        """Receive from exactly these queues from now on."""
        self._queues = tuple(dict.fromkeys(queues))

    def wake(self) -> None:
        """End a waiting ``receive`` now."""
        # The condition's lock is re-entrant, so a signal handler may come here while its thread holds it.
        with self._store.changed:
            self._woken = True
            self._store.changed.notify_all()

    def close(self) -> None:
        """Let go. What is still held is given back when its lease lapses."""


def _delivery(held: _Held) -> Delivery:
    return Delivery(held.envelope, str(held.number), held.envelope.queue, held.deliveries)
