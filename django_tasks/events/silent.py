"""Brokers that can't carry events to everybody: SQS, those of other packages that bring no channel, those that miss a package."""

from collections.abc import Sequence
from typing import NoReturn

from django_tasks.events.channel import Event, EventChannel
from django_tasks.events.routingkeys import EVERYTHING
from django_tasks.exceptions import ImproperlyConfigured


class SilentEvents(EventChannel):
    """Drops what is sent, so that workers run as without events; whoever wants to listen is told."""

    def __init__(self, where: str, why: str = "") -> None:
        """Take the broker's address, and what is wrong if it could carry them."""
        self.where = where
        self.why = why or f"BROKER_URL {where} carries no events: it has no way to tell everybody; db://, redis:// and amqp:// have"

    def send(self, events: Sequence[Event]) -> None:
        """Drop them."""

    def listen(self, routing_key: str = EVERYTHING) -> NoReturn:
        """Raise ImproperlyConfigured."""
        raise ImproperlyConfigured(self.why)

    def close(self) -> None:
        """Do nothing: there is no connection."""
