"""What travels: a call, the envelope a broker carries, a delivery, and what becomes of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from hashlib import sha256
from itertools import count
from os import urandom
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from django_tasks.records import quick

#: A signature as it lies in a message: ``{"task", "args", "kwargs", "options", "subtask_type", "immutable"}``.
WireSignature: TypeAlias = Mapping[str, Any]

#: Header that counts how often a message has been handed out before; RabbitMQ's quorum queues have a header of this name.
DELIVERY_COUNT: Final = "x-delivery-count"

#: Header of a message whose task no worker knew when it was first seen: that time (ISO 8601).
UNKNOWN_SINCE: Final = "x-unknown-since"
#: Set on a message whose task was running when it was sent again: it counts as one that the broker handed out before.
KEPT_ASIDE: Final = "x-kept-aside"

#: Header of a message that says when it was sent (ISO 8601).
SENT_AT: Final = "x-sent-at"

#: Header that names what a caller hides by ``argsrepr`` and ``kwargsrepr``: "args", "kwargs".
HIDDEN: Final = "x-hidden-arguments"

#: Header of a message that was sent again although its task had been revoked: the number of the revocation that counts no more.
LIFTED: Final = "x-lifted-revocation"

#: The reserved queue of the database broker in which messages wait for another broker (``django_tasks.parking``).
PARKED: Final = "django_tasks.parked"

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    # A factory, because Python 3.11 takes a read-only mapping for a mutable default.
    return NOTHING


def new_id() -> str:
    """Return a new task id: a random UUID (version 4) as text, unguessable."""
    series = _series.get()
    return _id(urandom(16).hex() if series is None else next(series))


def uuid() -> str:
    """Return a new task id: a random UUID (version 4) as text, unguessable. Celery's name for it."""
    return new_id()


def new_ids(count: int) -> list[str]:
    """Return that many new ids. For many it takes half the time: the system is asked once."""
    series = _series.get()
    if series is not None:
        return [_id(next(series)) for _ in range(count)]
    digits = urandom(16 * count).hex()
    return [_id(digits[at : at + 32]) for at in range(0, 32 * count, 32)]


def _id(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


_series: ContextVar[Iterator[str] | None] = ContextVar("django_tasks_ids", default=None)


@contextmanager
def repeatable_ids(seed: str) -> Iterator[None]:
    """Let new ids inside the block follow from ``seed``: a run that is repeated sends the same tasks, not others beside them."""
    token = _series.set(sha256(f"{seed}/{number}".encode()).hexdigest()[:32] for number in count())
    try:
        yield
    finally:
        _series.reset(token)


#: A version 4 UUID has 10 in the first two bits of this digit. By hand, since uuid.uuid4() costs six times as much.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMessage:
    """One call of a task: the fields of Celery's message protocol 2, decoded.

    ``queue`` is empty until routing has chosen one. ``embed`` holds the wire signatures that follow this
    call under Celery's keys: ``callbacks``, ``errbacks``, ``chain`` (reversed: the next step is the last
    element) and ``chord``. ``headers`` holds every header that has no field here, as it came. Times are
    aware; limits are seconds.
    """

    id: str
    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=_nothing)
    queue: str = ""
    exchange: str | None = None
    routing_key: str | None = None
    priority: int | None = None
    eta: datetime | None = None
    expires: datetime | None = None
    retries: int = 0
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    #: None leaves it to the task.
    ignore_result: bool | None = None
    shadow: str | None = None
    reply_to: str | None = None
    origin: str | None = None
    replaced_task_nesting: int = 0
    stamped_headers: Sequence[str] | None = None
    stamps: Mapping[str, Any] = field(default_factory=_nothing)
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    serializer: str | None = None
    compression: str | None = None
    embed: Mapping[str, Any] = field(default_factory=_nothing)
    headers: Mapping[str, Any] = field(default_factory=_nothing)
    #: Properties of the envelope that the caller chose (``app_id``, ``delivery_mode`` ...), under AMQP's names. Only on the way out.
    properties: Mapping[str, Any] = field(default_factory=_nothing)


def shown_arguments(message: TaskMessage) -> tuple[Any, Any]:
    """Return what may be kept and shown of a call's arguments, by position and by name: texts in the place of what the caller hides."""
    if HIDDEN not in message.headers:
        return message.args, message.kwargs
    hidden = message.headers[HIDDEN]
    if not isinstance(hidden, list | tuple):
        # Somebody else's header: a result must be stored whatever it holds.
        return message.args, message.kwargs
    return (message.argsrepr if "args" in hidden else message.args), (message.kwargsrepr if "kwargs" in hidden else message.kwargs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where routing sends a message, and the options that its route adds."""

    queue: str
    exchange: str = ""
    routing_key: str = ""
    priority: int = 0
    serializer: str = "json"
    compression: str | None = None


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a broker carries. Brokers read queue, priority and not_before; never the body.

    ``headers`` and ``properties`` are those of Celery's protocol 2 (JSON values): read-only mappings, of which a broker makes
    a dict where it needs one. ``not_before`` is the time before which nobody may receive it; None means at once.
    """

    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    queue: str
    priority: int = 0
    not_before: datetime | None = None
    exchange: str | None = None
    routing_key: str | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """How a process died while it ran a task: ``cause`` is one of ``worker.recovery``'s words, ``how`` tells it to people."""

    cause: str
    how: str = ""


@quick
@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope in a worker's hands, until it is settled.

    ``tag`` names it to the broker; ``deliveries`` counts how often it was handed out, this time included.
    ``death`` is set by brokers that can't settle what a killed process held: how the process died that ran it before.
    """

    envelope: Envelope
    tag: str
    queue: str
    deliveries: int = 1
    death: Death | None = None


class Disposition(Enum):
    """What becomes of a delivery."""

    ACK = "ack"  #: done; forget it
    REQUEUE = "requeue"  #: give it back; anyone may have it now
    DELAY = "delay"  #: give it back; nobody may have it before ``Settlement.until``
    DEAD = "dead"  #: take it out of circulation; its dead letter has been recorded


@quick
@dataclass(frozen=True, slots=True)
class Settlement:
    """One delivery's fate. ``counted=False`` takes the delivery back uncounted: it was never started.

    With ``instead``, the completer sends that envelope and acknowledges the delivery: for a message that has to
    change before it is handed out again.
    """

    delivery: Delivery
    disposition: Disposition
    until: datetime | None = None
    reason: str = ""
    counted: bool = True
    instead: Envelope | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadMessage:
    """An envelope that can't be processed, with why: what a dead letter records."""

    envelope: Envelope
    reason: str
    detail: str = ""
    deliveries: int = 1
    worker: str = ""
    died_at: datetime | None = field(default=None)
