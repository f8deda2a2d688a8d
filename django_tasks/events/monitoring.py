"""``app.events``: hearing and sending monitoring events in Celery's words."""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from django_tasks import clock, exceptions
from django_tasks.events import channel as channels
from django_tasks.events.channel import Event, EventChannel, EventReceiver
from django_tasks.events.clusterstate import State
from django_tasks.events.routingkeys import EVERYTHING
from django_tasks.exceptions import OperationalError, TaskError

#: Seconds that one wait for events lasts, so that ``should_stop`` is seen.
_LOOK: Final = 1.0
#: Most events that a dispatcher keeps while its server is away.
_BUFFERED: Final = 10_000


def channel_of(connection: Any) -> EventChannel:
    """Return the channel that belongs to what ``app.connection()`` gave, or to a kombu connection or channel; None: BROKER_URL's."""
    from django_tasks import events

    if connection is None:
        return events.current()
    url = getattr(connection, "url", None)
    if isinstance(url, str):
        return events.open_channel(url)
    from django_tasks.events.kombu import KombuEvents

    return KombuEvents.on(connection if hasattr(connection, "clone") else connection.connection.client)


class Receiver:
    """Hears events and calls handlers: ``Receiver(connection, handlers={"task-failed": print, "*": state.event}).capture()``.

    ``handlers`` maps types to functions of one event; ``"*"`` gets what has no handler of its own. ``connection`` is what
    ``app.connection()`` gives, a kombu connection, or None. Each event gets a ``local_received``: when it came.
    """

    def __init__(
        self,
        connection: Any = None,
        handlers: Mapping[str, Callable[[Event], Any]] | None = None,
        routing_key: str = EVERYTHING,
        *,
        node_id: str | None = None,
        app: Any = None,
    ) -> None:
        """Remember what to hear; ``capture`` begins to listen. ``node_id`` and ``app`` are accepted from Celery."""
        self.connection = connection
        self.handlers = {} if handlers is None else handlers
        self.routing_key = routing_key
        #: Set it in a handler, or in another thread, to end ``capture``.
        self.should_stop = False

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Hear events until ``limit`` have come; without one, for ever.

        Raises TimeoutError when nothing has come for ``timeout`` seconds, and OperationalError when the server is away.
        ``wakeup``, by which Celery asks its workers for a heartbeat, is accepted: workers here tell of themselves every few
        seconds.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> Iterator[Event]:
        """Do as ``capture``, and yield each event after its handler has seen it."""
        with channel_of(self.connection).listen(self.routing_key) as receiver:
            for count, event in enumerate(self._heard(receiver, timeout), start=1):
                self.process(event["type"], event)
                yield event
                if self.should_stop or (limit and count >= limit):
                    return

    def _heard(self, receiver: EventReceiver, timeout: float | None) -> Iterator[Event]:
        last = clock.monotonic()
        while not self.should_stop:
            left = _LOOK if not timeout else last + timeout - clock.monotonic()
            found = receiver.receive(max(0.0, min(left, _LOOK)))
            yield from map(received, found)
            if found:
                last = clock.monotonic()
            elif timeout and left <= _LOOK:
                raise exceptions.TimeoutError(f"no event came within {timeout:g} seconds")

    def process(self, type: str, event: Event) -> None:
        """Call the handler of an event, if there is one."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def wakeup_workers(self, channel: Any = None) -> None:
        """Accepted from Celery: workers here tell of themselves every few seconds."""


def received(event: Event) -> Event:
    """Note when an event came, and let this process's clock follow its sender's."""
    if event["type"] == "task-sent":
        # Clients hear nothing, so their clocks don't follow anybody's.
        event["clock"] = max(0, channels.lamport.value - 1)
    else:
        told = event.get("clock")
        event["clock"] = told if told and isinstance(told, int) else channels.lamport.forward()
        channels.lamport.adjust(event["clock"])
    event["local_received"] = clock.timestamp()
    return event


class Dispatcher:
    """Sends events: ``with app.events.Dispatcher() as d: d.send("shop-sold", item="tea")``. Safe for threads.

    ``groups`` lets only events of these groups pass (``["task"]``). With ``buffer_while_offline``, events that can't be sent
    are kept, and sent by ``flush`` or before the next one; otherwise OperationalError is raised.
    """

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        enabled: bool = True,
        channel: Any = None,
        buffer_while_offline: bool = True,
        app: Any = None,
        groups: Iterable[str] | None = None,
    ) -> None:
        """Connect to nothing yet. ``hostname`` is the name to send under: ``gen<pid>@<host>``, unless another is given."""
        self.hostname = hostname or f"gen{os.getpid()}@{socket.gethostname()}"
        self.enabled = enabled
        self.groups = set(groups or ())
        self.buffer_while_offline = buffer_while_offline
        self._connection = connection if connection is not None else channel
        self._channel: EventChannel | None = None
        self._waiting: deque[Event] = deque(maxlen=_BUFFERED)
        self._lock = RLock()

    def send(self, type: str, blind: bool = False, retry: bool = False, retry_policy: Any = None, **fields: Any) -> None:
        """Send an event: ``type`` is a group and what happened (``task-custom``). Values are what JSON takes.

        ``blind``, ``retry`` and ``retry_policy`` are accepted from Celery; a connection that broke is opened again in any
        case.
        """
        if not self.enabled or (self.groups and type.partition("-")[0] not in self.groups):
            return
        with self._lock:
            self._waiting.append(channels.event(type, **{"hostname": self.hostname, **fields}))
            self._send()

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what waits since the server was away."""
        with self._lock:
            self._send()

    def _send(self) -> None:
        if not self._waiting:
            return
        batch = list(self._waiting)
        self._waiting.clear()
        if self._channel is None:
            self._channel = channel_of(self._connection)
        try:
            self._channel.send(batch)
        except OperationalError:
            if not self.buffer_while_offline:
                raise
            self._waiting.extend(batch)
        except TaskError:
            # The last one can't be serialized; what waited before it goes with the next one.
            self._waiting.extend(batch[:-1])
            raise

    def enable(self) -> None:
        """Let events pass."""
        self.enabled = True

    def disable(self) -> None:
        """Drop events from now on."""
        self.enabled = False
        self.close()

    def close(self) -> None:
        """Let go of the dispatcher's own connection. The next event opens a new one."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None and self._connection is not None:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


#: The class, for where ``Dispatcher`` is an attribute.
EventDispatcher: TypeAlias = Dispatcher


class Events:
    """``app.events``."""

    Receiver = Receiver
    Dispatcher = Dispatcher
    State = State

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator["EventDispatcher"]:
        """Lend a dispatcher over the process's own channel."""
        with Dispatcher(None, hostname, enabled, buffer_while_offline=buffer_while_offline) as dispatcher:
            yield dispatcher


__all__ = ["Dispatcher", "Events", "Receiver", "State"]
