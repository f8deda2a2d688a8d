"""Monitoring events: opening the channel that belongs to the broker.

Message brokers carry events as Celery does, on the exchange ``celeryev`` (EVENT_EXCHANGE), where Flower and ``celery events`` hear
them. The database broker keeps them as rows for a while; the memory broker tells whoever listens in the process.
"""

import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final

from django_tasks import urls
from django_tasks.conf import settings
from django_tasks.events.channel import Event, EventChannel, EventReceiver, event
from django_tasks.events.silent import SilentEvents
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.opening import OnceAProcess, open_url

logger = logging.getLogger("django_tasks.events")

#: Scheme to ``module:maker``.
SCHEMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "db": "django_tasks.events.database:DatabaseEvents.from_url",
        "memory": "django_tasks.events.memory:MemoryEvents.from_url",
    }
)
#: Every other scheme is a message broker's.
OTHERWISE: Final = "django_tasks.events.kombu:KombuEvents"
ENTRY_POINT_GROUP: Final = "django_tasks.events"
#: Where packages announce their brokers.
BROKERS: Final = "django_tasks.brokers"


def open_channel(url: str | Iterable[str]) -> EventChannel:
    """Open the event channel of a broker's URL, or of a fail-over list. Nothing connects yet."""
    parts = [urls.parse(part) for part in urls.failover(url)]
    if not parts:
        raise ImproperlyConfigured("BROKER_URL is empty: give it a URL like 'db://default'")
    if _brings_no_channel(parts[0].scheme):
        return SilentEvents(urls.mask([part.text for part in parts]))
    channel: EventChannel = open_url(
        parts, table=SCHEMES, group=ENTRY_POINT_GROUP, setting="BROKER_URL", noun="event channel", otherwise=OTHERWISE
    )
    return channel


def _brings_no_channel(scheme: str) -> bool:
    """Whether the broker is another package's that has nothing for events."""
    return bool(entry_points(group=BROKERS, name=scheme)) and not entry_points(group=ENTRY_POINT_GROUP, name=scheme)


def _open_or_be_silent(url: str | Iterable[str]) -> EventChannel:
    # Work doesn't depend on events: a worker that lacks a package for them goes on, and says once what is missing.
    try:
        return open_channel(url)
    except ImproperlyConfigured as error:
        logger.warning("No events are sent: %s", error)
        return SilentEvents(urls.mask(urls.failover(url)), str(error))


_channel: OnceAProcess[EventChannel] = OnceAProcess(lambda: settings.BROKER_URL, _open_or_be_silent)


def current() -> EventChannel:
    """Return the process's event channel, opened from BROKER_URL when first asked (and again when that setting changes).

    Where it can't be opened (a package is missing), what is sent is dropped, and listening says why.
    """
    return _channel.current()


def reset() -> None:
    """Close the process's event channel; ``current()`` opens a new one."""
    _channel.reset()


__all__ = ["Event", "EventChannel", "EventReceiver", "current", "event", "open_channel", "reset"]
