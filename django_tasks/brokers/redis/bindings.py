"""Queues behind exchanges: Redis has none, so kombu keeps a table of them, in which its producers look."""

import re
from dataclasses import dataclass
from typing import Final

from django_tasks import routing
from django_tasks.exceptions import ImproperlyConfigured, QueueNotFound
from django_tasks.routing import QueueSpec

#: AMQP's wildcards: one word, any number of words.
_WILDCARDS: Final = {"*": r"[^.]+", "#": r".*"}


@dataclass(frozen=True, slots=True)
class Binding:
    """One line of the table. ``pattern`` is a topic's, as a regular expression."""

    exchange: str
    routing_key: str
    pattern: str
    queue: str


def binding_of(queue: str) -> Binding:
    """Return what TASK_QUEUES says of a queue; for others, Celery's way: an exchange and a routing key of its name.

    Raises ImproperlyConfigured for a queue of a fanout exchange: a message in a list is for one worker, not for all.
    """
    try:
        spec = routing.current().find_queue(queue)
    except QueueNotFound:
        # Asked for by name on a command line.
        spec = QueueSpec(name=queue)
    if spec.exchange_type == "fanout":
        raise ImproperlyConfigured(
            f"the queue {queue!r} belongs to a fanout exchange ({spec.exchange!r}), which Redis can't keep messages for:"
            " use a direct or topic exchange, or RabbitMQ for broadcasts"
        )
    key = spec.routing_key or queue
    return Binding(spec.exchange or queue, key, _pattern(key) if spec.exchange_type == "topic" else "", queue)


def _pattern(key: str) -> str:
    words = r"\.".join(_WILDCARDS.get(word) or re.escape(word) for word in key.split("."))
    # "#" stands for no word at all, too, and then the dot beside it goes with it.
    return "^" + words.replace(r".*\.", r"(?:.*\.)?").replace(r"\..*", r"(?:\..*)?") + "$"
