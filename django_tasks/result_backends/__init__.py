"""Where outcomes are kept: opening the result backend that a URL names.

A scheme is looked up in the table below, then among the installed entry points of the group ``django_tasks.result_backends``
(a name is a scheme, its value a callable that takes a ``django_tasks.urls.URL`` and returns a ``ResultBackend``), then
among Celery's own backends.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from django_tasks import urls
from django_tasks.conf import settings
from django_tasks.opening import OnceAProcess, open_url
from django_tasks.result_backends import chordparts, encoding, exceptionclasses
from django_tasks.result_backends.backend import ResultBackend

#: Scheme to ``module:name``: a class with ``from_urls``, or a callable that takes the URL.
SCHEMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "db": "django_tasks.result_backends.database:DatabaseResultBackend.from_url",
        "cache": "django_tasks.result_backends.cache:CacheResultBackend.from_url",
        "memory": "django_tasks.result_backends.memory:MemoryResultBackend.from_url",
        "disabled": "django_tasks.result_backends.disabled:DisabledResultBackend.from_url",
        "rpc": "django_tasks.result_backends.rpc:RpcResultBackend",
        **dict.fromkeys(("redis", "rediss", "redis+socket", "unix", "sentinel"), "django_tasks.result_backends.redis:RedisResultBackend"),
    }
)
#: Every other scheme is asked of Celery's own result backends, which say what they have.
OTHERWISE: Final = "django_tasks.result_backends.celery:CeleryResultBackend"
ENTRY_POINT_GROUP: Final = "django_tasks.result_backends"


def open_result_backend(url: str | Iterable[str] | None) -> ResultBackend:
    """Open the result backend that a URL names, ``db://default`` for instance; None keeps no results.

    Nothing connects yet. Raises ImproperlyConfigured for a scheme that no backend has.
    """
    parts = [urls.parse(part) for part in urls.failover(url or "disabled://")]
    backend: ResultBackend = open_url(
        parts, table=SCHEMES, group=ENTRY_POINT_GROUP, setting="RESULT_BACKEND", noun="result backend", otherwise=OTHERWISE
    )
    return backend


_backend: OnceAProcess[ResultBackend] = OnceAProcess(lambda: settings.RESULT_BACKEND, open_result_backend)


def current() -> ResultBackend:
    """Return the process's result backend, opened from RESULT_BACKEND when first asked (and again when that changes)."""
    return _backend.current()


def reset() -> None:
    """Close the process's result backend; ``current()`` opens a new one."""
    _backend.reset()


def _accept_list() -> Any:
    # Read at each use: the settings may change.
    own = settings.RESULT_ACCEPT_CONTENT
    return settings.ACCEPT_CONTENT if own is None else own


def _patience() -> float:
    return float(2 * settings.RESULT_CHORD_JOIN_TIMEOUT + 4 * settings.BROKER_CONNECTION_TIMEOUT)


encoding.accept_list = _accept_list
exceptionclasses.importable = lambda: settings.RESULT_EXCEPTION_MODULES
chordparts.patience = _patience
