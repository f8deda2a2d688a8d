"""Where messages wait: opening the broker that a URL names.

A scheme is looked up in the table below, then among the installed entry points of the group
``django_tasks.brokers`` (a name is a scheme, its value a callable that takes a ``django_tasks.urls.URL`` and returns
a ``Broker``). Broker modules are imported when a URL asks for them, so this package loads no model and no client library.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from threading import RLock
from types import MappingProxyType
from typing import Any, Final

from django_tasks import urls
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured

#: Scheme to ``module:callable``; the callable takes the URL.
SCHEMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "db": "django_tasks.brokers.database:DatabaseBroker.from_url",
        "memory": "django_tasks.brokers.memory:MemoryBroker.from_url",
    }
)
#: Schemes of the contract whose transports are not part of this release.
PLANNED: Final = frozenset({"redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps", "pyamqp", "sqs"})
ENTRY_POINT_GROUP: Final = "django_tasks.brokers"

_lock = RLock()
_current: tuple[Any, Broker] | None = None


def open_broker(url: str | Iterable[str]) -> Broker:
    """Open the broker that a URL names, ``db://default`` for instance. Nothing connects yet.

    Raises ImproperlyConfigured for a scheme that no broker has, and for a fail-over list of several URLs, which
    none of the brokers of this release can follow.
    """
    parts = urls.failover(url)
    if not parts:
        raise ImproperlyConfigured("BROKER_URL is empty: give it a URL like 'db://default'")
    if len(parts) > 1:
        raise ImproperlyConfigured(
            f"BROKER_URL is a fail-over list ({urls.mask(parts)}), but db:// and memory:// have nothing to fail over to: give it one URL"
        )
    parsed = urls.parse(parts[0])
    return _factory(parsed.scheme)(parsed)


def current() -> Broker:
    """Return the process's broker, opened from BROKER_URL when first asked (and again when that setting changes)."""
    global _current  # noqa: PLW0603  one broker a process is the point
    url = settings.BROKER_URL
    kept = _current
    if kept is not None and kept[0] == url:
        return kept[1]
    with _lock:
        if _current is None or _current[0] != url:
            _current = (url, open_broker(url))
        return _current[1]


def reset() -> None:
    """Close the process's broker; ``current()`` opens a new one."""
    global _current
    with _lock:
        kept, _current = _current, None
    if kept is not None:
        kept[1].close()


def _forget() -> None:
    # In a forked child: closing would end the parent's connections, and the parent's lock may be held for ever.
    global _current, _lock
    _current, _lock = None, RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _factory(scheme: str) -> Callable[[urls.URL], Broker]:
    if path := SCHEMES.get(scheme):
        return _load(path)
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if scheme in installed:
        loaded: Callable[[urls.URL], Broker] = installed[scheme].load()
        return loaded
    if scheme in PLANNED:
        raise ImproperlyConfigured(f"BROKER_URL: the transport {scheme}:// isn't there yet in this release; use db:// (a Django database)")
    known = sorted({*SCHEMES, *installed})
    near = difflib.get_close_matches(scheme, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}://?" if near else f"there are {', '.join(name + '://' for name in known)}"
    raise ImproperlyConfigured(f"BROKER_URL: no broker has the scheme {scheme!r}; {hint}")


def _load(path: str) -> Callable[[urls.URL], Broker]:
    module, _, names = path.partition(":")
    found: Any = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    loaded: Callable[[urls.URL], Broker] = found
    return loaded
