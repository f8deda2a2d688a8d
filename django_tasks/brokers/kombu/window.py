"""How many messages RabbitMQ may push to a consumer before it hears of them.

Up to RabbitMQ 3, a prefetch count for the whole channel can be changed at any time, and counts all that is unsettled; quorum
queues and RabbitMQ 4 know only one that a consumer has for good. There, a window that is too small is replaced: its consumers
are cancelled and new ones begin, beside which what came by the old ones is still held.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

from amqp import spec

from django_tasks import clock
from django_tasks.brokers.kombu.declaring import Declared

#: From this many messages on, a window is made a little larger than asked for, so that it need not be changed each time.
_ROUNDED: Final = 16
_LARGEST: Final = 65535
#: Seconds for which a window must be too large before it is made smaller: what is needed goes up and down with every batch.
_TOO_LARGE_FOR: Final = 1.0
#: How many ended consumers' callbacks are kept: nothing is under way to one that ended that many windows ago.
_REMEMBERED: Final = 200

_numbers: Final = count(1)

Arrived = Callable[[Declared, str, Any], None]


class Window:
    """The consumers of one channel, and their prefetch count."""

    def __init__(self, channel: Any, connection: Any, queues: Sequence[Declared], arrived: Arrived, *, known: "Window | None") -> None:
        self._channel = channel
        self._queues = queues
        self._arrived = arrived
        self._shared = _major(connection) < 4 and not any(
            queue.quorum or queue.arguments.get("x-queue-type") == "stream" for queue in queues
        )
        self._size = 0
        #: When it was last no larger than it should be.
        self._fitted = 0.0
        self._names: dict[str, Declared] = {}
        #: Consumers that are cancelled, but may still be sent what was under way.
        self.ended: deque[str] = known.ended if known is not None else deque()
        #: What is unsettled of each consumer.
        self.held: Counter[str] = known.held if known is not None else Counter()
        #: The queue of each consumer, of ended ones too.
        self.sources: dict[str, Declared] = known.sources if known is not None else {}

    @property
    def is_open(self) -> bool:
        """Whether the server may push anything."""
        return bool(self._names)

    def left(self, name: str) -> None:
        """Note that a consumer's message has been settled."""
        self.held[name] -= 1
        if not self.held[name]:
            del self.held[name]

    def widen(self, limit: int, *, waiting: int, outstanding: int) -> bool:
        """See to it that ``limit`` messages can be here at once; ``waiting`` are. Say whether the window is a new one."""
        missing = limit - waiting
        if missing <= 0:
            return False
        if self._shared:
            return self._widen_shared(outstanding + missing)
        worst = max((self.held[name] for name in self._names), default=0)
        if self._names and self._size - worst >= missing and not self._too_large(outstanding + missing):
            return False
        self.close()
        self._size = _rounded(outstanding + missing)
        self._fitted = clock.monotonic()
        self._channel.basic_qos(0, self._size, False)
        self._consume()
        return True

    def _widen_shared(self, needed: int) -> bool:
        grows = needed > self._size
        if self._too_large(needed) or grows:
            self._size = _rounded(needed)
            # Its answer is not waited for: what matters is the order.
            self._channel.send_method(spec.Basic.Qos, "lBb", (0, self._size, True))
        if not self._names:
            self._consume()
            return True
        return grows

    def _too_large(self, needed: int) -> bool:
        """Whether the window has been far larger than needed for a while: others may want what is pushed to it."""
        now = clock.monotonic()
        if self._size <= max(2 * needed, _ROUNDED):
            self._fitted = now
        return now - self._fitted > _TOO_LARGE_FOR

    def _consume(self) -> None:
        for queue in self._queues:
            name = f"django-tasks-{next(_numbers)}"
            self._names[name] = self.sources[name] = queue
            self._channel.basic_consume(
                queue.queue.name,
                name,
                callback=partial(self._arrived, queue, name),
                on_cancel=self._cancelled,
                nowait=True,
                arguments=queue.queue.consumer_arguments,
            )

    def _cancelled(self, name: str) -> None:
        # The server ended the consumer: its queue has been deleted, or its node has gone. The caller reconnects, and declares anew.
        raise ConnectionError(f"the server ended the consumer of {self._names[name].name!r}: has its queue been deleted?")

    def close(self) -> None:
        """End all consumers; what is under way to them may still come."""
        for name in self._names:
            # By hand: py-amqp forgets the callback only with an answer, which is not waited for.
            self._channel.send_method(spec.Basic.Cancel, "sb", (name, True))
            self._channel.cancel_callbacks.pop(name, None)
            self.ended.append(name)
        while len(self.ended) > _REMEMBERED:
            forgotten = self.ended.popleft()
            self._channel.callbacks.pop(forgotten, None)
            self.sources.pop(forgotten, None)
        self._names = {}
        self._size = 0


def _rounded(size: int) -> int:
    return min(_LARGEST, size if size <= _ROUNDED else size + size // 4)


def _major(connection: Any) -> int:
    version = str((connection.server_properties or {}).get("version", "0"))
    head = version.partition(".")[0]
    return int(head) if head.isdigit() else 0
