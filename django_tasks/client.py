"""The one door out: route, middleware, encode, commit policy, broker."""

import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils.module_loading import import_string

from django_tasks import brokers, parking, result_backends, routing, signals
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.events.sent import announce_sent
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.layered import changeable
from django_tasks.messages import Envelope, TaskMessage
from django_tasks.middleware import Middleware, compose
from django_tasks.modelreferences import ModelLoading
from django_tasks.protocol import body_of, encode, with_body

logger = logging.getLogger("django_tasks.client")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when publishing is tried again. Seconds; ``max_retries=None`` never gives up.

    Celery's meaning: the first retry waits ``interval_start``, each further one ``interval_step`` longer, none longer than
    ``interval_max``. ``retry_errors`` names exceptions that are tried again beside OperationalError.
    """

    max_retries: int | None = 3
    interval_start: float = 0.0
    interval_step: float = 0.2
    interval_max: float = 1.0
    retry_errors: tuple[type[Exception], ...] = ()

    def delay(self, attempt: int) -> float | None:
        """Seconds before retry number ``attempt`` (from 0); None when there is to be none."""
        if self.max_retries is not None and attempt >= self.max_retries:
            return None
        return min(self.interval_start + attempt * self.interval_step, self.interval_max)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What is tried again."""
        return (OperationalError, *self.retry_errors)

    @classmethod
    def of(cls, policy: dict[str, Any] | None) -> "RetryPolicy":
        """Read a ``retry_policy`` dictionary over the defaults of TASK_PUBLISH_RETRY_POLICY."""
        given = {**settings.TASK_PUBLISH_RETRY_POLICY, **(policy or {})}
        known = {name: value for name, value in given.items() if name in _POLICY}
        if "retry_errors" in known:
            known["retry_errors"] = tuple(known["retry_errors"] or ())
        return cls(**known)


_POLICY: Final = frozenset(RetryPolicy.__dataclass_fields__)
NO_RETRY: Final = RetryPolicy(max_retries=0)
#: From this many messages on the garbage collector is held back.
MANY: Final = 500
_FOR_EVER: Final = float("inf")


def publish(
    messages: Sequence[TaskMessage],
    *,
    on_commit: bool | None = None,
    retry: bool | None = None,
    retry_policy: dict[str, Any] | None = None,
) -> None:
    """Publish all messages in one round trip, or none of them.

    Inside a transaction they leave when it commits (``TASK_PUBLISH_ON_COMMIT``; ``on_commit`` overrides it): as rows of
    that transaction with the database broker on the same database; with any other by way of the outbox
    (``TASK_PUBLISH_OUTBOX``), or by a commit hook. They are encoded at once in any case, so that what can't be serialized
    is raised here. What the broker can't delay for as long as it asks waits in the database (``django_tasks.parking``).

    Raises EncodeError, QueueNotFound, and OperationalError when the broker can't be reached within the retry policy.
    """
    if not messages:
        return
    with undisturbed(len(messages)):
        envelopes = _prepare(messages)
    tries = _tries(retry, retry_policy)
    deferred = settings.TASK_PUBLISH_ON_COMMIT if on_commit is None else on_commit
    _send(envelopes, tries, deferred=deferred)


def _tries(retry: bool | None, policy: dict[str, Any] | None) -> RetryPolicy:
    if not (settings.TASK_PUBLISH_RETRY if retry is None else retry):
        return NO_RETRY
    return RetryPolicy.of(policy) if policy else _usual_tries()


@cache
def _usual_tries() -> RetryPolicy:
    return RetryPolicy.of(None)


def forward(envelopes: Sequence[Envelope]) -> None:
    """Send these envelopes as they are: to the broker, or into the parking lot where it can't delay them that long.

    Once and at once: no middleware, no signals, no waiting for a commit, no second try. Raises OperationalError when the broker
    or the parking lot can't be reached; then nothing was sent.
    """
    if envelopes:
        _deliver(brokers.current(), envelopes)


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
    if reply_to := _reply_to():
        messages = [message if message.reply_to else replace(message, reply_to=reply_to) for message in messages]
    wrap = _publish_chain()
    if wrap is not None:
        messages = [wrap(message) for message in messages]
    destinations = routing.current().destinations(messages)
    return encode(messages, destinations, origin=origin(os.getpid()))


def _reply_to() -> str:
    # Only rpc:// results are sent to whoever called; for others, publishing need not even open the backend.
    backend = settings.RESULT_BACKEND
    if not isinstance(backend, str) or not backend.startswith("rpc"):
        return ""
    return getattr(result_backends.current(), "reply_to", "") or ""


