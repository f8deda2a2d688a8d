"""Celery's task message protocol: version 2 in both directions, version 1 for reading.

What a broker does with an envelope (base64, its own JSON around it) is the broker's; ``body`` is the serialized bytes,
so there is no ``body_encoding`` among the properties, and no ``delivery_tag``: brokers whose layout has them add them.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django_tasks import clock
from django_tasks.exceptions import EncodeError, InvalidTaskError
from django_tasks.messages import DELIVERY_COUNT, NOTHING, UNKNOWN_SINCE, Destination, Envelope, TaskMessage
from django_tasks.serializers import JSON_TYPE, dumps, dumps_json, loads, serializer_of

#: Most characters of ``argsrepr`` and ``kwargsrepr``.
REPR_LENGTH: Final = 1024
#: Survive a broker's restart.
PERSISTENT: Final = 2

_NO_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
#: Headers with a field of their own in TaskMessage, and those that belong to one delivery only.
# fmt: off
_KNOWN: Final = frozenset({
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id", "parent_id",
    "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps", "compression",
    "redelivered", DELIVERY_COUNT, UNKNOWN_SINCE,
})
# fmt: on
#: Keys of a protocol 1 body that are no headers.
_VERSION_1_BODY: Final = frozenset({"args", "kwargs", "callbacks", "errbacks", "chord", "utc", "taskset"})


def encode(messages: Sequence[TaskMessage], destinations: Sequence[Destination], *, origin: str) -> list[Envelope]:
    """Turn messages into protocol 2 envelopes for their destinations.

    ``origin`` names the sending process where a message doesn't. A message's own headers lie beside the protocol's;
    one with the name of a protocol header gives way to it. Raises EncodeError, naming the task, for arguments that can't be serialized.
    """
    return [_encode(message, destination, origin) for message, destination in zip(messages, destinations, strict=True)]


def decode(envelope: Envelope, *, accept: Collection[str]) -> TaskMessage:
    """Read a protocol 2 or protocol 1 message.

    Raises ContentDisallowed for a content type that is not accepted, DecodeError for a body that can't be read,
    and InvalidTaskError for what is no call of a task.
    """
    headers = envelope.headers
    body = loads(
        envelope.body,
        envelope.content_type,
        envelope.content_encoding,
        accept=accept,
        compression=headers.get("compression"),
    )
    if headers.get("task"):
        args, kwargs, embed = _parts(body)
        return _message(envelope, headers, args, kwargs, embed)
    return _decode_version_1(envelope, body)


def _encode(message: TaskMessage, destination: Destination, origin: str) -> Envelope:
    args, kwargs = message.args, message.kwargs
    if type(kwargs) is not dict:
        kwargs = dict(kwargs)
    embed = {**_NO_EMBED, **message.embed} if message.embed else _NO_EMBED
    body, content_type, content_encoding, compression = _serialize(message.task, [args, kwargs, embed], destination)
    headers = _headers(message, origin)
    headers["argsrepr"] = _cut_repr(args) if message.argsrepr is None else message.argsrepr
    headers["kwargsrepr"] = _cut_repr(kwargs) if message.kwargsrepr is None else message.kwargsrepr
    if compression is not None:
        headers["compression"] = compression
    return Envelope(
        body=body,
        content_type=content_type,
        content_encoding=content_encoding,
        headers=headers,
        properties=_properties(message, destination),
        queue=destination.queue,
        priority=destination.priority,
        not_before=message.eta,
        exchange=destination.exchange,
        routing_key=destination.routing_key,
    )


def _serialize(task: str, body: list[Any], destination: Destination) -> tuple[bytes, str, str, str | None]:
    try:
        if destination.serializer == "json" and destination.compression is None:
            return dumps_json(body).encode(), JSON_TYPE, "utf-8", None
        payload = dumps(body, destination.serializer, destination.compression)
    except EncodeError as error:
        raise EncodeError(f"the arguments of the task {task!r} can't be sent: {error}") from error
    return payload.body, payload.content_type, payload.content_encoding, payload.compression


def _headers(message: TaskMessage, origin: str) -> dict[str, Any]:
    eta, expires = message.eta, message.expires
    headers = {
        "lang": "py",
        "task": message.task,
        "id": message.id,
        "shadow": message.shadow,
        "eta": None if eta is None else eta.isoformat(),
        "expires": None if expires is None else expires.isoformat(),
        "group": message.group,
        "group_index": message.group_index,
        "retries": message.retries,
        "timelimit": [message.time_limit, message.soft_time_limit],
        "root_id": message.root_id or message.id,
        "parent_id": message.parent_id,
        "argsrepr": None,
        "kwargsrepr": None,
        "origin": message.origin or origin,
        "ignore_result": message.ignore_result,
        "replaced_task_nesting": message.replaced_task_nesting,
        "stamped_headers": None if message.stamped_headers is None else list(message.stamped_headers),
        "stamps": dict(message.stamps),
    }
    return {**message.headers, **headers} if message.headers else headers


def _properties(message: TaskMessage, destination: Destination) -> dict[str, Any]:
    properties = {
        "correlation_id": message.id,
        "reply_to": message.reply_to or "",
        "delivery_mode": PERSISTENT,
        "delivery_info": {"exchange": destination.exchange, "routing_key": destination.routing_key},
        "priority": destination.priority,
    }
    if message.expires is not None:
        left = (message.expires - clock.now()).total_seconds()
        properties["expiration"] = str(max(0, int(left * 1000)))
    return properties


def _cut_repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  somebody's __repr__; the text is for people only
        return f"<repr raised {error!r}>"
    return text if len(text) <= REPR_LENGTH else f"{text[: REPR_LENGTH - 3]}..."


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
    return args, kwargs, NOTHING if embed == _NO_EMBED else embed


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
        eta, expires = get("eta"), get("expires")
        return TaskMessage(
            id=_text(headers["id"]),
            task=_text(headers["task"]),
            args=args,
            kwargs=kwargs,
            queue=envelope.queue,
            exchange=envelope.exchange,
            routing_key=envelope.routing_key,
            priority=properties.get("priority"),
            eta=None if eta is None else clock.parse_iso(eta),
            expires=None if expires is None else clock.parse_iso(expires),
            retries=int(get("retries") or 0),
            root_id=get("root_id"),
            parent_id=get("parent_id"),
            group=get("group"),
            group_index=get("group_index"),
            time_limit=time_limit,
            soft_time_limit=soft_time_limit,
            ignore_result=bool(get("ignore_result")),
            shadow=get("shadow"),
            reply_to=properties.get("reply_to") or None,
            origin=get("origin"),
            replaced_task_nesting=get("replaced_task_nesting") or 0,
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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidTaskError(f"the headers can't be read: {type(error).__name__} {error}; they are {_cut_repr(headers)}") from error


_NO_LIMITS: Final = (None, None)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"task and id must be text, not {value!r}")
    return value


def _local(moment: Any) -> Any:
    if not isinstance(moment, str):
        return moment
    return datetime.fromisoformat(moment).astimezone(UTC).isoformat()
