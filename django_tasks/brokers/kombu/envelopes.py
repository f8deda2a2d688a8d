"""Envelopes to AMQP messages and back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django_tasks.brokers.kombu.declaring import Declared
from django_tasks.brokers.kombu.delays import LADDER, without_delay
from django_tasks.conf import settings
from django_tasks.messages import DELIVERY_COUNT, Envelope

#: AMQP properties that travel as they are. ``expiration`` is not among them: RabbitMQ would drop an expired message without
#: a word, and the worker is to record it as revoked.
_PROPERTIES: Final = ("correlation_id", "reply_to", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id")
#: Bytes of a tag's part that names the task.
_LONGEST_KEY: Final = 42
_MODES: Final = {"transient": 1, "persistent": 2}


@dataclass(slots=True)
class Outgoing:
    """A message on its way, and where to. ``mandatory``: that no queue takes it is an error."""

    envelope: Envelope
    #: Under py-amqp's names; the headers among them are the envelope's.
    properties: dict[str, Any]
    exchange: str
    routing_key: str
    mandatory: bool


def outgoing(envelope: Envelope, queue: Declared) -> Outgoing:
    """Turn an envelope into a message for its queue."""
    exchange, routing_key = envelope.exchange or "", envelope.routing_key or envelope.queue
    if queue.broadcast and not exchange:
        exchange = queue.queue.exchange.name
    elif not exchange:
        routing_key = envelope.queue
    fanout = queue.queue.exchange.type == "fanout" and exchange == queue.queue.exchange.name
    return Outgoing(envelope, properties_of(envelope, queue.most_priority), exchange, routing_key, mandatory=not fanout)


def properties_of(envelope: Envelope, most_priority: int) -> dict[str, Any]:
    """Return the AMQP properties, the headers among them."""
    given = envelope.properties
    mode = settings.TASK_DEFAULT_DELIVERY_MODE
    properties = {
        "content_type": envelope.content_type,
        "content_encoding": envelope.content_encoding,
        "application_headers": envelope.headers,
        "delivery_mode": _MODES.get(mode, mode) if given.get("delivery_mode") != 1 else 1,
        "priority": max(0, min(most_priority, envelope.priority)),
    }
    for name in _PROPERTIES:
        if value := given.get(name):
            properties[name] = value
    return properties


def envelope_of(properties: dict[str, Any], body: Any, exchange: str, routing_key: str, queue: str) -> Envelope:
    """Read what arrived from ``queue``, which need not be where it was sent to. The properties become the envelope's."""
    headers = properties.pop("application_headers", None) or {}
    content_type = properties.pop("content_type", None) or "application/data"
    content_encoding = properties.pop("content_encoding", None) or "binary"
    routing_key = without_delay(routing_key)
    if exchange.startswith(LADDER):
        # From the ladder of delays, which keeps no record of where the message was sent to first.
        exchange, routing_key = "", queue
    priority = properties["priority"] = properties.get("priority") or 0
    properties["delivery_info"] = {"exchange": exchange, "routing_key": routing_key}
    return Envelope(
        body=body if type(body) is bytes else body.encode() if isinstance(body, str) else bytes(body or b""),
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        properties=properties,
        queue=queue,
        priority=priority,
        exchange=exchange,
        routing_key=routing_key,
    )


def task_key(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """Name the task of a message in at most 42 characters: its id, or a hash of a longer one; "" if it has none."""
    task_id = headers.get("id") or properties.get("correlation_id")
    if not isinstance(task_id, str):
        return ""
    if len(task_id) <= _LONGEST_KEY and task_id.isprintable():
        return task_id
    # Rows are found by it: no database has bytes for half a surrogate pair, and PostgreSQL none for NUL.
    return "#" + hashlib.sha1(task_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def key_of_tag(tag: str) -> str:
    """Return the task's key in a delivery's tag."""
    return tag.partition(":")[2]


def earlier_deliveries(headers: Mapping[str, Any]) -> int:
    """How often the message was handed out before, as its header says."""
    count = headers.get(DELIVERY_COUNT)
    return count if type(count) is int and count > 0 else 0
