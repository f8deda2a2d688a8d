"""Where a message goes: from the caller's options, TASK_ROUTES, TASK_QUEUES and the defaults, in this order."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import translate
from functools import cache
from importlib import import_module
from typing import Any, Final, TypeAlias

from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured, QueueNotFound
from django_tasks.messages import Destination, TaskMessage

#: The options of a route that have an effect.
ROUTE_OPTIONS: Final = ("queue", "exchange", "routing_key", "priority", "serializer", "compression")
#: The database broker's range; the other brokers take 0 to 9 and cut.
LOWEST_PRIORITY: Final = -100
HIGHEST_PRIORITY: Final = 255
LONGEST_NAME: Final = 255

_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MOST_CACHED: Final = 10_000

Route: TypeAlias = Mapping[str, Any]
#: Celery's router: ``(name, args, kwargs, options, task=None, **kw)`` → None, a queue's name, or a route.
RouteFunction: TypeAlias = Callable[..., "Route | str | None"]


def check_name(name: Any, what: str = "queue") -> str:
    """Return the name of a queue, exchange or routing key if every broker can carry it.

    Raises ValueError otherwise.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or _FORBIDDEN.search(name):
        raise ValueError(
            f"{name!r} is no name for a {what}: it must be text of 1 to {LONGEST_NAME} characters, none of them a control character"
        )
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


