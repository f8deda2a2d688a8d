"""From Celery's calling options to a message: the one place that knows what they mean."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final, NoReturn, TypeAlias, TypedDict

from django_tasks import result_backends
from django_tasks.canvas.givenconnections import CONNECTIONS, refuse_other_brokers
from django_tasks.canvas.optionvalues import DELIVERY_MODES, VALUES, refuse_values
from django_tasks.clock import after, as_utc, expiry, parse_iso
from django_tasks.conf import settings
from django_tasks.context import Request, current_request
from django_tasks.exceptions import AlwaysEagerIgnored
from django_tasks.messages import HIDDEN, NOTHING, TaskMessage, new_id

Expires: TypeAlias = float | datetime | timedelta | str | None


class CallOptions(TypedDict, total=False):
    """What ``apply_async`` takes beside the task's own arguments."""

    task_id: str | None
    countdown: float | timedelta | None
    eta: datetime | str | None
    expires: Expires
    queue: Any
    exchange: Any
    routing_key: str | None
    priority: int | None
    serializer: str | None
    compression: str | None
    retry: bool | None
    retry_policy: dict[str, Any] | None
    link: Any
    link_error: Any
    ignore_result: bool | None
    headers: Mapping[str, Any] | None
    shadow: str | None
    time_limit: float | None
    soft_time_limit: float | None
    reply_to: str | None
    add_to_parent: bool
    chain: Sequence[Mapping[str, Any]] | None
    chord: Mapping[str, Any] | None
    group_id: str | None
    group_index: int | None
    root_id: str | None
    parent_id: str | None
    retries: int
    replaced_task_nesting: int
    stamped_headers: Sequence[str] | None
    stamps: Mapping[str, Any] | None
    origin: str | None
    argsrepr: str | None
    kwargsrepr: str | None
    on_commit: bool | None
    # Celery's plumbing: accepted so that calls written for it work, without effect here. Connections must lead to BROKER_URL.
    producer: Any
    publisher: Any
    connection: Any
    router: Any
    result_cls: Any
    route_name: str | None
    task_type: Any
    exchange_type: str | None
    mandatory: Any
    immediate: Any
    declare: Any
    content_type: str | None
    content_encoding: str | None
    timeout: float | None
    confirm_timeout: float | None
    # Properties of the message, under AMQP's names.
    app_id: str | None
    cluster_id: str | None
    delivery_mode: int | str | None
    message_id: str | None
    timestamp: int | None
    type: str | None
    user_id: str | None


OPTION_NAMES: Final = frozenset(CallOptions.__annotations__)
#: Options that need no look at what they hold: one comparison then tells that nothing is wrong with a call's options.
_UNSUSPICIOUS: Final = OPTION_NAMES - CONNECTIONS - VALUES.keys() | {"task_id"}

#: Options that have no effect here.
PLUMBING: Final = frozenset(
    {
        "confirm_timeout",
        "connection",
        "content_encoding",
        "content_type",
        "declare",
        "exchange_type",
        "immediate",
        "mandatory",
        "producer",
        "publisher",
        "result_cls",
        "route_name",
        "router",
        "task_type",
        "timeout",
    }
)

#: Options that are properties of the message.
_PROPERTIES: Final = frozenset({"app_id", "cluster_id", "delivery_mode", "message_id", "timestamp", "type", "user_id"})

#: What arguments come in. As tuples: a union is built anew for each call, and to be asked of Mapping takes longer than of dict.
_POSITIONAL: Final = (list, tuple)
_BY_NAME: Final = (dict, Mapping)

#: Of an id that we make.
_LENGTH_OF_OURS: Final = len(new_id())

#: Texts that stand for the arguments in logs and events.
_SHOWN: Final = frozenset({"argsrepr", "kwargsrepr"})
#: Options that a retry may give anew just so.
_AMENDED: Final = (
    *("priority", "routing_key", "time_limit", "soft_time_limit", "shadow", "serializer", "compression", "ignore_result"),
    *("reply_to", *sorted(_SHOWN)),
)

#: Links, and the keys under which a message carries them.
_EMBEDDED: Final = (("link", "callbacks"), ("link_error", "errbacks"))


def warn_of_sending(what: str) -> None:
    """Warn, in eager mode, that a call leaves all the same: what is known by its name alone can't be run here."""
    if settings.TASK_ALWAYS_EAGER:
        warnings.warn(AlwaysEagerIgnored(f"TASK_ALWAYS_EAGER has no effect on {what}: the task is sent"), stacklevel=3)


