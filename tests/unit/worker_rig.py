"""A child's consumer thread that is never started: tests turn it by hand, on a broker and a consumer that do as they say."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from django_tasks import result_backends, shared_task
from django_tasks.brokers.broker import Broker
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.canvas.links import followups
from django_tasks.exceptions import OperationalError
from django_tasks.executor import Executor
from django_tasks.messages import Death, Delivery, Destination, Disposition, Envelope, Settlement, TaskMessage
from django_tasks.protocol import encode
from django_tasks.registry import registry
from django_tasks.worker.admission import Admission
from django_tasks.worker.announcing import Announcer
from django_tasks.worker.completer import Completer
from django_tasks.worker.consumerthread import ConsumerThread
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pools import SoloPool
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.scoreboard import Scoreboard


@shared_task(name="tests.consumer.late")
def late():
    """Do nothing."""


class HandTurned:
    """The parts of a child, put together; its consumer thread doesn't run."""

    def __init__(self, broker: Broker, announcer: Announcer | None = None) -> None:
        self.broker = broker
        self.announcer = announcer or Announcer("w@h", on=False)
        self.block = Scoreboard(1, 1)[0]
        self.pool = SoloPool(Executor(follow=followups), self.block)
        self.backend = result_backends.current()
        revoked = RevokedTasks()
        admission = Admission(
            find=registry.find,
            accept=["json"],
            hostname="w@h",
            pid=1,
            max_deliveries=3,
            unknown_grace=0.0,
            revoked=revoked,
            rates=RateLimits([]),
        )
        self.thread = ConsumerThread(
            broker=broker,
            options=WorkerOptions(name="w@h", queues=("q",), task_events=self.announcer.on),
            consumer_id="c",
            admission=admission,
            revoked=revoked,
            pool=self.pool,
            block=self.block,
            announcer=self.announcer,
            make_completer=lambda wake: Completer(broker=broker, backend=self.backend, hostname="w@h", wake=wake),
        )


class Pushing(MemoryBroker):
    """A broker that can't settle what a killed process held, and whose consumer can be told to fail."""

    recovers = False

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.deaths: dict[str, Death] = {}

    def remember_deaths(self, deaths: Mapping[str, Death]) -> None:
        """Keep them."""
        self.deaths.update(deaths)


class Consuming:
    """A consumer that hands out what the test says."""

    consumer_id, lease = "c", 60.0

    def __init__(self) -> None:
        self.away = False
        self.settled: list[Settlement] = []

    def settle(self, settlements: Sequence[Settlement]) -> None:
        if self.away:
            raise OperationalError("away")
        self.settled += settlements

    def wake(self) -> None:
        """Nobody waits."""

    def consumes(self, queue: str) -> bool:
        """It gets messages of any queue but one."""
        return queue != "refused"


class Rig(HandTurned):
    """It receives what the test gives it, and tells what it made of that."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.consumer = Consuming()
        self.thread._consumer = self.consumer  # type: ignore[assignment]

    def waiting(self) -> list[str]:
        """Names of the tasks that wait in the pool."""
        return [request.message.task for request in self.pool._waiting]

    def take(self, *deliveries: Delivery) -> None:
        """Let it receive these, and flush."""
        self.thread._take(deliveries)
        while self.thread._completer.pending():
            for outcome in self.thread._completer.flush(self.consumer):  # type: ignore[arg-type]
                self.thread._held.pop(getattr(outcome.request.delivery, "tag", ""), None)

    def settled(self) -> list[Disposition]:
        """What it told the broker."""
        return [settlement.disposition for settlement in self.consumer.settled]


def envelope(name: str, task_id: str, **fields: Any) -> Envelope:
    """Build a message."""
    return encode([TaskMessage(id=task_id, task=name, **fields)], [Destination(queue="q")], origin="o")[0]


def delivery(task: Any, deliveries: int = 1, death: Death | None = None, **fields: Any) -> Delivery:
    """Build the delivery of a call of a task."""
    task_id = str(uuid4())
    return Delivery(envelope(task.name, task_id, **fields), f"1:{task_id}", "q", deliveries, death)
