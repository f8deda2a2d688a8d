"""Envelopes as rows, and claimed rows as deliveries: the shape of the message table in one place."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

from django_tasks import clock
from django_tasks.exceptions import DecodeError, OperationalError
from django_tasks.layered import MOST_SHARED, Shared, layers
from django_tasks.messages import Delivery, Envelope
from django_tasks.models.queues import Message, MessageState
from django_tasks.serializers import dumps_json, loads_json

TABLE: Final[str] = Message._meta.db_table

# Literals in every statement: a partial index is only used where the database can see the state.
READY: Final = int(MessageState.READY)
CLAIMED: Final = int(MessageState.CLAIMED)
DELAYED: Final = int(MessageState.DELAYED)

#: What is inserted, in this order.
INSERTED: Final = (
    "queue",
    "priority",
    "state",
    "until",
    "deliveries",
    "task_id",
    "task",
    "content_type",
    "content_encoding",
    "headers",
    "properties",
    "body",
    "created_at",
)
#: What a claim returns, in this order.
CLAIMED_COLUMNS: Final = ("id", "queue", "priority", "deliveries", "content_type", "content_encoding", "headers", "properties", "body")

InsertRow: TypeAlias = tuple[Any, ...]
ClaimedRow: TypeAlias = tuple[int, str, int, int, str, str, str, str, bytes]

#: The widest that a ``task`` or ``task_id`` column takes; the headers keep the whole.
_WIDTH: Final = 255
_PRIORITIES: Final = range(-100, 256)
#: Properties that other columns say, or that mean nothing here.
_IN_THE_ROW: Final = frozenset({"correlation_id", "delivery_tag"})


def naive_utc(moment: datetime) -> datetime:
    """Drop the zone of a time after moving it to UTC: what SQLite and MySQL columns hold."""
    return clock.as_utc(moment).replace(tzinfo=None)


def text_utc(moment: datetime) -> str:
    """Write a time as Django writes it into SQLite, whatever USE_TZ says."""
    return str(naive_utc(moment))


def insert_rows(envelopes: Iterable[Envelope], now: datetime, moment: Callable[[datetime], Any]) -> list[InsertRow]:
    """Turn envelopes into rows. ``moment`` writes a time as the database wants it."""
    created = moment(now)
    rows = []
    for envelope in envelopes:
        due = envelope.not_before
        delayed = due is not None and due > now
        headers = envelope.headers
        if envelope.priority not in _PRIORITIES:
            raise OperationalError(f"priority {envelope.priority!r} is not between -100 and 255; nothing was published")
        rows.append(
            (
                envelope.queue,
                envelope.priority,
                DELAYED if delayed else READY,
                moment(due) if delayed and due is not None else None,
                0,
                _label(headers.get("id")),
                _label(headers.get("task")),
                envelope.content_type,
                envelope.content_encoding,
                _kept_headers(headers),
                _kept_properties(envelope.properties),
                envelope.body,
                created,
            )
        )
    return rows


def _kept_headers(headers: Mapping[str, Any]) -> str:
    shared, own = layers(headers)
    return dumps_json({name: value for name, value in own.items() if value is not None})[:-1] + _rest(shared)


@lru_cache(maxsize=MOST_SHARED)
def _rest(shared: Shared) -> str:
    """What follows a message's own headers."""
    return "," + dumps_json({name: value for name, value in shared.items() if value is not None})[1:] if shared else "}"


def _kept_properties(properties: Mapping[str, Any]) -> str:
    # Id and tag are in the row already; what is left is the same for nearly all messages, so it is written once.
    shared, own = layers(properties)
    rest = {name: value for name, value in own.items() if name not in _IN_THE_ROW}
    return dumps_json({**shared, **rest}) if rest else _usual(shared)


@lru_cache(maxsize=MOST_SHARED)
def _usual(shared: Shared) -> str:
    return dumps_json(shared)


def _label(value: Any) -> str:
    # No database takes half a surrogate pair, and PostgreSQL no NUL; the headers, which are JSON, keep both.
    text = str(value or "")
    if not text.isascii() or "\0" in text:
        text = text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return text[:_WIDTH]


def deliveries(rows: Sequence[ClaimedRow]) -> list[Delivery]:
    """Turn claimed rows into deliveries: by priority, the first come first."""
    ordered = sorted(rows, key=lambda row: (-row[2], row[0]))
    headers = _documents([row[6] for row in ordered])
    properties = _documents([row[7] for row in ordered])
    return [_delivery(*parts) for parts in zip(ordered, headers, properties, strict=True)]


def _delivery(row: ClaimedRow, headers: Mapping[str, Any], properties: Mapping[str, Any]) -> Delivery:
    number, queue, priority, count, content_type, content_encoding, _, _, body = row
    way = properties.get("delivery_info") or {}
    properties = {"correlation_id": headers.get("id"), **properties}
    envelope = Envelope(
        body=bytes(body),
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        properties=properties,
        queue=queue,
        priority=priority,
        exchange=way.get("exchange"),
        routing_key=way.get("routing_key"),
    )
    return Delivery(envelope, str(number), queue, count)


def _documents(texts: Sequence[str]) -> list[dict[str, Any]]:
    # One document for the whole batch: the keys are then shared, and a call is saved for each.
    try:
        found: list[dict[str, Any]] = loads_json("[" + ",".join(texts) + "]")
    except DecodeError:
        return [_document(text) for text in texts]
    return found if len(found) == len(texts) else [_document(text) for text in texts]


def _document(text: str) -> dict[str, Any]:
    # A row that somebody broke by hand must not hold up the queue: without headers it becomes a dead letter.
    try:
        found = loads_json(text)
    except DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def utc(moment: datetime | None) -> datetime | None:
    """Read a time from the database, aware or not, as UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
