"""A consumer that settles the messages of long tasks soon and keeps them in the database, where the broker asks for that."""

import logging
from collections.abc import Collection, Sequence

from django_tasks import clock
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Delivery, Disposition, Settlement
from django_tasks.parking import aside

logger = logging.getLogger("django_tasks.worker")

#: Seconds that a message may be held before it is kept elsewhere. Short, as nothing tells how patient a server is.
AFTER = 10.0
#: Seconds between two looks, and after a failure.
LOOK = 1.0
REST = 10.0


def keeping_aside(broker: Broker, consumer: Consumer, lease: float) -> Consumer:
    """Return this consumer, or one around it where the broker lets nobody hold a message for long."""
    return KeepingAside(broker, consumer, lease) if broker.wants_settling_soon else consumer


class KeepingAside(Consumer):
    """Passes everything on, but for messages that have been held for ``AFTER`` seconds.

    A copy goes into the database, then the broker's is acknowledged; a crash in between leaves both. ``extend`` renews the copies, and
    with the process they lapse within ``lease`` seconds.
    """

    def __init__(self, broker: Broker, consumer: Consumer, lease: float) -> None:
        self.consumer_id, self.lease = consumer.consumer_id, consumer.lease
        self._broker = broker
        self._inner = consumer
        self._lease = lease
        #: What the broker waits to hear of, and since when; oldest first.
        self._since: dict[str, tuple[float, Delivery]] = {}
        #: Numbers of rows, by the tags of their deliveries.
        self._aside: dict[str, int] = {}
        self._look_at = 0.0
        self._failing = False

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Receive, after a look at what is held."""
        now = clock.monotonic()
        if self._since and now >= self._look_at:
            self._look(now)
        found = self._inner.receive(limit, timeout)
        now = clock.monotonic()
        for delivery in found:
            self._since[delivery.tag] = now, delivery
        return found

    def _look(self, now: float) -> None:
        self._look_at = now + LOOK
        old = []
        for since, delivery in self._since.values():
            if now - since < AFTER:
                break
            old.append(delivery)
        if not old:
            return
        # What came by a connection that broke is others' already.
        kept = [one for one in old if self._inner.holds(one.tag) and not self._broker.belongs_to_one(one.queue)]
        try:
            numbers = aside.keep(kept, self.consumer_id, self._lease) if kept else {}
        except OperationalError as error:
            self._failed(error)
            self._look_at = now + REST
            return
        self._failing = False
        self._aside.update(numbers)
        for delivery in old:
            del self._since[delivery.tag]
        self._inner.settle([Settlement(delivery, Disposition.ACK) for delivery in kept])

    def _failed(self, error: OperationalError) -> None:
        if not self._failing:
            logger.error(
                "The messages of long tasks can't be kept in the database. They stay with the broker, which may give them to other "
                "workers while they run here (RabbitMQ: after consumer_timeout, 30 minutes by default). %s",
                error,
            )
        self._failing = True

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Settle each where its message is."""
        ours = [one for one in settlements if one.delivery.tag in self._aside]
        theirs = [one for one in settlements if one.delivery.tag not in self._aside] if ours else settlements
        if theirs:
            self._inner.settle(theirs)
        if ours:
            self._settle_aside(ours)
        for settlement in settlements:
            self._since.pop(settlement.delivery.tag, None)

    def _settle_aside(self, settlements: Sequence[Settlement]) -> None:
        over = [one for one in settlements if one.disposition in {Disposition.ACK, Disposition.DEAD}]
        if over:
            aside.forget([self._aside[one.delivery.tag] for one in over], self.consumer_id)
        for one in settlements:
            if one.disposition not in {Disposition.ACK, Disposition.DEAD}:
                until = one.until if one.disposition is Disposition.DELAY else None
                aside.give_back([self._aside[one.delivery.tag]], self.consumer_id, until)
            del self._aside[one.delivery.tag]

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Renew what is kept, and what the broker holds."""
        if self._aside:
            try:
                aside.renew(self.consumer_id, self._lease)
            except OperationalError as error:
                self._failed(error)
        self._inner.extend(deliveries)

    def kept(self, deliveries: Sequence[Delivery]) -> set[str]:
        """Renew what is kept, and return the tags of what is this consumer's still, there or with the broker."""
        ours = {self._aside[one.tag]: one.tag for one in deliveries if one.tag in self._aside}
        found = aside.held(list(ours), self.consumer_id, self._lease) if ours else set()
        theirs = self._inner.kept([one for one in deliveries if one.tag not in self._aside])
        lost = {tag for number, tag in ours.items() if number not in found}
        for tag in lost:
            del self._aside[tag]
        return theirs | set(ours.values()) - lost

    def catch_up(self) -> None:
        """Pass it on."""
        self._inner.catch_up()

    def holds(self, tag: str) -> bool:
        """Whether it is settled by this consumer."""
        return tag in self._aside or self._inner.holds(tag)

    def consumes(self, queue: str) -> bool:
        """Pass it on."""
        return self._inner.consumes(queue)

    def inherit(self, consumer_id: str, started: Collection[str]) -> list[Delivery]:
        """Pass it on."""
        return self._inner.inherit(consumer_id, started)

    def set_queues(self, queues: Sequence[str]) -> None:
        """Pass it on."""
        self._inner.set_queues(queues)

    def wake(self) -> None:
        """Pass it on."""
        self._inner.wake()

    def close(self) -> None:
        """Pass it on. What is still kept lapses."""
        self._inner.close()