def listed(value: Any) -> list[Any]:
    """Return links as a list: none, one signature, or several."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def build_message(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> TaskMessage:
    """Make the message of one call. Inside a running task it becomes that task's child.

    Raises TypeError for an option that doesn't exist or arguments of the wrong kind, ValueError for impossible limits and for a
    connection to another broker.
    """
    if not options.keys() <= _UNSUSPICIOUS:
        refuse_misplaced(name, options)
    if not isinstance(args, _POSITIONAL) or not isinstance(kwargs, _BY_NAME):
        raise TypeError(f"{name}: args must be a list or tuple and kwargs a mapping, not {args!r} and {kwargs!r}; nothing was sent")
    get = options.get
    task_id = get("task_id")
    task_id = _fit_id(name, task_id) if task_id else new_id()
    root_id, parent_id, priority = get("root_id"), get("parent_id"), get("priority")
    request = current_request()
    if request is not None:
        root_id, parent_id, priority = _inherited(request, root_id, parent_id, priority)
    hard, soft = get("time_limit"), get("soft_time_limit")
    if hard and soft and soft > hard:
        _refuse_limits(name, soft, hard)
    queue = get("queue")
    stamped = get("stamped_headers")
    headers = get("headers")
    return TaskMessage(
        id=task_id,
        task=name,
        args=args,
        kwargs=kwargs,
        queue="" if queue is None else getattr(queue, "name", queue),
        exchange=_name(get("exchange")),
        routing_key=get("routing_key"),
        priority=priority,
        eta=_eta(get("countdown"), get("eta")),
        expires=expiry(get("expires")),
        retries=get("retries") or 0,
        root_id=root_id or task_id,
        parent_id=parent_id,
        group=get("group_id"),
        group_index=get("group_index"),
        time_limit=hard,
        soft_time_limit=soft,
        ignore_result=get("ignore_result"),
        shadow=get("shadow"),
        reply_to=get("reply_to") or _reply_to(request),
        origin=get("origin"),
        replaced_task_nesting=get("replaced_task_nesting") or 0,
        stamped_headers=stamped,
        stamps=_stamps(stamped, options) if stamped or "stamps" in options else NOTHING,
        argsrepr=get("argsrepr"),
        kwargsrepr=get("kwargsrepr"),
        serializer=get("serializer"),
        compression=get("compression"),
        embed=_embed(name, options),
        headers=_headers(headers, options),
        properties=NOTHING if _PROPERTIES.isdisjoint(options) else _properties(options),
    )


def _refuse_limits(name: str, soft: float, hard: float) -> NoReturn:
    raise ValueError(f"{name}: soft_time_limit={soft} must not exceed time_limit={hard}; nothing was sent")


def _fit_id(name: str, task_id: Any) -> str:
    # Ids are made here for most calls, and given for all parts of workflows: the quick look first.
    if type(task_id) is str and len(task_id) == _LENGTH_OF_OURS and task_id.isascii() and task_id.isprintable():
        return task_id
    refuse_values(name, {"task_id": task_id})
    return str(task_id)


def _headers(headers: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Mapping[str, Any]:
    if "argsrepr" in options or "kwargsrepr" in options:
        # Every message has these texts; only those that a caller gave hide something.
        hidden = [name for name in ("args", "kwargs") if options.get(f"{name}repr") is not None]
        if hidden:
            earlier = (headers or {}).get(HIDDEN)
            hidden += [name for name in earlier if name not in hidden] if isinstance(earlier, list | tuple) else []
            return {**(headers or {}), HIDDEN: hidden}
    return dict(headers) if headers else NOTHING


def _properties(options: Mapping[str, Any]) -> Mapping[str, Any]:
    given = {name: options[name] for name in _PROPERTIES & options.keys() if options[name] is not None}
    if "delivery_mode" in given:
        given["delivery_mode"] = DELIVERY_MODES.get(given["delivery_mode"], given["delivery_mode"])
    return given


def _reply_to(request: Request | None) -> str | None:
    # What a task sends, and what follows it, answers to whoever sent the task: nobody else reads.
    return (result_backends.current().reply_to if request is None else request.reply_to) or None


def amend_message(message: TaskMessage, options: Mapping[str, Any], **fields: Any) -> TaskMessage:
    """Return a copy of a message with some calling options given anew: how a retry keeps everything else."""
    if not options.keys() <= _UNSUSPICIOUS:
        refuse_misplaced(message.task, options)
    for name in _AMENDED:
        if options.get(name) is not None:
            fields[name] = options[name]
    if options.get("time_limit") or options.get("soft_time_limit"):
        hard, soft = (fields.get(name, getattr(message, name)) for name in ("time_limit", "soft_time_limit"))
        if hard and soft and soft > hard:
            _refuse_limits(message.task, soft, hard)
    if options.get("queue") is not None:
        queue = options["queue"]
        # The old routing key and exchange led to the old queue.
        fields.update(queue=getattr(queue, "name", queue), exchange=None, routing_key=options.get("routing_key"))
    if options.get("exchange") is not None:
        fields["exchange"] = _name(options["exchange"])
    if options.get("expires") is not None:
        fields["expires"] = expiry(options["expires"])
    if options.get("headers") is not None or not options.keys().isdisjoint(_SHOWN):
        fields["headers"] = _headers({**message.headers, **(options.get("headers") or {})}, options)
    if options.get("stamped_headers"):
        fields["stamped_headers"] = sorted({*(message.stamped_headers or ()), *options["stamped_headers"]})
        fields["stamps"] = {**message.stamps, **_stamps(options["stamped_headers"], options)}
    if not _PROPERTIES.isdisjoint(options):
        fields["properties"] = {**message.properties, **_properties(options)}
    if any(options.get(name) is not None for name in ("link", "link_error", "chain", "chord")):
        fields["embed"] = {**message.embed, **_embed(message.task, options)}
    return replace(message, **fields)


def eta_of(countdown: float | timedelta | None, eta: datetime | str | None) -> datetime | None:
    """Return the time before which a call must not run."""
    return _eta(countdown, eta)


def refuse_misplaced(name: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError for the first option that does not exist, naming the nearest one that does; ValueError for another broker.

    What an option can't hold is a TypeError, too. Stamps are options of any name: ``stamped_headers`` lists them.
    """
    refuse_values(name, options)
    stamps = set(options.get("stamped_headers") or ())
    for option in options:
        if option not in OPTION_NAMES and option not in stamps:
            near = get_close_matches(option, OPTION_NAMES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "custom values belong into headers={...}."
            raise TypeError(f"{name}: apply_async() has no option {option!r}; {hint} Nothing was sent")
    refuse_other_brokers(
        options,
        f"calling {name}",
        f"Nothing was sent. A Celery client of that broker can send there: Celery(broker=url).send_task({name!r}, args, queue=...)",
    )


def family(request: Request) -> tuple[str | None, str | None]:
    """Return the root and the parent of what is sent from inside this request."""
    if request.called_directly:
        # A function called directly runs as a part of the task around it, whose ids it carries.
        return request.root_id, request.parent_id
    return request.root_id or request.id, request.id


def _inherited(request: Request, root_id: str | None, parent_id: str | None, priority: int | None) -> tuple[Any, Any, Any]:
    root, parent = family(request)
    if priority is None and settings.TASK_INHERIT_PARENT_PRIORITY:
        priority = request.message.priority
    return root_id or root, parent_id or parent, priority


def _eta(countdown: Any, eta: Any) -> datetime | None:
    if countdown:
        return after(countdown.total_seconds() if isinstance(countdown, timedelta) else countdown)
    if eta is None:
        return None
    return parse_iso(eta) if isinstance(eta, str) else as_utc(eta)


def _name(exchange: Any) -> str | None:
    return None if exchange is None else getattr(exchange, "name", exchange)


def _embed(name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    embed: dict[str, Any] = {}
    for option, key in _EMBEDDED:
        if option in options:
            found = listed(options[option])
            if found:
                embed[key] = found
    if options.get("chain"):
        steps = options["chain"]
        if not isinstance(steps, _POSITIONAL) or not all(isinstance(step, _BY_NAME) for step in steps):
            raise TypeError(f"{name}: chain takes a list of signatures, the last step first, not {steps!r:.200}; nothing was sent")
        embed["chain"] = list(steps)
    if options.get("chord") is not None:
        if not isinstance(options["chord"], _BY_NAME):
            raise TypeError(f"{name}: chord takes the signature of a chord's body, not {options['chord']!r:.200}; nothing was sent")
        embed["chord"] = options["chord"]
    return embed or NOTHING


def _stamps(stamped: Sequence[str] | None, options: Mapping[str, Any]) -> Mapping[str, Any]:
    given = options.get("stamps") or {}
    return {**given, **{name: options[name] for name in stamped or () if name in options}}
