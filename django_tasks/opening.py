"""Opening what a URL names: the factory behind a scheme, and the one instance that a process keeps of it."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from threading import RLock
from typing import Any, Generic, Protocol, TypeVar

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.urls import URL, mask


class Closable(Protocol):
    """What is kept open."""

    def close(self) -> None:
        """Let go of connections."""


T = TypeVar("T", bound=Closable)


def open_url(parts: Sequence[URL], *, table: Mapping[str, str], group: str, setting: str, noun: str, otherwise: str | None = None) -> Any:
    """Make what a URL, or a fail-over list of them, names: by ``table`` (``module:name``), an entry point, or ``otherwise``.

    What is found there is a class with ``from_urls``, or a callable that takes one URL. ``otherwise`` names a class that
    also has ``schemes()``, the names that it knows. Modules are imported when a URL asks for them. Raises
    ImproperlyConfigured, which names ``setting`` and the nearest scheme, for a scheme that nobody has, and for a list where
    there is nothing to fail over to.
    """
    makers = {_maker(part.scheme, table, group, setting, noun, otherwise) for part in parts}
    listed = mask([part.text for part in parts])
    if len(makers) > 1:
        raise ImproperlyConfigured(f"{setting} is a fail-over list of different kinds ({listed}): give it URLs of one kind")
    make = makers.pop()
    if hasattr(make, "from_urls"):
        return make.from_urls(parts)
    if len(parts) > 1:
        raise ImproperlyConfigured(
            f"{setting} is a fail-over list ({listed}), but {parts[0].scheme}:// has nothing to fail over to: give it one URL"
        )
    return make(parts[0])


def _maker(scheme: str, table: Mapping[str, str], group: str, setting: str, noun: str, otherwise: str | None) -> Any:
    if path := table.get(scheme):
        return _load(path)
    installed = {entry.name: entry for entry in entry_points(group=group)}
    if scheme in installed:
        return installed[scheme].load()
    others: Collection[str] = ()
    if otherwise is not None:
        found = _load(otherwise)
        others = found.schemes()
        if scheme in others or scheme.partition("+")[0] in others:
            return found
    known = sorted({*table, *installed, *others})
    near = get_close_matches(scheme, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}://?" if near else f"there are {', '.join(name + '://' for name in known)}"
    raise ImproperlyConfigured(f"{setting}: no {noun} has the scheme {scheme!r}; {hint}")


def _load(path: str) -> Any:
    module, _, names = path.partition(":")
    found: Any = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


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
