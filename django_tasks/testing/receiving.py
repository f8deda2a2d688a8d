"""Taking messages from any broker in the test's own thread, wherever they wait: with it, delayed, or parked in the database."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from django.db import connections

from django_tasks import clock, deadletters, parking
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.messages import DeadMessage, Delivery
from django_tasks.testing.timetravel import at_home, is_travelling

logger = logging.getLogger("django_tasks.testing")

#: Messages that one look brings from where they are delayed, at most.
_MANY: Final = 10_000
#: Seconds within which a server that has messages sends one, unless somebody else takes them.
_PATIENCE: Final = 2.0
#: Seconds that the thread that hands over parked messages has to stop.
_FORWARDER_PATIENCE: Final = 5.0


class Intake:
    """A consumer of all queues that hold messages, while they are run by hand. ``bury`` records dead letters."""

    def __init__(self, broker: Broker, consumer_id: str, bury: Callable[[Sequence[DeadMessage]], None]) -> None:
        self._broker = broker
        self._bury = bury
        self.consumer = broker.consume((), consumer_id=consumer_id)
        self._consumer_id = consumer_id
        self._attended: set[str] = set()
        self._forwarder: parking.Forwarder | None = None

    def begin(self) -> None:
        """Let the broker have what has come due: by the test's clock, which a server doesn't know."""
        if is_travelling():
            present = clock.now()
            with at_home():
                self._broker.promote(present, limit=_MANY)
        self._unpark()

    def take(self, limit: int) -> list[Delivery]:
        """Claim up to ``limit`` messages, best first; [] if none is due."""
        look = self._pushed if self.consumer.pushed else self._claimed
        found = look(limit)
        return found if found or not self._unpark() else look(limit)

    def take_present(self, limit: int) -> list[Delivery]:
        """Claim what is there now, up to ``limit``; what comes later waits."""
        if not self.consumer.pushed:
            return self._claimed(limit)
        # They come in pieces.
        left = min(limit, sum(self._broker.size(name) or 0 for name in self._broker.queues()))
        found: list[Delivery] = []
        while len(found) < left and (more := self._pushed(left - len(found))):
            found += more
        return found

    def close(self) -> None:
        """Let go of the connections."""
        self.consumer.close()
        if self._forwarder is not None:
            self._forwarder.close()

    def _claimed(self, limit: int) -> list[Delivery]:
        # Whatever ran last may have published to a queue that was not there before.
        self.consumer.set_queues(self._broker.queues())
        return self.consumer.receive(limit, 0)

    def _pushed(self, limit: int) -> list[Delivery]:
        """Take what a server has sent already, else wait for what it says that it has."""
        if self._attended and (found := self.consumer.receive(limit, 0)):
            return found
        names = self._broker.queues()
        if not self._attended.issuperset(names):
            self._attended.update(names)
            self.consumer.set_queues(sorted(self._attended))
        if names and (found := self.consumer.receive(limit, _PATIENCE)):
            return found
        if not self._attended:
            return []
        # What the server doesn't count any more may be on its way here.
        self.consumer.catch_up()
        return self.consumer.receive(limit, 0)

    def _unpark(self) -> bool:
        """Hand over what is parked in the database and due; say whether there was any."""
        if not parking.needed(self._broker):
            return False
        try:
            if self._forwarder is None:
                self._forwarder = parking.Forwarder(self._broker, consumer_id=f"{self._consumer_id}/forwarder", bury=self._bury)
            count = 0
            while sent := self._forwarder.turn(0):
                count += sent
        except Exception as error:  # noqa: BLE001  pytest-django's and Django's own refusals
            logger.debug("Parked messages can't be read in this test: %s", error)
            return False
        return count > 0


@contextmanager
def forwarding(broker: Broker, consumer_id: str) -> Iterator[None]:
    """Hand over what is parked in the database and comes due, in a thread, as long as the block lasts.

    Nothing is handed over where the thread could not see the test's rows, or the test may not have any.
    """
    if not parking.needed(broker) or not _rows_are_for_all():
        yield
        return
    stop = threading.Event()
    forwarder = parking.Forwarder(broker, consumer_id=f"{consumer_id}/forwarder", bury=deadletters.record)

    def run() -> None:
        try:
            forwarder.run(stop)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="django_tasks-forwarder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        forwarder.wake()
        thread.join(_FORWARDER_PATIENCE)


def _rows_are_for_all() -> bool:
    connection = connections[settings.TASK_OUTBOX_DATABASE]
    if connection.in_atomic_block or (connection.vendor == "sqlite" and connection.is_in_memory_db()):  # type: ignore[attr-defined]
        return False
    try:
        parking.waiting()
    except Exception as error:  # noqa: BLE001  pytest-django's and Django's own refusals
        logger.debug("Parked messages can't be read in this test: %s", error)
        return False
    return True
