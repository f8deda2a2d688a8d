"""Celery's task message protocol: version 2 in both directions, version 1 for reading.

What a broker does with an envelope (base64, its own JSON around it) is the broker's; ``body`` is the serialized bytes,
so there is no ``body_encoding`` among the properties, and no ``delivery_tag``: brokers whose layout has them add them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from operator import attrgetter, is_
from typing import Any, Final

from django_tasks import clock
from django_tasks.exceptions import EncodeError, InvalidTaskError
from django_tasks.layered import MOST_SHARED, Layered, Shared
from django_tasks.messages import DELIVERY_COUNT, KEPT_ASIDE, NOTHING, SENT_AT, UNKNOWN_SINCE, Destination, Envelope, TaskMessage
from django_tasks.records import maker
from django_tasks.reprs import cut_repr
from django_tasks.serializers import JSON_TYPE, dumps, dumps_json, loads, plain_signatures, serializer_of

#: Most characters of ``argsrepr`` and ``kwargsrepr``.
REPR_LENGTH: Final = 1024
#: Survive a broker's restart.
PERSISTENT: Final = 2

_NO_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
# fmt: off
#: Headers that every message has.
_PROTOCOL: Final = frozenset({
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id", "parent_id",
    "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps",
})
# fmt: on
#: Headers with a field of their own in TaskMessage, and those that belong to one delivery only.
_KNOWN: Final = _PROTOCOL | {"compression", "redelivered", DELIVERY_COUNT, KEPT_ASIDE, UNKNOWN_SINCE, SENT_AT}
#: Keys of a protocol 1 body that are no headers.
_VERSION_1_BODY: Final = frozenset({"args", "kwargs", "callbacks", "errbacks", "chord", "utc", "taskset"})


def encode(messages: Sequence[TaskMessage], destinations: Sequence[Destination], *, origin: str) -> list[Envelope]:
    """Turn messages into protocol 2 envelopes for their destinations.

    ``origin`` names the sending process where a message doesn't. A message's own headers lie beside the protocol's;
    one with the name of a protocol header gives way to it. Raises EncodeError, naming the task, for arguments that can't be serialized.
    """
    row = _Row(origin)
    return [row.encode(message, destination) for message, destination in zip(messages, destinations, strict=True)]


def body_of(envelope: Envelope) -> tuple[Any, ...]:
    """Return the body of a message of ours as Celery hands it to receivers: ``(args, kwargs, embed)``."""
    compression = envelope.headers.get("compression")
    accept = [envelope.content_type]
    return tuple(loads(envelope.body, envelope.content_type, envelope.content_encoding, accept=accept, compression=compression))


def with_body(envelope: Envelope, body: Sequence[Any]) -> Envelope:
    """Return the envelope with another body, serialized as its own is. Raises EncodeError, naming the task, for what can't be."""
    try:
        serializer = serializer_of(envelope.content_type) or "json"
        payload = dumps(plain_signatures(list(body)), serializer, envelope.headers.get("compression"))
    except EncodeError as error:
        raise EncodeError(f"the arguments of the task {envelope.headers.get('task')!r} can't be sent: {error}") from error
    return replace(envelope, body=payload.body)


def decode(envelope: Envelope, *, accept: Collection[str]) -> TaskMessage:
    """Read a protocol 2 or protocol 1 message.

    Raises ContentDisallowed for a content type that is not accepted, DecodeError for a body that can't be read,
    and InvalidTaskError for what is no call of a task.
    """
    headers = envelope.headers
    if not isinstance(compression := headers.get("compression"), str | None):
        raise InvalidTaskError(f"the header compression must be text, but it is {_cut_repr(compression)}")
    body = loads(
        envelope.body,
        envelope.content_type,
        envelope.content_encoding,
        accept=accept,
        compression=compression,
    )
    if headers.get("task"):
        args, kwargs, embed = _parts(body)
        return _message(envelope, headers, args, kwargs, embed)
    return _decode_version_1(envelope, body)


