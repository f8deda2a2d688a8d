"""Opening what a URL names: the factory behind a scheme, and the one instance that a process keeps of it."""

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from threading import RLock
from typing import Any, Generic, Protocol, TypeVar

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.urls import URL


class Closable(Protocol):
    """What is kept open."""

    def close(self) -> None:
        """Let go of connections."""


T = TypeVar("T", bound=Closable)


def factory_of(scheme: str, *, table: Mapping[str, str], group: str, setting: str, noun: str, planned: str | None) -> Callable[[URL], Any]:
    """Return what makes the instance for a scheme: from ``table`` (``module:callable``), else from an entry point.

    Modules are imported when a URL asks for them. ``planned`` says of a scheme that it is not there yet. Raises
    ImproperlyConfigured, which names ``setting`` and the nearest scheme, for one that nobody has.
    """
    if path := table.get(scheme):
        return _load(path)
    installed = {entry.name: entry for entry in entry_points(group=group)}
    if scheme in installed:
        loaded: Callable[[URL], Any] = installed[scheme].load()
        return loaded
    if planned is not None:
        raise ImproperlyConfigured(f"{setting}: {planned}")
    known = sorted({*table, *installed})
    near = get_close_matches(scheme, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}://?" if near else f"there are {', '.join(name + '://' for name in known)}"
    raise ImproperlyConfigured(f"{setting}: no {noun} has the scheme {scheme!r}; {hint}")


def _load(path: str) -> Callable[[URL], Any]:
    module, _, names = path.partition(":")
    found: Any = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    loaded: Callable[[URL], Any] = found
    return loaded


class OnceAProcess(Generic[T]):
    """Keeps one instance, opened when first asked for, and anew when its URL has changed; forgotten by forks."""

    def __init__(self, url: Callable[[], Any], opened: Callable[[Any], T]) -> None:
        self._url = url
        self._open = opened
        self._lock = RLock()
        self._kept: tuple[Any, T] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def current(self) -> T:
        """Return the process's instance."""
        url, kept = self._url(), self._kept
        if kept is not None and kept[0] == url:
            return kept[1]
        with self._lock:
            if self._kept is None or self._kept[0] != url:
                self._kept = (url, self._open(url))
            return self._kept[1]

    def reset(self) -> None:
        """Close the instance; ``current()`` opens a new one."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()

    def _forget(self) -> None:
        # In a forked child: closing would end the parent's connections, and the parent's lock may be held for ever.
        self._kept, self._lock = None, RLock()
