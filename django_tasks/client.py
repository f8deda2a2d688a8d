"""The one door out: route, middleware, encode, commit policy, broker."""

import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils.module_loading import import_string

from django_tasks import brokers, routing, signals
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.messages import Envelope, TaskMessage
from django_tasks.middleware import Middleware, compose
from django_tasks.protocol import encode

logger = logging.getLogger("django_tasks.client")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when publishing is tried again. Seconds; ``max_retries=None`` never gives up."""

    max_retries: int | None = 3
    interval_start: float = 0.0
    interval_step: float = 0.2
    interval_max: float = 1.0

    def delay(self, attempt: int) -> float | None:
        """Seconds before retry number ``attempt`` (from 0); None when there is to be none."""
        if self.max_retries is not None and attempt >= self.max_retries:
            return None
        return min(self.interval_start + attempt * self.interval_step, self.interval_max)

    @classmethod
    def of(cls, policy: dict[str, Any] | None) -> "RetryPolicy":
        """Read a ``retry_policy`` dictionary over the defaults of TASK_PUBLISH_RETRY_POLICY."""
        known = {"max_retries", "interval_start", "interval_step", "interval_max"}
        given = {**settings.TASK_PUBLISH_RETRY_POLICY, **(policy or {})}
        return cls(**{name: value for name, value in given.items() if name in known})


NO_RETRY: Final = RetryPolicy(max_retries=0)
#: From this many messages on the garbage collector is held back.
MANY: Final = 500


def publish(
    messages: Sequence[TaskMessage],
    *,
    on_commit: bool | None = None,
    retry: bool | None = None,
    retry_policy: dict[str, Any] | None = None,
) -> None:
    """Publish all messages in one round trip, or none of them.

    Inside a transaction they leave when it commits (``TASK_PUBLISH_ON_COMMIT``; ``on_commit`` overrides it): as rows of
    that transaction with the database broker on the same database, by a commit hook with any other. They are
    encoded at once either way, so that what can't be serialized is raised here.

    Raises EncodeError, QueueNotFound, and OperationalError when the broker can't be reached within the retry policy.
    """
    if not messages:
        return
    with undisturbed(len(messages)):
        envelopes = _prepare(messages)
    tries = RetryPolicy.of(retry_policy) if (settings.TASK_PUBLISH_RETRY if retry is None else retry) else NO_RETRY
    deferred = settings.TASK_PUBLISH_ON_COMMIT if on_commit is None else on_commit
    _send(envelopes, tries, deferred=deferred)


@contextmanager
def undisturbed(count: int) -> Iterator[None]:
    """Hold the garbage collector back while ``count`` messages are made, if that is many.

    All of them stay alive until they are sent, so its runs find nothing, and for ten thousand messages they take a quarter of
    the time. Other threads' garbage waits for that moment, too.
    """
    if count < MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _prepare(messages: Sequence[TaskMessage]) -> list[Envelope]:
    wrap = _publish_chain()
    if wrap is not None:
        messages = [wrap(message) for message in messages]
    destinations = routing.current().destinations(messages)
    return encode(messages, destinations, origin=origin(os.getpid()))


def _send(envelopes: Sequence[Envelope], tries: RetryPolicy, *, deferred: bool) -> None:
    broker = brokers.current()
    alias = _open_transaction(broker) if deferred else None
    if alias is not None:
        transaction.on_commit(partial(_send, envelopes, tries, deferred=True), using=alias)
        return
    if signals.before_task_publish.receivers:
        envelopes = [_announced(envelope) for envelope in envelopes]
    _hand_over(broker, envelopes, tries)
    if signals.after_task_publish.receivers:
        for envelope in envelopes:
            signals.after_task_publish.send(
                envelope.headers.get("task"),
                headers=envelope.headers,
                body=envelope.body,
                exchange=envelope.exchange,
                routing_key=envelope.routing_key,
            )


def _open_transaction(broker: Broker) -> str | None:
    """Name the database whose transaction must commit before these messages may leave; None if they may leave now."""
    open_ones = [connection.alias for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    if not open_ones:
        return None
    if broker.joins_transaction and getattr(broker, "alias", None) in open_ones:
        return None
    return DEFAULT_DB_ALIAS if DEFAULT_DB_ALIAS in open_ones else open_ones[0]


def _announced(envelope: Envelope) -> Envelope:
    # Tracing libraries add headers here, so receivers get the dictionaries that are sent.
    headers, properties = dict(envelope.headers), dict(envelope.properties)
    signals.before_task_publish.send(
        headers.get("task"),
        headers=headers,
        properties=properties,
        body=envelope.body,
        exchange=envelope.exchange,
        routing_key=envelope.routing_key,
        declare=[],
        retry_policy=settings.TASK_PUBLISH_RETRY_POLICY,
    )
    return replace(envelope, headers=headers, properties=properties)


def _hand_over(broker: Broker, envelopes: Sequence[Envelope], tries: RetryPolicy) -> None:
    attempt = 0
    while True:
        try:
            return broker.publish(envelopes)
        except OperationalError as error:
            # A failed statement has spoilt the caller's transaction: trying again inside it can't succeed.
            delay = None if _spoilt(broker) else tries.delay(attempt)
            if delay is None:
                raise
            logger.warning("Publishing %d message(s) failed, trying again in %.1fs: %s", len(envelopes), delay, error)
            time.sleep(delay)
            attempt += 1


def _spoilt(broker: Broker) -> bool:
    alias = getattr(broker, "alias", None)
    return broker.joins_transaction and alias is not None and connections[alias].in_atomic_block


@cache
def origin(pid: int) -> str:
    """Name this process in messages: ``gen<pid>@<host>``."""
    return f"gen{pid}@{socket.gethostname()}"


@cache
def middleware() -> tuple[Middleware, ...]:
    """Instances of the classes that MIDDLEWARE lists, made once a process."""
    found = []
    for path in settings.MIDDLEWARE:
        cls = import_string(path)
        if not (isinstance(cls, type) and issubclass(cls, Middleware)):
            raise ImproperlyConfigured(f"MIDDLEWARE lists {path!r}, which is no subclass of django_tasks.middleware.Middleware")
        found.append(cls())
    return tuple(found)


@cache
def _publish_chain() -> Callable[[TaskMessage], TaskMessage] | None:
    layers = middleware()
    return compose(layers, "publish", lambda message: message) if layers else None


def reset() -> None:
    """Forget what was made from the settings."""
    middleware.cache_clear()
    _publish_chain.cache_clear()
