"""Queues: which names they may have, and what TASK_QUEUES says of them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.messages import PARKED

LONGEST_NAME: Final = 255

_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_name(name: Any, what: str = "queue") -> str:
    """Return the name of a queue, exchange or routing key if every broker can carry it.

    Raises ValueError otherwise.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or _FORBIDDEN.search(name):
        raise ValueError(
            f"{name!r} is no name for a {what}: it must be text of 1 to {LONGEST_NAME} characters, none of them a control character"
        )
    if name == PARKED:
        raise ValueError(f"{name!r} is no name for a {what}: it is reserved for messages that wait in the database for another broker")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """A queue as TASK_QUEUES describes it. ``declared`` is what the project wrote, for brokers that declare queues."""

    name: str
    exchange: str = ""
    exchange_type: str = "direct"
    routing_key: str = ""
    declared: Any = None

    def address(self, exchange: str | None, routing_key: str | None) -> tuple[str, str]:
        """Exchange and routing key for a message to this queue, from what the caller and the route say."""
        if self.exchange_type == "direct" and not (exchange and routing_key):
            # The nameless exchange leads to the queue by its name, with nothing to bind.
            return "", self.name
        return exchange or self.exchange, routing_key or self.routing_key or self.name

    def binds(self, exchange: str, routing_key: str) -> bool:
        """Whether a message to this exchange with this routing key comes to this queue."""
        if exchange != (self.exchange or self.name):
            return False
        if self.exchange_type == "fanout":
            return True
        if self.exchange_type == "topic":
            return _topic_pattern(self.routing_key).fullmatch(routing_key) is not None
        return routing_key == (self.routing_key or self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds where neither the caller nor a route says otherwise."""

    queue: str = "default"
    exchange: str | None = None
    exchange_type: str = "direct"
    routing_key: str | None = None
    priority: int = 0
    serializer: str = "json"
    compression: str | None = None


def read_queues(queues: Any, defaults: Defaults) -> Iterator[QueueSpec]:
    """Read TASK_QUEUES in each of its forms: names, kombu Queues, a dictionary."""
    if isinstance(queues, Mapping):
        for name, entry in queues.items():
            yield _queue_from_options(name, entry or {}) if isinstance(entry, Mapping | type(None)) else _read_queue(entry, defaults)
    else:
        for entry in queues or ():
            yield _read_queue(entry, defaults)


def _read_queue(entry: Any, defaults: Defaults) -> QueueSpec:
    if isinstance(entry, str):
        return default_spec(defaults) if entry == defaults.queue else QueueSpec(name=check_name(entry), exchange=entry, routing_key=entry)
    name = getattr(entry, "name", None)
    if not name:
        raise ImproperlyConfigured(f"TASK_QUEUES has the entry {entry!r}; it must be a name, or a kombu Queue with one")
    exchange = getattr(entry, "exchange", None)
    return QueueSpec(
        name=check_name(name),
        exchange=(exchange if isinstance(exchange, str) else getattr(exchange, "name", None)) or name,
        exchange_type=getattr(exchange, "type", None) or "direct",
        routing_key=getattr(entry, "routing_key", None) or name,
        declared=entry,
    )


def _queue_from_options(name: str, options: Mapping[str, Any]) -> QueueSpec:
    return QueueSpec(
        name=check_name(name),
        exchange=options.get("exchange") or name,
        exchange_type=options.get("exchange_type") or "direct",
        routing_key=options.get("routing_key") or options.get("binding_key") or name,
        declared=options,
    )


def default_spec(defaults: Defaults) -> QueueSpec:
    """Describe the default queue."""
    return QueueSpec(
        name=check_name(defaults.queue),
        exchange=defaults.exchange or defaults.queue,
        exchange_type=defaults.exchange_type,
        routing_key=defaults.routing_key or defaults.queue,
    )


@cache
def _topic_pattern(binding: str) -> re.Pattern[str]:
    # AMQP: * is one word, # is any number of them.
    words = [{"*": "[^.]+", "#": ".*"}.get(word, re.escape(word)) for word in binding.split(".")]
    return re.compile(r"\.".join(words).replace(r".*\.", r"(?:.*\.)?").replace(r"\..*", r"(?:\..*)?"))
