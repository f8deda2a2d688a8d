"""Where messages wait: opening the broker that a URL names.

A scheme is looked up in the table below, then among the installed entry points of the group
``django_tasks.brokers`` (a name is a scheme, its value a callable that takes a ``django_tasks.urls.URL`` and returns
a ``Broker``). Broker modules are imported when a URL asks for them, so this package loads no model and no client library.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from django_tasks import urls
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.opening import OnceAProcess, factory_of

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
    planned = f"the transport {parsed.scheme}:// isn't there yet in this release; use db:// (a Django database)"
    make = factory_of(
        parsed.scheme,
        table=SCHEMES,
        group=ENTRY_POINT_GROUP,
        setting="BROKER_URL",
        noun="broker",
        planned=planned if parsed.scheme in PLANNED else None,
    )
    broker: Broker = make(parsed)
    return broker


_broker: OnceAProcess[Broker] = OnceAProcess(lambda: settings.BROKER_URL, open_broker)


def current() -> Broker:
    """Return the process's broker, opened from BROKER_URL when first asked (and again when that setting changes)."""
    return _broker.current()


def reset() -> None:
    """Close the process's broker; ``current()`` opens a new one."""
    _broker.reset()
