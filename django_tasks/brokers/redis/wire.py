"""kombu's message on Redis: JSON around a body in base64."""

import json
import os
from base64 import b64decode
from binascii import Error as Base64Error
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Final

from django_tasks.brokers.redis.keys import Keys
from django_tasks.layered import MOST_SHARED, Shared, layers
from django_tasks.messages import DELIVERY_COUNT, NOTHING, Envelope, new_id
from django_tasks.records import maker, quick
from django_tasks.serializers import dumps_json

#: What is said of bytes that are no message: no serializer has this type, so the message becomes a dead letter.
UNREADABLE: Final = "application/x-unreadable"
#: Said anew of each publishing, and of each delivery.
_OF_A_PUBLISHING: Final = frozenset({"body_encoding", "delivery_tag"})
_OF_A_DELIVERY: Final = frozenset({DELIVERY_COUNT, "redelivered"})
#: Nothing is handed out as often: a larger number is somebody's invention.
_MOST_COUNTED: Final = 1_000_000
_BROKEN: Final = (ValueError, TypeError, KeyError, AttributeError, Base64Error, RecursionError, OverflowError)


@quick
@dataclass(frozen=True, slots=True)
class Parsed:
    """A message as it was found: the envelope, and how often it had been handed out before."""

    envelope: Envelope
    earlier: int


_parsed: Final = maker(Parsed)
_envelope: Final = maker(Envelope)


def write(envelope: Envelope, priority: int) -> bytes:
    """Write an envelope as kombu does, with the priority as kombu is to see it. Each writing has a delivery tag of its own."""
    headers, own_headers = layers(envelope.headers)
    properties, own = layers(envelope.properties)
    if not _WRITTEN_HERE.isdisjoint(own):
        own = {name: value for name, value in own.items() if name not in _WRITTEN_HERE}
    # By hand: base64 needs no escapes, so that the encoder needn't look at each character of a long body; and what messages
    # have in common is encoded once.
    return (
        f'{{"body":"{b2a_base64(envelope.body, newline=False).decode()}",{_content(envelope.content_type, envelope.content_encoding)}'
        f'"headers":{dumps_json(own_headers)[:-1]}{_rest(headers)},'
        f'"properties":{{{_members(own) if own else ""}{_way(properties, envelope.exchange or "", envelope.routing_key or envelope.queue)}'
        f'"priority":{priority},"body_encoding":"base64","delivery_tag":"{_tags.next()}"}}}}'
    ).encode()


class _Tags:
    """Delivery tags: a beginning that no other process has, and a number."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Take another beginning: a forked child must not go on with its parent's."""
        self._beginning = new_id()
        self._numbers = count()

    def next(self) -> str:
        """Return one that was never used."""
        return f"{self._beginning}.{next(self._numbers)}"


_tags = _Tags()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tags.begin)

_WRITTEN_HERE: Final = _OF_A_PUBLISHING | {"delivery_info", "priority"}


@lru_cache(maxsize=MOST_SHARED)
def _content(content_type: str, content_encoding: str) -> str:
    return _members({"content-encoding": content_encoding, "content-type": content_type})


@lru_cache(maxsize=MOST_SHARED)
def _rest(shared: Shared) -> str:
    """What follows a message's own headers."""
    return f",{dumps_json(shared)[1:]}" if shared else "}"


@lru_cache(maxsize=MOST_SHARED)
def _way(shared: Shared, exchange: str, routing_key: str) -> str:
    rest = {name: value for name, value in shared.items() if name not in _WRITTEN_HERE}
    return _members({**rest, "delivery_info": {"exchange": exchange, "routing_key": routing_key}})


def _members(entries: Mapping[str, Any]) -> str:
    return f"{dumps_json(entries)[1:-1]},"


def read(payload: bytes, queue: str, label: str, keys: Keys) -> Parsed:
    """Read a message of ours or of kombu's; what is none becomes an envelope that nobody can decode, with the bytes as its body."""
    try:
        message = json.loads(payload)
        headers = message.get("headers") or {}
        properties = message.get("properties") or {}
        info = properties.get("delivery_info") or {}
        body, said = message["body"], properties.get("priority")
        priority = keys.priority(label, said)
        kept = {name: value for name, value in properties.items() if name not in _OF_A_PUBLISHING}
        if said is not None:
            kept["priority"] = priority
        earlier = _earlier(headers, info)
        if not _OF_A_DELIVERY.isdisjoint(headers):
            headers = {name: value for name, value in headers.items() if name not in _OF_A_DELIVERY}
        return _parsed(
            _envelope(
                body=b64decode(body, validate=True) if properties.get("body_encoding") == "base64" else _plain(body),
                content_type=str(message.get("content-type") or UNREADABLE),
                content_encoding=str(message.get("content-encoding") or "utf-8"),
                headers=headers,
                properties=kept,
                queue=queue,
                priority=priority,
                exchange=str(info.get("exchange") or ""),
                routing_key=str(info.get("routing_key") or queue),
            ),
            earlier,
        )
    except _BROKEN:
        return Parsed(
            Envelope(body=payload, content_type=UNREADABLE, content_encoding="binary", headers=NOTHING, properties=NOTHING, queue=queue), 0
        )


def _plain(body: Any) -> bytes:
    return (body if isinstance(body, str) else dumps_json(body)).encode()


def _earlier(headers: Mapping[str, Any], info: Mapping[str, Any]) -> int:
    count = headers.get(DELIVERY_COUNT)
    if isinstance(count, int):
        return min(max(count, 0), _MOST_COUNTED)
    # kombu only says that it was handed out before.
    return 1 if headers.get("redelivered") or info.get("redelivered") else 0


def recounted(payload: bytes) -> bytes:
    """Return the message with one more hand-out counted, and kombu's marks of a redelivery. What is no message stays as it is."""
    try:
        message = json.loads(payload)
        _mark(message, counted=True)
        return json.dumps(message, separators=(",", ":")).encode()
    except _BROKEN:
        return payload


def _mark(message: Any, *, counted: bool) -> None:
    headers = message.setdefault("headers", {})
    info = message.setdefault("properties", {}).setdefault("delivery_info", {})
    if counted or DELIVERY_COUNT in headers:
        headers[DELIVERY_COUNT] = _earlier(headers, info) + 1
    headers["redelivered"] = info["redelivered"] = True


def taken_out(entry: bytes) -> tuple[bytes, str]:
    """Take message and queue out of an entry that the claim wrote: ``[<message>,"","<queue>"]``, the message as it was."""
    # Quotation marks in the queue's name are escaped, so that this can't be found in it.
    message, _, rest = entry.rpartition(b',"","')
    return message[1:], str(json.loads(b'"' + rest[:-1]))


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What a worker of Celery's held: the message, marked as kombu marks what it restores, and where it belongs."""

    payload: bytes
    exchange: str
    routing_key: str
    priority: int


def abandoned(entry: bytes) -> Abandoned | None:
    """Read an entry of kombu's table; None for what is none."""
    try:
        message, exchange, routing_key = json.loads(entry)
        # Celery's long tasks come back this way, too, so nothing is counted that kombu does not.
        _mark(message, counted=False)
        priority = int(message["properties"].get("priority") or 0)
        return Abandoned(json.dumps(message, separators=(",", ":")).encode(), str(exchange or ""), str(routing_key or ""), priority)
    except _BROKEN:
        return None
