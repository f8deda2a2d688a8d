"""Where messages wait: opening the broker that a URL names.

A scheme is looked up in the table below, then among the installed entry points of the group
``django_tasks.brokers`` (a name is a scheme, its value a ``Broker`` class, or a callable that takes a
``django_tasks.urls.URL`` and returns a ``Broker``), then among kombu's transports. Broker modules are imported when a URL
asks for them, so this package loads no model and no client library.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from django_tasks import urls
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.opening import OnceAProcess, open_url

#: Scheme to ``module:class``.
SCHEMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "db": "django_tasks.brokers.database:DatabaseBroker",
        "memory": "django_tasks.brokers.memory:MemoryBroker",
        **dict.fromkeys(("redis", "rediss", "redis+socket", "unix", "sentinel"), "django_tasks.brokers.redis:RedisBroker"),
    }
)
#: Every other scheme is asked of kombu, which says what it has.
OTHERWISE: Final = "django_tasks.brokers.kombu:KombuBroker"
ENTRY_POINT_GROUP: Final = "django_tasks.brokers"


def open_broker(url: str | Iterable[str]) -> Broker:
    """Open the broker that a URL names, ``db://default`` for instance. Nothing connects yet.

    A list, or several URLs joined by semicolons, is a fail-over list; its URLs are of one kind of broker. Raises
    ImproperlyConfigured for a scheme that no broker has, and for a list where there is nothing to fail over to.
    """
    parts = [urls.parse(part) for part in urls.failover(url)]
    if not parts:
        raise ImproperlyConfigured("BROKER_URL is empty: give it a URL like 'db://default'")
    broker: Broker = open_url(parts, table=SCHEMES, group=ENTRY_POINT_GROUP, setting="BROKER_URL", noun="broker", otherwise=OTHERWISE)
    return broker


_broker: OnceAProcess[Broker] = OnceAProcess(lambda: settings.BROKER_URL, open_broker)


def current() -> Broker:
    """Return the process's broker, opened from BROKER_URL when first asked (and again when that setting changes)."""
    return _broker.current()


def purge(homes: Mapping[str, Broker]) -> dict[str, int]:
    """Delete what waits in queues, each in its broker; return how many messages each lost. Held ones stay.

    Raises ImproperlyConfigured, and deletes nothing, where one of the names is none for a queue.
    """
    for name, broker in homes.items():
        if refusal := broker.refusal(name):
            raise ImproperlyConfigured(f"{refusal}. Nothing was deleted, from the other queues neither")
    return {name: broker.purge(name) for name, broker in homes.items()}


def reset() -> None:
    """Close the process's broker; ``current()`` opens a new one."""
    _broker.reset()
