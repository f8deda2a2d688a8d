"""Where outcomes are kept: opening the result backend that a URL names.

A scheme is looked up in the table below, then among the installed entry points of the group ``django_tasks.result_backends``
(a name is a scheme, its value a callable that takes a ``django_tasks.urls.URL`` and returns a ``ResultBackend``).
"""

import difflib
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from threading import RLock
from types import MappingProxyType
from typing import Any, Final

from django_tasks import urls
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.result_backends import encoding
from django_tasks.result_backends.backend import ResultBackend

#: Scheme to ``module:callable``; the callable takes the URL.
SCHEMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "db": "django_tasks.result_backends.database:DatabaseResultBackend.from_url",
        "cache": "django_tasks.result_backends.cache:CacheResultBackend.from_url",
        "memory": "django_tasks.result_backends.memory:MemoryResultBackend.from_url",
        "disabled": "django_tasks.result_backends.disabled:DisabledResultBackend.from_url",
    }
)
#: Schemes of the contract that are not part of this release.
PLANNED: Final = frozenset(
    {
        *("redis", "rediss", "redis+socket", "sentinel", "rpc", "file", "s3", "gs", "mongodb", "cassandra", "elasticsearch", "dynamodb"),
        *("couchbase", "couchdb", "arangodb", "consul", "cosmosdbsql", "azureblockblob", "memcache", "pymemcache", "database"),
    }
)
ENTRY_POINT_GROUP: Final = "django_tasks.result_backends"

_lock = RLock()
_current: tuple[Any, ResultBackend] | None = None


def open_result_backend(url: str | None) -> ResultBackend:
    """Open the result backend that a URL names, ``db://default`` for instance; None keeps no results.

    Nothing connects yet. Raises ImproperlyConfigured for a scheme that no backend has.
    """
    parsed = urls.parse(url or "disabled://")
    return _factory(parsed.scheme)(parsed)


def current() -> ResultBackend:
    """Return the process's result backend, opened from RESULT_BACKEND when first asked (and again when that changes)."""
    global _current  # noqa: PLW0603  one a process is the point
    url = settings.RESULT_BACKEND
    kept = _current
    if kept is not None and kept[0] == url:
        return kept[1]
    with _lock:
        if _current is None or _current[0] != url:
            _current = (url, open_result_backend(url))
        return _current[1]


def reset() -> None:
    """Close the process's result backend; ``current()`` opens a new one."""
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


def _accept_list() -> Any:
    # Read at each use: the settings may change.
    own = settings.RESULT_ACCEPT_CONTENT
    return settings.ACCEPT_CONTENT if own is None else own


encoding.accept_list = _accept_list


def _factory(scheme: str) -> Callable[[urls.URL], ResultBackend]:
    if path := SCHEMES.get(scheme):
        module, _, names = path.partition(":")
        found: Any = import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
        factory: Callable[[urls.URL], ResultBackend] = found
        return factory
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if scheme in installed:
        loaded: Callable[[urls.URL], ResultBackend] = installed[scheme].load()
        return loaded
    if scheme in PLANNED or scheme.startswith("db+"):
        raise ImproperlyConfigured(
            f"RESULT_BACKEND: {scheme}:// isn't there yet in this release; use db:// (a Django database) or cache:// (a Django cache)"
        )
    known = sorted({*SCHEMES, *installed})
    near = difflib.get_close_matches(scheme, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}://?" if near else f"there are {', '.join(name + '://' for name in known)}"
    raise ImproperlyConfigured(f"RESULT_BACKEND: no result backend has the scheme {scheme!r}; {hint}")
