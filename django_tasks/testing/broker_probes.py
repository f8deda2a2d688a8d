"""What the broker contract's tests are written with: envelopes, settlements, and consumers that get closed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.messages import Delivery, Disposition, Envelope, Settlement


def envelope(name: str = "1", **fields: Any) -> Envelope:
    """Make an envelope whose task id, and body, is ``name``."""
    queue = fields.get("queue", "default")
    parts: dict[str, Any] = {
        "body": name.encode(),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"id": name, "task": "contract.task", "retries": 0, "eta": None},
        "properties": {"correlation_id": name, "delivery_info": {"exchange": "", "routing_key": queue}},
        "queue": queue,
        "exchange": "",
        "routing_key": queue,
    }
    return Envelope(**{**parts, **fields})


def settled(deliveries: Sequence[Delivery], disposition: Disposition, **fields: Any) -> list[Settlement]:
    """Make the same settlement of each delivery."""
    return [Settlement(delivery, disposition, **fields) for delivery in deliveries]


def names(deliveries: Sequence[Delivery]) -> list[str]:
    """Task ids, in order."""
    return [delivery.envelope.headers["id"] for delivery in deliveries]


class BrokerProbes:
    """Consumers for tests."""

    @contextmanager
    def consuming(self, broker: Broker, *queues: str, name: str = "one") -> Iterator[Consumer]:
        """Open a consumer, of the queue ``default`` unless others are named, and close it at the end."""
        consumer = broker.consume(queues or ("default",), consumer_id=f"contract-{name}")
        try:
            yield consumer
        finally:
            consumer.close()
