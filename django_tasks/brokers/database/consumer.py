"""A worker's claim on some queues: receive, settle, extend."""

from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks import clock
from django_tasks.brokers.broker import Consumer
from django_tasks.brokers.database import settling
from django_tasks.brokers.database.claims import Dialect, dialect_of
from django_tasks.brokers.database.rows import DELAYED, deliveries
from django_tasks.brokers.database.wakeup import Doorbell, Wakeup, wakeup_of
from django_tasks.dbaccess import reaching
from django_tasks.messages import Delivery, Settlement

#: Most delayed messages that one look promotes; what is over comes with the next one.
_PROMOTED_AT_ONCE = 1000
#: Seconds for which a busy consumer trusts what it knows of the next due time.
_TRUST = 0.02


class _DueTimes:
    """When the next delayed message falls due, so that nobody has to ask the table all the time."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._next: datetime | None = None
        self._read_at = float("-inf")

    def promote(self, connection: BaseDatabaseWrapper) -> None:
        """Promote what is due. Cheap when nothing is."""
        if clock.monotonic() - self._read_at >= _TRUST:
            self.read(connection)
        if self._next is not None and self._next <= clock.now():
            self._dialect.release(connection, DELAYED, clock.now(), _PROMOTED_AT_ONCE)
            self.read(connection)

    def read(self, connection: BaseDatabaseWrapper) -> None:
        """Ask the table: one look at the end of an index."""
        self._next = self._dialect.next_due(connection)
        self._read_at = clock.monotonic()

    def seconds(self) -> float:
        """Return how long nothing will fall due, as far as is known."""
        return float("inf") if self._next is None else max(0.0, (self._next - clock.now()).total_seconds())


class DatabaseConsumer(Consumer):
    """One thread's claim on some queues, over that thread's own Django connection."""

    def __init__(self, alias: str, queues: Sequence[str], *, consumer_id: str, lease: float) -> None:
        self.consumer_id = consumer_id
        self.lease = lease
        self._alias = alias
        self._queues = list(dict.fromkeys(queues))
        self._doorbell = Doorbell()
        self._dialect = dialect_of(connections[alias])
        self._wakeup: Wakeup = wakeup_of(connections[alias], self._doorbell)
        self._due = _DueTimes(self._dialect)

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Claim up to ``limit`` messages, best first; wait up to ``timeout`` seconds for the first."""
        if limit <= 0 or not self._queues:
            self._doorbell.wait(timeout)
            return []
        deadline = clock.monotonic() + timeout
        with reaching(self._alias, "Receiving messages") as connection:
            while True:
                self._wakeup.watch(connection)
                self._due.promote(connection)
                if found := self._claim(connection, limit):
                    return found
                # This very thread may have published or delayed something a moment ago, which no wake-up tells it.
                self._due.read(connection)
                left = deadline - clock.monotonic()
                if self._wakeup.wait(connection, min(left, self._due.seconds())) or clock.monotonic() >= deadline:
                    return []

    def _claim(self, connection: BaseDatabaseWrapper, limit: int) -> list[Delivery]:
        return deliveries(self._dialect.claim(connection, self._queues, limit, self.consumer_id, clock.after(self.lease)))

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Carry out all settlements; part of the transaction that is open on this connection, if one is."""
        if settlements:
            with reaching(self._alias, "Settling messages") as connection:
                settling.settle(connection, self._dialect, self.consumer_id, settlements)

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Renew the leases of these deliveries."""
        if deliveries:
            with reaching(self._alias, "Renewing leases") as connection:
                settling.extend(connection, self._dialect, self.consumer_id, deliveries, clock.after(self.lease))

    def kept(self, deliveries: Sequence[Delivery]) -> set[str]:
        """Renew these leases, and return the tags of those that are this consumer's still."""
        self.extend(deliveries)
        with reaching(self._alias, "Looking for one's own messages") as connection:
            return settling.held(connection, self.consumer_id, [delivery.tag for delivery in deliveries])

    def inherit(self, consumer_id: str, started: Collection[str]) -> list[Delivery]:
        """Take over what a dead consumer had started; the rest of what it held goes back, uncounted."""
        with reaching(self._alias, "Taking over messages") as connection:
            until = clock.after(self.lease)
            return deliveries(settling.inherit(connection, self._dialect, consumer_id, self.consumer_id, started, until))

    def set_queues(self, queues: Sequence[str]) -> None:
        """Receive from exactly these queues from now on."""
        self._queues = list(dict.fromkeys(queues))

    def wake(self) -> None:
        """End a waiting ``receive`` now."""
        self._doorbell.ring()

    def close(self) -> None:
        """Close this thread's connection. What is still held is given back when its lease lapses."""
        connection = connections[self._alias]
        self._wakeup.close(connection)
        self._doorbell.close()
        if not connection.in_atomic_block:
            connection.close()
