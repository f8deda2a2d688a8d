"""A worker's process in one thread, which dies where a test wants it, and two tasks for it."""

from collections.abc import Callable, Mapping
from typing import Any

from django_tasks import brokers, result_backends, shared_task
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.executor import Executor
from django_tasks.messages import NOTHING
from django_tasks.outcomes import Outcome
from django_tasks.protocol import decode
from django_tasks.registry import registry
from django_tasks.worker.completer import Completer


@shared_task(name="redelivery.same")
def same(value):
    """Return it."""
    return value


@shared_task(name="redelivery.total")
def total(values):
    """Add up."""
    return sum(values)


class Lane:
    """What a worker's process does, with deaths where a test wants them."""

    def __init__(self) -> None:
        self.consumer = brokers.current().consume(["default"], consumer_id="a-test")
        self.completer = Completer(broker=brokers.current(), backend=result_backends.current(), hostname="w1@here", wake=lambda: None)
        self.executor = Executor(follow=followups)

    def drain(self, *, twice: Callable[[str], bool] = lambda name: False, instead: Mapping[str, Any] = NOTHING) -> list[str]:
        """Run all that waits; return what ran.

        Tasks of which ``twice`` says so are run, and their outcome lost, once before. ``instead`` makes, by name, outcomes of
        tasks that are not to run.
        """
        ran: list[str] = []
        while deliveries := self.consumer.receive(1, 0):
            for delivery in deliveries:
                name = self.request(delivery).message.task
                if name in instead:
                    self.completer.add(instead[name](self, delivery))
                    continue
                if twice(name):
                    self.run(delivery)
                self.completer.add(self.run(delivery))
                ran.append(name)
            self.completer.flush(self.consumer)
        return ran

    def request(self, delivery: Any) -> Request:
        """Read a delivery."""
        message = decode(delivery.envelope, accept=["json", "application/json"])
        return Request(message=message, delivery=delivery, definition=registry[message.task], hostname="w1@here")

    def run(self, delivery: Any) -> Outcome:
        """Run a delivery; its outcome takes no effect yet."""
        return self.executor.execute(self.request(delivery))