def _send(envelopes: Sequence[Envelope], tries: RetryPolicy, *, deferred: bool, committed: tuple[str, ...] = ()) -> None:
    broker = brokers.current()
    opened = _open_transactions(broker, committed) if deferred else ()
    outbox = bool(opened) and settings.TASK_PUBLISH_OUTBOX and settings.TASK_OUTBOX_DATABASE in opened
    if opened and not outbox:
        # The first in line; when it has committed, the next. An error in the hook is the caller's to see, as Django has it.
        alias = opened[0]
        transaction.on_commit(Departure(envelopes, tries, (*committed, alias)), using=alias)
        return
    if signals.before_task_publish.receivers:
        envelopes = [_announced(envelope) for envelope in envelopes]
    if outbox:
        parking.park(envelopes)
    else:
        _hand_over(broker, envelopes, tries)
    if signals.after_task_publish.receivers:
        for envelope in envelopes:
            signals.after_task_publish.send(
                envelope.headers.get("task"),
                headers=changeable(envelope.headers),
                body=body_of(envelope),
                exchange=envelope.exchange,
                routing_key=envelope.routing_key,
            )
    if settings.TASK_SEND_SENT_EVENT:
        _say_sent(envelopes, settings.TASK_OUTBOX_DATABASE if outbox else getattr(broker, "alias", None))


def _say_sent(envelopes: Sequence[Envelope], alias: str | None) -> None:
    said = partial(announce_sent, envelopes, origin(os.getpid()))
    if alias is not None and connections[alias].in_atomic_block:
        # They are rows of a transaction that may yet be rolled back.
        transaction.on_commit(said, using=alias)
    else:
        said()


class Departure:
    """The hook that sends envelopes when a transaction has committed.

    ``called`` says that it has: tests call such hooks inside a transaction of their own, and leave them where they are.
    """

    __slots__ = ("_committed", "_tries", "called", "envelopes")

    def __init__(self, envelopes: Sequence[Envelope], tries: RetryPolicy, committed: tuple[str, ...]) -> None:
        self.envelopes = envelopes
        self.called = False
        self._tries, self._committed = tries, committed

    def __call__(self) -> None:
        """Send them, or wait for the next transaction that is open."""
        self.called = True
        _send(self.envelopes, self._tries, deferred=True, committed=self._committed)


def _open_transactions(broker: Broker, committed: Collection[str]) -> Sequence[str]:
    """Name the databases whose transactions must commit before these messages may leave, the default one first.

    A database in ``committed`` has done so, even where a test's transaction around it is still open.
    """
    opened = [connection.alias for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    if not opened or (broker.joins_transaction and getattr(broker, "alias", None) in opened):
        return ()
    return sorted((alias for alias in opened if alias not in committed), key=DEFAULT_DB_ALIAS.__ne__)


def _announced(envelope: Envelope) -> Envelope:
    # Tracing libraries add headers here, others arguments, so receivers get the very things that are sent.
    headers, properties, body = changeable(envelope.headers), changeable(envelope.properties), body_of(envelope)
    signals.before_task_publish.send(
        headers.get("task"),
        headers=headers,
        properties=properties,
        body=body,
        exchange=envelope.exchange,
        routing_key=envelope.routing_key,
        declare=[],
        retry_policy=settings.TASK_PUBLISH_RETRY_POLICY,
    )
    return replace(with_body(envelope, body), headers=headers, properties=properties)


def _hand_over(broker: Broker, envelopes: Sequence[Envelope], tries: RetryPolicy) -> None:
    attempt = 0
    while True:
        try:
            return _deliver(broker, envelopes)
        except tries.errors as error:
            # A failed statement has spoilt the caller's transaction: trying again inside it can't succeed.
            delay = None if _spoilt(broker) else tries.delay(attempt)
            if delay is None:
                raise
            logger.warning("Publishing %d message(s) failed, trying again in %.1fs: %s", len(envelopes), delay, error)
            time.sleep(delay)
            attempt += 1


def _deliver(broker: Broker, envelopes: Sequence[Envelope]) -> None:
    if broker.delays and broker.longest_delay == _FOR_EVER:
        broker.publish(envelopes)
    else:
        parking.send(broker, envelopes)


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
    found: list[Middleware] = []
    for path in settings.MIDDLEWARE:
        cls = import_string(path)
        if not (isinstance(cls, type) and issubclass(cls, Middleware)):
            raise ImproperlyConfigured(f"MIDDLEWARE lists {path!r}, which is no subclass of django_tasks.middleware.Middleware")
        found.append(cls())
    # Innermost: what the project's own layers see of a call is what travelled.
    return (*found, ModelLoading()) if settings.TASK_MODEL_REFERENCES else tuple(found)


@cache
def _publish_chain() -> Callable[[TaskMessage], TaskMessage] | None:
    layers = middleware()
    return compose(layers, "publish", lambda message: message) if layers else None


def reset() -> None:
    """Forget what was made from the settings."""
    middleware.cache_clear()
    _publish_chain.cache_clear()
    _usual_tries.cache_clear()
