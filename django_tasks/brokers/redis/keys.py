"""Names of keys, and the lists of one queue: where a message of some priority lies, and in which order lists are read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite
from typing import Final

from django_tasks.brokers.redis.bindings import Binding

#: Larger priorities than this one, and smaller ones than 0 less it, count as the last.
TOP: Final = 9
_OWN: Final = "+"
#: Larger numbers that a sender may have written are cut.
_LARGEST: Final = 255
#: Beginnings of keys that are no queues: kombu's tables, what this broker keeps, and results, which may lie in the same database.
_TAKEN: Final = (
    *("_kombu.binding.", "_kombu.binding_permanent.", "_django_tasks."),
    *("celery-task-meta-", "celery-taskset-meta-", "django-tasks-chord"),
)
#: What may stand behind a queue's name for some priority.
_LABELS: Final = frozenset((*map(str, range(TOP + 1)), *(f"{_OWN}{number}" for number in range(1, TOP + 1))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The layout of one broker: kombu's names, and a few of ours beside them.

    A queue is several lists, told apart by a *label* behind its name. ``""`` is the plain list. ``"3"``, ``"6"``, ``"9"`` are
    Celery's steps, read after it. ``"+1"`` to ``"+9"`` are ours for priorities above 0, read before it. With
    ``celery_order`` there are Celery's numbers and lists only.
    """

    prefix: str = ""
    sep: str = "\x06\x16"
    steps: Sequence[int] = (0, 3, 6, 9)
    celery_order: bool = False
    unacked_name: str = "unacked"
    unacked_index_name: str = "unacked_index"
    mutex_name: str = "unacked_mutex"
    labels: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        own = () if self.celery_order else tuple(f"{_OWN}{number}" for number in range(TOP, 0, -1))
        object.__setattr__(self, "labels", (*own, *("" if step == 0 else str(step) for step in sorted(self.steps))))

    # ---- keys

    @property
    def unacked(self) -> str:
        """Hash: tag → ``[envelope, exchange, routing key]`` of what is held."""
        return self.prefix + self.unacked_name

    @property
    def unacked_index(self) -> str:
        """Sorted set: tag → when it was handed out or last renewed. Celery's workers restore what is old here."""
        return self.prefix + self.unacked_index_name

    @property
    def leases(self) -> str:
        """Sorted set: tag → when its lease ends; only what our consumers hold."""
        return f"{self.prefix}_django_tasks.leases"

    @property
    def queues(self) -> str:
        """Set: names of queues that have been used."""
        return f"{self.prefix}_django_tasks.queues"

    @property
    def before_delayed(self) -> str:
        """What stands before a queue's name in ``delayed``."""
        return f"{self.prefix}_django_tasks.delayed."

    @property
    def before_bell(self) -> str:
        """What stands before a queue's name in ``bell``."""
        return f"{self.prefix}_django_tasks.bell."

    def delayed(self, queue: str) -> str:
        """Sorted set: label, line feed, envelope → when it is due."""
        return self.before_delayed + queue

    def bell(self, queue: str) -> str:
        """List that idle consumers block on: a token in it says that there may be messages."""
        return self.before_bell + queue

    def list_of(self, queue: str, label: str) -> str:
        """List of messages: pushed on the left, taken from the right."""
        return f"{self.prefix}{queue}{self.sep}{label}" if label else self.prefix + queue

    def lists(self, queue: str) -> list[str]:
        """Return every list of a queue, in the order of reading."""
        return [self.list_of(queue, label) for label in self.labels]

    def binding(self, exchange: str) -> tuple[str, str]:
        """Return the sets in which kombu looks for the queues of an exchange."""
        return f"{self.prefix}_kombu.binding.{exchange}", f"{self.prefix}_kombu.binding_permanent.{exchange}"

    def bound(self, binding: Binding) -> str:
        """Return the member of those sets for a queue."""
        return self.sep.join((binding.routing_key, binding.pattern, binding.queue))

    def refusal(self, queue: str) -> str | None:
        """Say that a queue of this name would share a key with something else, if it would."""
        taken = queue in {self.unacked_name, self.unacked_index_name, self.mutex_name} or queue.startswith(_TAKEN)
        before, sep, label = queue.rpartition(self.sep) if self.sep else ("", "", "")
        if sep and label in _LABELS:
            return f"{queue!r} is no name for a queue on Redis: the messages of the queue {before!r} with a priority lie under it"
        if not taken:
            return None
        return (
            f"{queue!r} is no name for a queue on Redis: a key of the broker or of results has this name: messages would be lost."
            f" Names must not be {self.unacked_name!r}, {self.unacked_index_name!r} or {self.mutex_name!r}, nor begin with"
            f" {', '.join(map(repr, _TAKEN))}"
        )

    # ---- priorities

    def label(self, priority: int) -> str:
        """Name the list for a priority: larger ones are read sooner, unless Celery's order was asked for."""
        if self.celery_order:
            return self.step(priority)
        return f"{_OWN}{min(priority, TOP)}" if priority > 0 else self.step(-priority)

    def step(self, number: int) -> str:
        """Name Celery's list for Celery's priority: the largest step that is not above it."""
        found = max((step for step in self.steps if step <= min(max(number, 0), TOP)), default=0)
        return str(found) if found else ""

    def priority(self, label: str, said: object) -> int:
        """Tell a message's priority, on the scale of this broker, from its list and from what its properties say."""
        number = min(max(int(said), -_LARGEST), _LARGEST) if isinstance(said, int | float) and isfinite(said) else 0
        if self.celery_order:
            return number
        if label.startswith(_OWN):
            return int(label)
        # What waits in Celery's lists waits behind what has no priority: negative numbers, here.
        return -number if label and number > 0 else (-int(label) if label else 0)


def holder(consumer_id: str) -> str:
    """Shorten a consumer's id to what its tags begin with: a worker's scoreboard has room for 64 bytes."""
    return blake2b(consumer_id.encode(), digest_size=10).hexdigest()


def label_of(tag: str) -> str:
    """Read from a tag which list its message came from."""
    return tag.rpartition(":")[2]
