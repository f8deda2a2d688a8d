"""Children that are up but no longer consume: noticed by their stamps on the scoreboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from django_tasks.worker.scoreboard import Line

#: Seconds without a fetch after which a child that should consume counts as stuck, at least; see ``patience``.
SILENCE: Final = 30.0
#: Seconds that one wait for messages takes at most.
LONGEST_WAIT: Final = 1.0
#: Seconds that a child has to show a sign of life after the tasks that it was running have ended.
LAST_CHANCE: Final = 2.0


def patience(lease: float) -> float:
    """Seconds of silence after which a child is stuck: when its leases have lapsed as well, replacing it repeats nothing more."""
    return max(SILENCE, lease) + LONGEST_WAIT


class Sign(Enum):
    """What a look at a child shows."""

    FINE = "fine"
    STUCK = "stuck"  #: it has just been found so
    WAITING = "waiting"  #: it is stuck, but its tasks run on
    BACK = "back"  #: it was stuck, and asks again
    LOST = "lost"  #: it is to be replaced


@dataclass(slots=True)
class Watchdog:
    """Watches one child. Its consumer thread is what gets stuck; the tasks that run there meanwhile may end first.

    A task that holds the interpreter's lock keeps the consumer thread from its work, too: that is why it gets a moment after
    the task's end.
    """

    patience: float
    _tasks: frozenset[tuple[str, float]] | None = None
    _idle_since: float | None = None

    def look(self, now: float, last_fetch: float, running: Sequence[Line]) -> Sign:
        """Judge by the time of the last fetch (0: none yet) and by what runs."""
        if not last_fetch or now - last_fetch <= self.patience:
            was_stuck, self._tasks, self._idle_since = self._tasks is not None, None, None
            return Sign.BACK if was_stuck else Sign.FINE
        tasks = frozenset((line.task_id, line.started) for line in running)
        if self._tasks is None:
            self._tasks = tasks
            return Sign.STUCK
        if self._tasks & tasks:
            self._idle_since = None
            return Sign.WAITING
        if self._idle_since is None:
            self._idle_since = now
        return Sign.LOST if now - self._idle_since >= LAST_CHANCE else Sign.WAITING
