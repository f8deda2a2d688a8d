"""How much a child claims ahead: as much as it can finish in a short window of time, by its recent run times."""

from typing import Final

from django_tasks import clock
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pools import Pool

#: Most messages that one slot holds, however short its tasks are, where each claim is a transaction.
MOST: Final = 500
#: The same of a message broker's: many small claims cost it no more, and each message takes some 15 KB until it is settled.
MOST_FROM_A_BROKER: Final = 100
#: How much a longer and a shorter run change the estimate: quick to grow careful, slow to grow bold.
UP: Final = 0.5
DOWN: Final = 0.1


class Prefetch:
    """A window of time, not a count; ``WORKER_PREFETCH_MULTIPLIER`` makes it a count, as in Celery."""

    def __init__(self, pool: Pool, options: WorkerOptions, most: int = MOST) -> None:
        self._pool = pool
        self._most = most
        self._window = options.prefetch_window
        self._multiplier = options.prefetch_multiplier
        self._most_tasks = options.max_tasks_per_child
        self._estimate: float | None = None
        #: Requests handed to the pool so far.
        self.started = 0

    def taken(self, count: int) -> None:
        """Note that the pool was given ``count`` requests; less than 0 for those that went back."""
        self.started += count

    def ran(self, runtime: float) -> None:
        """Note how long a task ran (seconds)."""
        known = self._estimate
        if known is None:
            self._estimate = runtime
        else:
            self._estimate = known + (runtime - known) * (UP if runtime > known else DOWN)

    def stuck(self, longer_than: float) -> int:
        """How many slots have been at one task for longer than this (seconds)."""
        horizon = clock.monotonic() - longer_than
        return sum(running.since < horizon for running in self._pool.running())

    def hoards(self, longer_than: float) -> bool:
        """Whether what waits here will take longer than this (seconds): it was claimed when tasks were shorter."""
        if self._estimate is None or self._multiplier:
            return False
        # One for each slot is next in line, however long it may take.
        behind = self._pool.waiting() - self._pool.slots
        return behind > 0 and behind * self._estimate > longer_than * self._pool.slots

    def room(self) -> int:
        """How many messages to claim now."""
        room = self._room()
        if self._most_tasks is not None:
            room = min(room, self._most_tasks - self.started)
        return max(0, room)

    def _room(self) -> int:
        slots, held = self._pool.slots, self._pool.held()
        if self._multiplier:
            return slots * self._multiplier - held
        stuck = self.stuck(self._window)
        target = (slots - stuck) * self._depth()
        held -= stuck
        # Claiming anew only when half is done keeps batches large.
        return target - held if held <= target // 2 or target <= slots else 0

    def _depth(self) -> int:
        if self._estimate is None:
            return 1
        return max(1, min(self._most, int(self._window / max(self._estimate, 1e-6))))
