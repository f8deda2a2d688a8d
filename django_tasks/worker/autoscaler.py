"""How many processes a worker should have: between two bounds, by how busy the ones it has are."""

from dataclasses import dataclass, field
from typing import Final

#: Seconds for which every process must be busy before one is added.
BUSY_FOR: Final = 1.0
#: Seconds for which one must have been idle before one is removed.
IDLE_FOR: Final = 30.0


@dataclass(slots=True)
class Autoscaler:
    """``wanted(...)`` is asked now and then; it adds one process at a time, and removes one at a time."""

    most: int
    least: int
    _busy_since: float | None = field(default=None, init=False)
    _idle_since: float | None = field(default=None, init=False)

    def wanted(self, processes: int, busy: int, now: float) -> int:
        """Return how many processes there should be; ``now`` is monotonic seconds."""
        if busy >= processes:
            self._idle_since = None
            self._busy_since = now if self._busy_since is None else self._busy_since
            if now - self._busy_since >= BUSY_FOR and processes < self.most:
                self._busy_since = None
                return processes + 1
        else:
            self._busy_since = None
            self._idle_since = now if self._idle_since is None else self._idle_since
            if now - self._idle_since >= IDLE_FOR and processes > self.least:
                self._idle_since = None
                return processes - 1
        return min(max(processes, self.least), self.most)