class Router:
    """Chooses destinations. Built from the settings by ``current()``; the arguments are TASK_ROUTES' and TASK_QUEUES' forms."""

    def __init__(self, *, routes: Any = None, queues: Any = None, create_missing: bool = True, defaults: Defaults | None = None) -> None:
        self.defaults = defaults or Defaults()
        self.create_missing = create_missing
        self.queues: dict[str, QueueSpec] = {spec.name: spec for spec in _read_queues(queues, self.defaults)}
        if not self.queues:
            self.queues[self.defaults.queue] = _default_spec(self.defaults)
        self._tables, self._has_functions = _read_routes(routes)
        self._known: dict[tuple[Any, ...], Destination] = {}

    @property
    def queue_names(self) -> list[str]:
        """The queues that a worker without ``-Q`` consumes: those of TASK_QUEUES, or the default one."""
        return list(self.queues)

    def destinations(self, messages: Iterable[TaskMessage]) -> list[Destination]:
        """Choose a destination for each message.

        Raises QueueNotFound where TASK_CREATE_MISSING_QUEUES is off, and ValueError for a name or a priority that no
        broker can carry.
        """
        if self._has_functions:
            return [self._choose(message) for message in messages]
        known = self._known
        found = []
        for m in messages:
            key = (m.task, m.queue, m.exchange, m.routing_key, m.priority, m.serializer, m.compression)
            destination = known.get(key)
            if destination is None:
                if len(known) >= _MOST_CACHED:
                    known.clear()
                destination = known[key] = self._choose(m)
            found.append(destination)
        return found

    def find_queue(self, name: str) -> QueueSpec:
        """Describe a queue by its name; one that TASK_QUEUES does not list only if missing ones may be created."""
        spec = self.queues.get(name)
        if spec is not None:
            return spec
        if not self.create_missing:
            nearest = get_close_matches(name, self.queues, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise QueueNotFound(
                f"TASK_QUEUES has no queue {name!r} and TASK_CREATE_MISSING_QUEUES is off; it has {', '.join(self.queues)}{hint}"
            )
        if name == self.defaults.queue:
            return _default_spec(self.defaults)
        return QueueSpec(name=check_name(name), exchange=name, routing_key=name)

    def _choose(self, message: TaskMessage) -> Destination:
        route = self._route(message)
        defaults = self.defaults
        # The address in a route belongs to the route's queue, not to one that the caller names.
        addressed: Route = {} if message.queue else route
        exchange = message.exchange or addressed.get("exchange")
        routing_key = message.routing_key or addressed.get("routing_key")
        name = message.queue or _name_of(route.get("queue")) or self._bound_queue(exchange, routing_key)
        spec = self.find_queue(name or defaults.queue)
        exchange, routing_key = spec.address(exchange, routing_key)
        if exchange:
            check_name(exchange, "exchange")
        return Destination(
            queue=spec.name,
            exchange=exchange,
            routing_key=check_name(routing_key, "routing key"),
            priority=_check_priority(_first(message.priority, route.get("priority"), defaults.priority)),
            serializer=message.serializer or route.get("serializer") or defaults.serializer,
            compression=_first(message.compression, route.get("compression"), defaults.compression),
        )

    def _route(self, message: TaskMessage) -> Route:
        for table in self._tables:
            route = table(message)
            if route is not None:
                return {"queue": route} if isinstance(route, str) else route
        return {}

    def _bound_queue(self, exchange: str | None, routing_key: str | None) -> str | None:
        # Brokers without exchanges need the queue that an AMQP broker would come to by its bindings.
        if not routing_key and not exchange:
            return None
        exchange = exchange or self.defaults.exchange or self.defaults.queue
        return next((name for name, spec in self.queues.items() if spec.binds(exchange, routing_key or "")), None)


@cache
def current() -> Router:
    """Return the router of the settings, made once."""
    return Router(
        routes=settings.TASK_ROUTES,
        queues=settings.TASK_QUEUES,
        create_missing=settings.TASK_CREATE_MISSING_QUEUES,
        defaults=Defaults(
            queue=check_name(settings.TASK_DEFAULT_QUEUE, "queue (TASK_DEFAULT_QUEUE)"),
            exchange=settings.TASK_DEFAULT_EXCHANGE,
            exchange_type=settings.TASK_DEFAULT_EXCHANGE_TYPE,
            routing_key=settings.TASK_DEFAULT_ROUTING_KEY,
            priority=_first(settings.TASK_DEFAULT_PRIORITY, 0),
            serializer=settings.TASK_SERIALIZER,
            compression=settings.TASK_COMPRESSION,
        ),
    )


def reset() -> None:
    """Forget the router: the settings have changed."""
    current.cache_clear()


_task_lookup: Callable[[str], Any] = {}.get


def set_task_lookup(lookup: Callable[[str], Any]) -> None:
    """Say how route functions get the ``task`` they are called with: by its name, or None."""
    global _task_lookup  # noqa: PLW0603  one hook a process is the point
    _task_lookup = lookup


# ------------------------------------------------------------------------------------------------ reading TASK_ROUTES

#: One entry of TASK_ROUTES, ready to be asked.
Table: TypeAlias = Callable[[TaskMessage], "Route | str | None"]


@dataclass(slots=True)
class PatternTable:
    """Names and patterns to routes: an exact name first, then patterns in their order."""

    exact: dict[str, Any] = field(default_factory=dict)
    patterns: list[tuple[re.Pattern[str], Any]] = field(default_factory=list)

    def add(self, pattern: Any, route: Any) -> None:
        """Enter one pair."""
        if not isinstance(route, str | Mapping):
            raise ImproperlyConfigured(f"TASK_ROUTES sends {pattern!r} to {route!r}; a route is a queue's name or a dictionary")
        if isinstance(pattern, re.Pattern):
            self.patterns.append((pattern, route))
        elif not isinstance(pattern, str):
            raise ImproperlyConfigured(
                f"TASK_ROUTES has the pattern {pattern!r}; it must be a task's name, a glob or a compiled expression"
            )
        elif "*" in pattern:
            self.patterns.append((re.compile(translate(pattern)), route))
        else:
            self.exact[pattern] = route

    def __call__(self, message: TaskMessage) -> Any:
        """Find the route of a message's task, or None."""
        route = self.exact.get(message.task)
        if route is not None:
            return route
        return next((route for pattern, route in self.patterns if pattern.match(message.task)), None)


def _read_routes(routes: Any) -> tuple[list[Table], bool]:
    """Turn TASK_ROUTES into tables, and say whether one of them is a function, whose answers can't be kept."""
    if routes is None:
        return [], False
    if not isinstance(routes, list | tuple) or _is_pair(routes):
        routes = [routes]
    if any(_is_pair(entry) for entry in routes):
        routes = [[entry] if _is_pair(entry) else entry for entry in routes]
    tables = [_read_table(entry) for entry in routes]
    return tables, not all(isinstance(table, PatternTable) for table in tables)


def _is_pair(entry: Any) -> bool:
    return (
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and isinstance(entry[0], str | re.Pattern)
        and isinstance(entry[1], str | Mapping)
    )


def _read_table(entry: Any) -> Table:
    if isinstance(entry, str):
        entry = _import(entry)
    if isinstance(entry, Mapping | list | tuple):
        table = PatternTable()
        for pair in entry.items() if isinstance(entry, Mapping) else entry:
            if not _is_pair(pair) and not isinstance(entry, Mapping):
                raise ImproperlyConfigured(f"TASK_ROUTES has the entry {pair!r}; it must be a pair of a pattern and a route")
            table.add(*pair)
        return table
    if hasattr(entry, "route_for_task"):
        return _ask_class(entry() if isinstance(entry, type) else entry)
    if callable(entry):
        return _ask_function(entry)
    raise ImproperlyConfigured(
        f"TASK_ROUTES has the entry {entry!r}; it must be a dictionary, a list of pairs, a function or its dotted path"
    )


def _ask_function(function: RouteFunction) -> Table:
    def ask(message: TaskMessage) -> Any:
        answer = function(message.task, message.args, message.kwargs, _options(message), task=_task_lookup(message.task))
        return _checked(answer, function)

    return ask


def _ask_class(router: Any) -> Table:
    # Routers from before Celery 4.
    return lambda message: _checked(router.route_for_task(message.task, message.args, message.kwargs), router)


def _checked(answer: Any, asked: Any) -> Any:
    if answer is None or isinstance(answer, str | Mapping):
        return answer
    raise ImproperlyConfigured(f"the router {asked!r} returned {answer!r}; it must return None, a queue's name or a dictionary")


def _options(message: TaskMessage) -> dict[str, Any]:
    options = {
        name: getattr(message, name) for name in (*ROUTE_OPTIONS, "eta", "expires", "root_id", "parent_id", "time_limit", "soft_time_limit")
    }
    options.update(task_id=message.id, group_id=message.group, headers=message.headers)
    return {name: value for name, value in options.items() if value or value == 0}


def _import(path: str) -> Any:
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImproperlyConfigured(f"TASK_ROUTES names the router {path!r}, which can't be imported: {error}") from error


# ------------------------------------------------------------------------------------------------ reading TASK_QUEUES


def _read_queues(queues: Any, defaults: Defaults) -> Iterator[QueueSpec]:
    if isinstance(queues, Mapping):
        for name, entry in queues.items():
            yield _queue_from_options(name, entry or {}) if isinstance(entry, Mapping | type(None)) else _read_queue(entry, defaults)
    else:
        for entry in queues or ():
            yield _read_queue(entry, defaults)


def _read_queue(entry: Any, defaults: Defaults) -> QueueSpec:
    if isinstance(entry, str):
        return _default_spec(defaults) if entry == defaults.queue else QueueSpec(name=check_name(entry), exchange=entry, routing_key=entry)
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


def _default_spec(defaults: Defaults) -> QueueSpec:
    return QueueSpec(
        name=check_name(defaults.queue),
        exchange=defaults.exchange or defaults.queue,
        exchange_type=defaults.exchange_type,
        routing_key=defaults.routing_key or defaults.queue,
    )


# --------------------------------------------------------------------------------------------------------- small things


def _name_of(queue: Any) -> str | None:
    name: str | None = getattr(queue, "name", queue)
    return name


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _check_priority(priority: Any) -> int:
    if type(priority) is not int or not LOWEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        raise ValueError(
            f"the priority {priority!r} must be a whole number from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}; larger runs sooner"
        )
    return priority


@cache
def _topic_pattern(binding: str) -> re.Pattern[str]:
    # AMQP: * is one word, # is any number of them.
    words = [{"*": "[^.]+", "#": ".*"}.get(word, re.escape(word)) for word in binding.split(".")]
    return re.compile(r"\.".join(words).replace(r".*\.", r"(?:.*\.)?").replace(r"\..*", r"(?:\..*)?"))
