"""TASK_ROUTES: reading its forms, and asking them for a message's route."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from importlib import import_module
from typing import Any, Final, TypeAlias

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.messages import TaskMessage

#: The options of a route that have an effect.
ROUTE_OPTIONS: Final = ("queue", "exchange", "routing_key", "priority", "serializer", "compression")

Route: TypeAlias = Mapping[str, Any]
#: Celery's router: ``(name, args, kwargs, options, task=None, **kw)`` → None, a queue's name, or a route.
RouteFunction: TypeAlias = Callable[..., "Route | str | None"]
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

    def routes(self) -> Iterator[Route | str]:
        """Every route of the table."""
        yield from self.exact.values()
        yield from (route for _, route in self.patterns)

    def __call__(self, message: TaskMessage) -> Any:
        """Find the route of a message's task, or None."""
        route = self.exact.get(message.task)
        if route is not None:
            return route
        return next((route for pattern, route in self.patterns if pattern.match(message.task)), None)


def read_routes(routes: Any) -> tuple[list[Table], bool]:
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
        path, entry = entry, _import(entry)
        if callable(entry) and not hasattr(entry, "route_for_task"):
            return _ask_path(path)
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


def _ask_path(path: str) -> Table:
    def ask(message: TaskMessage) -> Any:
        # Looked up at each message, where a test may have put a mock.
        return _ask_function(_import(path))(message)

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


def _no_task(name: str) -> None:
    return None


_task_lookup: Callable[[str], Any] = _no_task


def set_task_lookup(lookup: Callable[[str], Any]) -> None:
    """Say how route functions get the ``task`` they are called with: by its name, or None."""
    global _task_lookup  # noqa: PLW0603  one hook a process is the point
    _task_lookup = lookup
