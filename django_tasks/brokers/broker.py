"""What every broker can do, and what each must say of itself."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Self

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.messages import Death, Delivery, Envelope, Settlement
from django_tasks.urls import URL, mask


class Consumer(ABC):
    """One process's claim on some queues.

    A single thread calls every method, except ``wake``, which any thread may call.
    """

    #: Names this consumer to the broker; unique for all time.
    consumer_id: str
    #: Seconds after which what this consumer holds goes to others, unless ``extend`` is called before.
    lease: float
    #: The broker sends messages some time after the first ``receive``: asked with ``timeout=0``, it may give none although it has some.
    pushed: ClassVar[bool] = False

    @abstractmethod
    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Claim up to ``limit`` messages, best first; wait up to ``timeout`` seconds for the first.

        Returns early, with an empty list, when ``wake`` is called. ``limit=0`` only waits. Raises
        ``OperationalError`` when the broker can't be reached; calling again reconnects.
        """

    def catch_up(self) -> None:
        """Return once everything that the broker has sent until now can be received, where it sends (``pushed``)."""

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Carry out all settlements in one round trip.

        A delivery that this consumer no longer holds (its lease lapsed) is passed over.
        """

    @abstractmethod
    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Renew the leases of these deliveries: from now, for ``lease`` seconds."""

    def holds(self, tag: str) -> bool:
        """Whether this consumer can still settle a delivery that it handed out."""
        return True

    def consumes(self, queue: str) -> bool:
        """Whether messages of this queue, one of its own, can come: the server may refuse it, and not the others."""
        return True

    def kept(self, deliveries: Sequence[Delivery]) -> set[str]:
        """Renew these leases, and return the tags of those that had not been given to others: for who may have been late.

        A broker that can't tell returns all of them.
        """
        self.extend(deliveries)
        return {delivery.tag for delivery in deliveries}

    @abstractmethod
    def inherit(self, consumer_id: str, started: Collection[str]) -> list[Delivery]:
        """Take over what a dead consumer of this node held.

        What it had not started goes back to its queue at once, uncounted. What it had (``started``, by tag)
        becomes this consumer's, and is returned to be settled. Brokers with ``recovers = False`` return [].
        """

    @abstractmethod
    def set_queues(self, queues: Sequence[str]) -> None:
        """Receive from exactly these queues from now on; what is already held stays held."""

    @abstractmethod
    def wake(self) -> None:
        """End a waiting ``receive`` now. Safe from any thread and from a signal handler."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection. What is still held is given back when its lease lapses."""


class Broker(ABC):
    """Where messages wait. Safe for threads; connects on first use; forgets its connections in a fork."""

    #: Keeps messages with ``not_before`` aside by itself; where it can't, the client parks them in the database.
    delays: bool
    #: Seconds for which it can keep them: SQS has 900.
    longest_delay: float = float("inf")
    #: ``publish`` is part of the caller's database transaction.
    joins_transaction: ClassVar[bool]
    #: ``Consumer.inherit`` can settle what a killed process held. Where it can't, ``remember_deaths`` tells whoever gets
    #: the messages next.
    recovers: ClassVar[bool]
    #: A message that is held for long is given to others although its holder lives: it must be settled soon, and kept elsewhere.
    wants_settling_soon: bool = False
    #: How many steps of priority are told apart; 1 means none.
    priorities: ClassVar[int]

    def belongs_to_one(self, queue: str) -> bool:
        """Whether a queue of this name is one consumer's alone, as of a broadcast: another one can't get its messages."""
        return False

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Make the broker of a URL. Raises ImproperlyConfigured for what the URL should not have."""
        raise NotImplementedError(f"{cls.__name__} is not made from a URL")

    @classmethod
    def from_urls(cls, urls: Sequence[URL]) -> Self:
        """Make the broker of a fail-over list: the first URL that answers is used. Brokers of one place refuse several."""
        if len(urls) > 1:
            listed = mask([url.text for url in urls])
            raise ImproperlyConfigured(
                f"BROKER_URL is a fail-over list ({listed}), but {urls[0].scheme}:// has nothing to fail over to: give it one URL"
            )
        return cls.from_url(urls[0])

    @abstractmethod
    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Hand over all envelopes or none.

        Raises ``OperationalError`` when the broker can't be reached or refuses.
        """

    @abstractmethod
    def consume(self, queues: Sequence[str], *, consumer_id: str) -> Consumer:
        """Open a consumer of these queues."""

    @abstractmethod
    def promote(self, now: datetime, *, limit: int) -> int:
        """Make up to ``limit`` messages whose ``not_before`` has come receivable; return how many."""

    @abstractmethod
    def recover(self, now: datetime, *, limit: int) -> int:
        """Give back up to ``limit`` messages whose lease has lapsed; return how many."""

    @abstractmethod
    def size(self, queue: str) -> int | None:
        """How many messages wait in the queue, delayed ones included; None if the broker can't say."""

    @abstractmethod
    def queues(self) -> list[str]:
        """Names of the queues that hold messages now, sorted; [] if the broker can't say."""

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Delete what waits in the queue, delayed ones included; return how many. Held ones stay."""

    def refusal(self, queue: str) -> str | None:
        """Say why this broker can't carry a queue of TASK_QUEUES as it is described there; None if it can. Connects to nothing."""
        return None

    def priority_step(self, queue: str, priority: int) -> int:
        """Return the step in which a message of this priority waits. Those of one step run in the order of their sending.

        Connects to nothing. The default fits brokers with steps from 0 upwards (more than 256 of them: from -100), all
        queues alike.
        """
        lowest = min(0, 256 - self.priorities)
        return max(lowest, min(priority, self.priorities - 1))

    def remember_deaths(self, deaths: Mapping[str, Death]) -> None:
        """Note how the process died that ran these deliveries (by tag), for whoever gets them next.

        Only brokers with ``recovers = False`` need it: theirs come back by themselves when a connection ends.
        """
        raise NotImplementedError(f"{type(self).__name__} settles what dead processes held by itself")

    def close(self) -> None:
        """Close this process's connections. The next call opens new ones."""
