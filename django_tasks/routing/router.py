"""Where a message goes: from the caller's options, TASK_ROUTES, TASK_QUEUES and the defaults, in this order."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from django_tasks.conf import settings
from django_tasks.exceptions import QueueNotFound
from django_tasks.messages import Destination, TaskMessage
from django_tasks.routing.queues import Defaults, QueueSpec, check_name, default_spec, read_queues
from django_tasks.routing.routes import ROUTE_OPTIONS, PatternTable, Route, read_routes

#: The database broker's range; the other brokers take 0 to 9 and cut.
LOWEST_PRIORITY: Final = -100
HIGHEST_PRIORITY: Final = 255

_MOST_CACHED: Final = 10_000


class Router:
    """Chooses destinations. Built from the settings by ``current()``; the arguments are TASK_ROUTES' and TASK_QUEUES' forms."""

    def __init__(self, *, routes: Any = None, queues: Any = None, create_missing: bool = True, defaults: Defaults | None = None) -> None:
        self.defaults = defaults or Defaults()
        self.create_missing = create_missing
        self.queues: dict[str, QueueSpec] = {spec.name: spec for spec in read_queues(queues, self.defaults)}
        if not self.queues:
            self.queues[self.defaults.queue] = default_spec(self.defaults)
        self._tables, self._has_functions = read_routes(routes)
        self._known: dict[tuple[Any, ...], Destination] = {}

    @property
    def queue_names(self) -> list[str]:
        """The queues that a worker without ``-Q`` consumes: those of TASK_QUEUES, or the default one."""
        return list(self.queues)

    @property
    def known_names(self) -> set[str]:
        """The queues of TASK_QUEUES, the default one, and those that TASK_ROUTES names outright."""
        routes = [route for table in self._tables if isinstance(table, PatternTable) for route in table.routes()]
        named = (_name_of(route if isinstance(route, str) else route.get("queue")) for route in routes)
        return {*self.queues, self.defaults.queue, *(name for name in named if name)}

    @property
    def unused_route_options(self) -> list[str]:
        """Options in TASK_ROUTES that have no effect, sorted; what functions return is not known before they are asked."""
        routes = [route for table in self._tables if isinstance(table, PatternTable) for route in table.routes()]
        return sorted({name for route in routes if not isinstance(route, str) for name in route} - set(ROUTE_OPTIONS))

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
            try:
                destination = known.get(key)
            except TypeError:
                _refuse_unhashable(m)
                raise
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
            return default_spec(self.defaults)
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


def _name_of(queue: Any) -> str | None:
    name: str | None = getattr(queue, "name", queue)
    return name


def _refuse_unhashable(message: TaskMessage) -> None:
    # A list, for instance, where a name or a number belongs.
    queue: Any = message.queue
    if not isinstance(queue, str):
        check_name(queue)
    if message.priority is not None:
        _check_priority(message.priority)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _check_priority(priority: Any) -> int:
    if type(priority) is not int or not LOWEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        raise ValueError(
            f"the priority {priority!r} must be a whole number from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}; larger runs sooner"
        )
    return priority
