"""A broker that keeps what it is given, and looking at what is parked for it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Self

import pytest
from django.db import transaction

from django_tasks import clock, deadletters, parking, shared_task
from django_tasks.brokers.broker import Broker
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Envelope
from django_tasks.models import Message
from tests.processes import DEADLINE

only_sqlite = pytest.mark.parametrize("alias", ["default"], indirect=True)


@shared_task(name="tests.parked")
def parked(number=0):
    """Return the number."""
    return number


class RecordingBroker(Broker):
    """Keeps what it is given; may be down, refuse some, or delay only so long."""

    joins_transaction: ClassVar[bool] = False
    recovers: ClassVar[bool] = False
    priorities: ClassVar[int] = 10

    def __init__(self, *, longest_delay: float | None = None) -> None:
        self.delays = longest_delay is not None
        if longest_delay is not None:
            self.longest_delay = longest_delay
        self.sent: list[Envelope] = []
        self.batches: list[int] = []
        self.down = False
        self.tries = 0
        self.refusal: Callable[[Envelope], Exception | None] = lambda _: None
        self.lock = threading.Lock()

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        with self.lock:
            self.tries += 1
            if self.down:
                raise OperationalError("the broker is down")
            for one in envelopes:
                if (error := self.refusal(one)) is not None:
                    raise error
            self.sent += envelopes
            self.batches.append(len(envelopes))

    def consume(self, queues: Sequence[str], *, consumer_id: str) -> Any:
        raise NotImplementedError

    def promote(self, now: datetime, *, limit: int) -> int:
        return 0

    def recover(self, now: datetime, *, limit: int) -> int:
        return 0

    def size(self, queue: str) -> int | None:
        return None

    def queues(self) -> list[str]:
        return []

    def purge(self, queue: str) -> int:
        return 0

    @property
    def ids(self) -> list[str]:
        return [one.headers["id"] for one in self.sent]


def until(condition: Callable[[], Any], turn: Callable[[float], Any] = time.sleep) -> None:
    """Take turns until the condition holds; fail after the deadline."""
    deadline = clock.monotonic() + DEADLINE
    while not condition():
        assert clock.monotonic() < deadline, f"it didn't happen within {DEADLINE:.0f} seconds"
        turn(0.02)


def rows(alias: str) -> Any:
    return Message.objects.using(alias)


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """Run the block in a transaction, or a savepoint, that is rolled back."""
    with transaction.atomic(using=alias):
        yield
        transaction.set_rollback(True, using=alias)


class running:
    """Run forwarders in threads of their own."""

    def __init__(self, broker: Broker, count: int = 1) -> None:
        self.stop = threading.Event()
        self.forwarders = [parking.Forwarder(broker, consumer_id=f"tests-{number}", bury=deadletters.record) for number in range(count)]
        self.threads = [threading.Thread(target=forwarder.run, args=(self.stop,)) for forwarder in self.forwarders]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_args: object) -> None:
        self.stop.set()
        for forwarder in self.forwarders:
            forwarder.wake()
        for thread in self.threads:
            thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in self.threads)
