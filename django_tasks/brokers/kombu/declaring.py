"""What a queue is on the server: kombu's Queue for a name, as Celery would declare it, so that both can share it."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed, ResourceLocked
from kombu.common import Broadcast
from kombu.entity import Exchange, Queue

from django_tasks import routing
from django_tasks.conf import settings
from django_tasks.exceptions import QueueNotFound
from django_tasks.routing import QueueSpec

#: Keys of a TASK_QUEUES dictionary that are kombu's, beside the queue's name.
_OPTIONS: Final = (
    "durable", "exclusive", "auto_delete", "no_ack", "queue_arguments", "binding_arguments", "consumer_arguments",
    "expires", "message_ttl", "max_length", "max_length_bytes", "max_priority",
)  # fmt: skip
QUEUE_TYPE: Final = "x-queue-type"
#: What the server has against one queue. It closes the channel, and the connection goes on.
_REFUSALS: Final = (AccessRefused, NotFound, PreconditionFailed, ResourceLocked)
#: The largest priority that is a quorum queue's normal one.
_QUORUM_NORMAL: Final = 4
#: kombu's classes are typed here and there, and not where they are made.
_queue: Final[Any] = Queue
_exchange: Final[Any] = Exchange


@dataclass(frozen=True, slots=True)
class Declared:
    """A queue as it is declared. ``name`` is what messages and settings call it; a broadcast's queue has a name of its own."""

    name: str
    queue: Any
    broadcast: bool = False
    #: Only its exchange is declared: nobody would consume a broadcast's queue that a publisher declared.
    exchange_only: bool = False

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments that it is declared with."""
        return self.queue.queue_arguments or {}

    @property
    def quorum(self) -> bool:
        """Whether it is one of RabbitMQ's quorum queues."""
        return self.arguments.get(QUEUE_TYPE) == "quorum"

    @property
    def has_dead_letter_exchange(self) -> bool:
        """Whether the server passes on what is rejected."""
        return "x-dead-letter-exchange" in self.arguments

    @property
    def most_priority(self) -> int:
        """The largest priority that it tells from others."""
        most = self.queue.max_priority or self.arguments.get("x-max-priority")
        # A quorum queue tells two: up to 4, and above. Others without the argument keep the number and ignore it.
        return min(9, int(most)) if most else 9

    def priority_step(self, priority: int) -> int:
        """Return which of the server's steps this priority is."""
        if self.quorum:
            # Since RabbitMQ 4; before, there is none.
            return int(priority > _QUORUM_NORMAL)
        sorts = self.queue.max_priority or self.arguments.get("x-max-priority")
        return max(0, min(priority, self.most_priority)) if sorts else 0


def declared(name: str, *, own: bool = False) -> Declared:
    """Describe a queue by its name; ``own``: for a consumer, which gets a queue of its own of a broadcast."""
    try:
        spec = routing.current().find_queue(name)
    except QueueNotFound:
        # Asked for by name on a command line, or by a message that was sent before TASK_QUEUES changed.
        spec = QueueSpec(name=name, exchange=name, routing_key=name)
    entry = spec.declared
    if isinstance(entry, Broadcast):
        return Declared(name, _broadcast(entry) if own else entry, broadcast=True, exchange_only=not own)
    if isinstance(entry, Queue):
        return Declared(name, _finished(entry, spec))
    return Declared(name, _from_options(spec, entry if isinstance(entry, Mapping) else None))


def _broadcast(entry: Any) -> Any:
    name = f"{entry.exchange.name}.{uuid.uuid4()}"
    return _queue(name, entry.exchange, entry.routing_key, auto_delete=entry.auto_delete, queue_arguments=entry.queue_arguments)


def _finished(entry: Any, spec: QueueSpec) -> Any:
    # A copy: the project's own object stays as it was written.
    queue = entry.__copy__()
    if not (queue.exchange and queue.exchange.name):
        queue.exchange = _exchange(spec.exchange, type=spec.exchange_type)
    if not queue.routing_key:
        queue.routing_key = spec.routing_key
    queue.queue_arguments = _arguments(dict(queue.queue_arguments or {}), queue.max_priority)
    return queue


def _from_options(spec: QueueSpec, options: Mapping[str, Any] | None) -> Any:
    given = {name: options[name] for name in _OPTIONS if options and name in options}
    arguments = dict(given.pop("queue_arguments", None) or {})
    exchange_type = spec.exchange_type
    if options is None:
        default = spec.name == settings.TASK_DEFAULT_QUEUE
        kind = settings.TASK_DEFAULT_QUEUE_TYPE if default else settings.TASK_CREATE_MISSING_QUEUE_TYPE
        if kind != "classic":
            arguments[QUEUE_TYPE] = kind
        if not default and settings.TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE:
            exchange_type = settings.TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE
    exchange = _exchange(spec.exchange or spec.name, type=exchange_type)
    return _queue(
        spec.name, exchange, spec.routing_key or spec.name, queue_arguments=_arguments(arguments, given.get("max_priority")), **given
    )


def _arguments(arguments: dict[str, Any], max_priority: int | None) -> dict[str, Any] | None:
    most = settings.TASK_QUEUE_MAX_PRIORITY
    # RabbitMQ refuses the argument on quorum queues and streams.
    if most is not None and max_priority is None and arguments.get(QUEUE_TYPE, "classic") == "classic":
        arguments.setdefault("x-max-priority", most)
    return arguments or None


def declare(channel: Any, queues: Iterable[Declared]) -> None:
    """Declare queues, their exchanges and bindings on a channel of kombu's."""
    for one in queues:
        if one.exchange_only:
            one.queue.exchange.bind(channel).declare()
        else:
            one.queue.bind(channel).declare()


def declare_each(connection: Any, queues: Sequence[Declared]) -> tuple[list[Declared], dict[str, Exception]]:
    """Declare queues one by one; return those that the server accepts, and why it refuses the others, by their names.

    A queue that exists with other arguments, or that the user may not use, is refused: that is no fault of the others.
    """
    accepted: list[Declared] = []
    refused: dict[str, Exception] = {}
    channel = connection.channel()
    for one in queues:
        try:
            declare(channel, [one])
        except _REFUSALS as error:
            refused[one.name] = error
            channel = connection.channel()
        else:
            accepted.append(one)
    channel.close()
    return accepted, refused
