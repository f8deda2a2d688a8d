"""``memory://``: whoever listens in this process hears. For tests, and for producer and worker in one process."""

import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, Self

from django_tasks.events.channel import Event, EventChannel, EventReceiver
from django_tasks.events.routingkeys import EVERYTHING, matching
from django_tasks.serializers import dumps_json, loads_json
from django_tasks.urls import URL

#: Most events that a receiver keeps which nobody fetches.
_KEPT: Final = 10_000


class MemoryEvents(EventChannel):
    """Channels of one name, ``memory://NAME``, are one channel. A forked child starts with nobody listening."""

    def __init__(self, name: str = "default") -> None:
        self.name = name

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``memory://NAME``."""
        return cls(url.alias)

    def send(self, events: Sequence[Event]) -> None:
        """Tell everybody. What goes through JSON belongs to nobody else, and says what other channels would not take."""
        texts = [dumps_json(event) for event in events]
        for receiver in _listening(self.name):
            receiver.take([loads_json(text) for text in texts])

    def listen(self, routing_key: str = EVERYTHING) -> "MemoryReceiver":
        """Open a receiver."""
        return MemoryReceiver(self.name, routing_key)

    def close(self) -> None:
        """Do nothing: there is no connection."""


class MemoryReceiver(EventReceiver):
    """Keeps what it has heard until somebody asks; of more than ten thousand events the oldest are lost."""

    def __init__(self, name: str, routing_key: str = EVERYTHING) -> None:
        self.name = name
        self._matches = matching(routing_key)
        self._heard: deque[Event] = deque(maxlen=_KEPT)
        self._changed = threading.Condition()
        with _lock:
            _receivers.append(self)

    def take(self, events: Sequence[Event]) -> None:
        """Hear these."""
        with self._changed:
            self._heard.extend(event for event in events if self._matches(event["type"]))
            self._changed.notify_all()

    def receive(self, timeout: float | None) -> list[Event]:
        """Return what has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._heard, timeout)
            events = list(self._heard)
            self._heard.clear()
        return events

    def close(self) -> None:
        """Stop hearing."""
        with _lock:
            if self in _receivers:
                _receivers.remove(self)


_lock = threading.Lock()
_receivers: list[MemoryReceiver] = []


def _listening(name: str) -> list[MemoryReceiver]:
    with _lock:
        return [receiver for receiver in _receivers if receiver.name == name]


def _forget() -> None:
    global _lock  # noqa: PLW0603  the parent's may be held for ever
    _lock = threading.Lock()
    _receivers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