class _Row:
    """Messages in a row. What neighbours have in common, as members of a group do, is worked out once."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._sent_at = clock.now().isoformat()
        self._common: tuple[Any, ...] = ()
        self._destination: Destination | None = None
        self._embed: Mapping[str, Any] = NOTHING
        self._embed_json = _NO_EMBED_JSON

    def encode(self, message: TaskMessage, destination: Destination) -> Envelope:
        """Turn the next message into an envelope."""
        common = _COMMON(message)
        # The same objects: equal ones may look different in JSON, as True and 1 do.
        if destination is not self._destination or not all(map(is_, common, self._common)):
            self._turn_to(message, destination)
            self._common, self._destination = common, destination
        kwargs = message.kwargs
        if type(kwargs) is not dict:
            kwargs = dict(kwargs)
        body, content_type, content_encoding, compression = self._body(message, kwargs, destination)
        own = _own_headers(message, kwargs)
        own[SENT_AT] = self._sent_at
        if self._times:
            own.update(self._times)
        if compression is not None:
            own["compression"] = compression
        properties: Mapping[str, Any] = Layered(self._properties, {"correlation_id": message.id, **self._expiration})
        if message.properties:
            properties = {**properties, **message.properties}
        return _envelope(
            body=body,
            content_type=content_type,
            content_encoding=content_encoding,
            headers=Layered(self._headers, own),
            properties=properties,
            queue=destination.queue,
            priority=destination.priority,
            not_before=message.eta,
            exchange=destination.exchange,
            routing_key=destination.routing_key,
        )

    def _turn_to(self, message: TaskMessage, destination: Destination) -> None:
        eta, expires = message.eta, message.expires
        self._headers = _shared_headers(message, self._origin)
        way = destination.exchange, destination.routing_key
        self._properties = _remembered(_shared_properties, message.reply_to or "", *way, destination.priority)
        self._times = {"eta": eta and eta.isoformat(), "expires": expires and expires.isoformat()} if _is_timed(message) else {}
        left = None if expires is None else (expires - clock.now()).total_seconds()
        self._expiration = {} if left is None else {"expiration": str(max(0, int(left * 1000)))}

    def _body(self, message: TaskMessage, kwargs: dict[str, Any], destination: Destination) -> tuple[bytes, str, str, str | None]:
        """Return a body, its content type and encoding, and the content type of its compression."""
        try:
            if destination.serializer == "json" and destination.compression is None:
                return f"{dumps_json([message.args, kwargs])[:-1]},{self._json(message.embed)}]".encode(), JSON_TYPE, "utf-8", None
            body = [message.args, kwargs, {**_NO_EMBED, **message.embed}]
            if destination.serializer != "json":
                body = plain_signatures(body)
            payload = dumps(body, destination.serializer, destination.compression)
        except EncodeError as error:
            raise EncodeError(f"the arguments of the task {message.task!r} can't be sent: {error}") from error
        return payload.body, payload.content_type, payload.content_encoding, payload.compression

    def _json(self, embed: Mapping[str, Any]) -> str:
        if embed is not self._embed:
            self._embed_json = dumps_json({**_NO_EMBED, **embed})
            self._embed = embed
        return self._embed_json


_NO_EMBED_JSON: Final = dumps_json(_NO_EMBED)
_envelope: Final = maker(Envelope)
# fmt: off
#: What of a message goes into the layers that it shares, or is written by them.
_COMMON: Final = attrgetter(
    "task", "shadow", "group", "retries", "time_limit", "soft_time_limit", "origin", "ignore_result", "replaced_task_nesting",
    "eta", "expires", "stamped_headers", "stamps", "reply_to",
)
# fmt: on


def _own_headers(message: TaskMessage, kwargs: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "id": message.id,
        "group_index": message.group_index,
        "root_id": message.root_id or message.id,
        "parent_id": message.parent_id,
        "argsrepr": _cut_repr(message.args) if message.argsrepr is None else message.argsrepr,
        "kwargsrepr": _cut_repr(kwargs) if message.kwargsrepr is None else message.kwargsrepr,
    }
    if _is_stamped(message):
        own["stamped_headers"] = None if message.stamped_headers is None else list(message.stamped_headers)
        own["stamps"] = dict(message.stamps)
    if message.headers:
        own.update({name: value for name, value in message.headers.items() if name not in _PROTOCOL})
    return own


def _is_timed(message: TaskMessage) -> bool:
    return message.eta is not None or message.expires is not None


def _is_stamped(message: TaskMessage) -> bool:
    return message.stamped_headers is not None or len(message.stamps) > 0


def _shared_headers(message: TaskMessage, origin: str) -> Shared:
    return _remembered(
        _headers,
        message.task,
        message.shadow,
        message.group,
        message.retries,
        message.time_limit,
        message.soft_time_limit,
        message.origin or origin,
        message.ignore_result,
        message.replaced_task_nesting,
        _is_timed(message),
        _is_stamped(message),
    )


def _remembered(function: Any, *values: Any) -> Shared:
    try:
        shared: Shared = function(*values)
    except TypeError:
        # A value that can't be hashed: somebody else's message, with a list where text belongs.
        shared = function.__wrapped__(*values)
    return shared


# By type as well, since True, 1 and 1.0 are equal and look different in JSON.
@lru_cache(maxsize=MOST_SHARED, typed=True)
def _headers(
    task: str,
    shadow: str | None,
    group: str | None,
    retries: int,
    time_limit: float | None,
    soft_time_limit: float | None,
    origin: str,
    ignore_result: bool | None,
    replaced_task_nesting: int,
    timed: bool,
    stamped: bool,
) -> Shared:
    headers = Shared(
        lang="py",
        task=task,
        shadow=shadow,
        group=group,
        retries=retries,
        timelimit=[time_limit, soft_time_limit],
        origin=origin,
        ignore_result=ignore_result,
        replaced_task_nesting=replaced_task_nesting,
    )
    # Times and stamps are a message's own, if it has any.
    if not timed:
        headers.update(eta=None, expires=None)
    if not stamped:
        headers.update(stamped_headers=None, stamps={})
    return headers


@lru_cache(maxsize=MOST_SHARED, typed=True)
def _shared_properties(reply_to: str, exchange: str, routing_key: str, priority: int) -> Shared:
    way = {"exchange": exchange, "routing_key": routing_key}
    return Shared(reply_to=reply_to, delivery_mode=PERSISTENT, delivery_info=way, priority=priority)


def _cut_repr(value: Any) -> str:
    return cut_repr(value, REPR_LENGTH)


def _parts(body: Any) -> tuple[list[Any], dict[str, Any], Mapping[str, Any]]:
    try:
        args, kwargs, embed = body
    except (TypeError, ValueError):
        raise InvalidTaskError(f"the body must be [args, kwargs, embed], but it is {_cut_repr(body)}") from None
    _check_arguments(args, kwargs)
    if embed is None:
        return args, kwargs, NOTHING
    if not isinstance(embed, dict):
        raise InvalidTaskError(f"the body's third part must be an object, but it is {_cut_repr(embed)}")
    if embed == _NO_EMBED:
        return args, kwargs, NOTHING
    _check_embed(embed)
    return args, kwargs, embed


def _check_embed(embed: Mapping[str, Any]) -> None:
    for name in ("callbacks", "errbacks", "chain"):
        if not _is_list_of(embed.get(name) or [], dict):
            raise InvalidTaskError(f"{name} must be a list of signatures, but they are {_cut_repr(embed[name])}")
    if not isinstance(embed.get("chord"), dict | None):
        raise InvalidTaskError(f"chord must be a signature, but it is {_cut_repr(embed['chord'])}")


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, kind) for each in value)


def _check_arguments(args: Any, kwargs: Any) -> None:
    if not isinstance(args, list | tuple):
        raise InvalidTaskError(f"positional arguments must be a list, but they are {_cut_repr(args)}")
    if not isinstance(kwargs, dict) or not all(type(name) is str for name in kwargs):
        raise InvalidTaskError(f"named arguments must be an object with names for keys, but they are {_cut_repr(kwargs)}")


def _decode_version_1(envelope: Envelope, body: Any) -> TaskMessage:
    if not isinstance(body, dict) or not body.get("task") or not body.get("id"):
        raise InvalidTaskError(f"neither the headers nor the body name a task and its id; the body is {_cut_repr(body)}")
    args, kwargs = body.get("args") or [], body.get("kwargs") or {}
    _check_arguments(args, kwargs)
    fields = {name: value for name, value in body.items() if name not in _VERSION_1_BODY}
    fields["group"] = body.get("group") or body.get("taskset")
    fields.update(envelope.headers)
    if body.get("utc") is False:
        # Only here are naive times the sender's local ones; we can but take them for ours.
        fields.update({name: _local(fields.get(name)) for name in ("eta", "expires")})
    embed = {name: body.get(name) for name in ("callbacks", "errbacks", "chord")}
    return _message(envelope, fields, args, kwargs, {**_NO_EMBED, **embed} if any(embed.values()) else NOTHING)


def _message(envelope: Envelope, headers: Mapping[str, Any], args: Sequence[Any], kwargs: Any, embed: Mapping[str, Any]) -> TaskMessage:
    get = headers.get
    properties = envelope.properties
    try:
        time_limit, soft_time_limit = get("timelimit") or _NO_LIMITS
        if time_limit is not None or soft_time_limit is not None:
            _check_limits(time_limit, soft_time_limit)
        eta, expires = get("eta"), get("expires")
        if get("stamped_headers") or get("stamps"):
            _check_stamps(get("stamped_headers"), get("stamps"))
        return TaskMessage(
            id=_text(headers["id"]),
            task=_text(headers["task"]),
            args=args,
            kwargs=kwargs,
            queue=envelope.queue,
            exchange=envelope.exchange,
            routing_key=envelope.routing_key,
            priority=_priority(properties.get("priority")),
            eta=None if eta is None else clock.parse_iso(eta),
            expires=None if expires is None else clock.parse_iso(expires),
            retries=_count("retries", int(get("retries") or 0)),
            root_id=None if (root_id := get("root_id")) is None else _text(root_id),
            parent_id=None if (parent_id := get("parent_id")) is None else _text(parent_id),
            group=None if (group := get("group")) is None else _text(group),
            group_index=None if (index := get("group_index")) is None else _count("group_index", index),
            time_limit=time_limit,
            soft_time_limit=soft_time_limit,
            ignore_result=None if (ignored := get("ignore_result")) is None else bool(ignored),
            shadow=get("shadow"),
            reply_to=None if not (reply_to := properties.get("reply_to")) else _name_of_a_queue(reply_to),
            origin=get("origin"),
            replaced_task_nesting=_count("replaced_task_nesting", get("replaced_task_nesting") or 0),
            stamped_headers=get("stamped_headers"),
            stamps=get("stamps") or NOTHING,
            argsrepr=get("argsrepr"),
            kwargsrepr=get("kwargsrepr"),
            # A retry goes out in the form that the message came in: its arguments may know no other.
            serializer=None if envelope.content_type == JSON_TYPE else serializer_of(envelope.content_type),
            compression=get("compression"),
            embed=embed,
            headers=NOTHING if headers.keys() <= _KNOWN else {name: headers[name] for name in headers if name not in _KNOWN},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidTaskError(f"the headers can't be read: {type(error).__name__} {error}; they are {_cut_repr(headers)}") from error


_NO_LIMITS: Final = (None, None)
#: Largest number that counts something: tables have 32 bits for it.
_MOST: Final = 2**31 - 1
_LOWEST_PRIORITY: Final = -100
#: Of a queue's name, in AMQP.
_LONGEST_NAME: Final = 255
_HIGHEST_PRIORITY: Final = 255


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"names and ids must be text, not {value!r}")
    if not value.isascii():
        # Half a surrogate pair: brokers, databases and result stores have no bytes for it.
        value.encode()
    return value


def _name_of_a_queue(value: Any) -> str:
    # A result may be sent there, and a retry carries it on: no broker has bytes for half a surrogate pair.
    if len(_text(value)) > _LONGEST_NAME:
        raise ValueError(f"reply_to must have {_LONGEST_NAME} characters at most, not {len(value)}")
    return str(value)


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= _MOST:
        raise TypeError(f"{name} must be a whole number from 0 to {_MOST}, not {value!r}")
    return value


def _priority(said: Any) -> int | None:
    # Some brokers carry what the sender wrote; what can't be one counts as none, and large ones as the largest.
    if type(said) is int or (isinstance(said, float) and isfinite(said)):
        return min(max(int(said), _LOWEST_PRIORITY), _HIGHEST_PRIORITY)
    return None


def _check_stamps(names: Any, stamps: Any) -> None:
    if not (_is_list_of(names or [], str) and isinstance(stamps or {}, dict)):
        raise TypeError(f"stamped_headers must be a list of names and stamps an object, not {names!r} and {stamps!r}")


def _check_limits(*limits: Any) -> None:
    # A limit that can't be reckoned with would end the process that runs the task, and the next one that gets it.
    for limit in limits:
        if limit is not None and not (isinstance(limit, int | float) and isfinite(limit) and limit >= 0):
            raise TypeError(f"timelimit must be two numbers of seconds, 0 or more, not {limits!r}")


def _local(moment: Any) -> Any:
    if not isinstance(moment, str):
        return moment
    return datetime.fromisoformat(moment).astimezone(UTC).isoformat()
