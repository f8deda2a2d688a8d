"""Results that a server without memory does not take, while their messages are settled to free some.

Where messages and results share a Redis server that is full and may evict nothing, storing first and settling afterwards, as the
order of a batch has it, would be the end: nothing is ever settled, so nothing frees memory.
"""

import logging
from collections.abc import Sequence
from typing import Final

from django_tasks import clock
from django_tasks.exceptions import ServerFullError
from django_tasks.result_backends.backend import ResultBackend, ResultMeta

logger = logging.getLogger("django_tasks.worker")

#: Most results that a process keeps; with more, settling waits for room.
MOST: Final = 10_000
#: Seconds between two tries.
PAUSE: Final = 0.25
#: Seconds without any success for which a process that ends waits for room.
PATIENCE: Final = 10.0
#: Results of one try: the server takes as many as it began with, once it has room.
_CHUNK: Final = 50


class PutOff:
    """Keeps results, oldest first, and stores them as soon as the server has room. One thread at a time."""

    def __init__(self, backend: ResultBackend) -> None:
        self._backend = backend
        self._metas: list[ResultMeta] = []
        self._retry_at = self._hopeful_until = 0.0

    def __len__(self) -> int:
        return len(self._metas)

    @property
    def hopeful(self) -> int:
        """How many are worth waiting for at the end: none any more when the server has taken nothing for a while."""
        return len(self._metas) if clock.monotonic() < self._hopeful_until else 0

    @property
    def takes_more(self) -> bool:
        """Whether there is a place for more."""
        return len(self._metas) < MOST

    def add(self, metas: Sequence[ResultMeta], error: ServerFullError) -> None:
        """Keep these; said once until all are stored."""
        if metas and not self._metas:
            logger.error(
                "Results can't be stored and are put off: their messages are settled first, to free memory. What this process keeps of "
                "them is lost if it is killed meanwhile. %s",
                error,
            )
        self._metas += metas
        self._hopeful_until = clock.monotonic() + PATIENCE

    def due_in(self) -> float | None:
        """Seconds until the next try; None if there is nothing to store."""
        return max(0.0, self._retry_at - clock.monotonic()) if self._metas else None

    def store(self) -> None:
        """Store what the server has room for, if it is time to try. Raises OperationalError when it can't be reached."""
        if not self._metas or clock.monotonic() < self._retry_at:
            return
        while self._metas:
            try:
                self._backend.store(self._metas[:_CHUNK])
            except ServerFullError:
                self._retry_at = clock.monotonic() + PAUSE
                return
            del self._metas[:_CHUNK]
            self._hopeful_until = clock.monotonic() + PATIENCE
        logger.warning("All results that were put off are stored")

    def give_up(self) -> None:
        """Say which results are lost, at the end of the process."""
        if self._metas:
            ids = ", ".join(meta.task_id for meta in self._metas[:10])
            logger.error("%d results are lost: the server had no memory for them (%s ...)", len(self._metas), ids)
            self._metas.clear()
