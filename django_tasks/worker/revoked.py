"""Which tasks are not to run any more: a bounded memory of ids."""

from collections import OrderedDict
from collections.abc import Iterable


class RevokedTasks:
    """Ids, the oldest forgotten first once ``limit`` is reached. Only admission and the command handler use it."""

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, task_ids: Iterable[str]) -> None:
        """Remember these ids."""
        for task_id in task_ids:
            self._ids[task_id] = None
            self._ids.move_to_end(task_id)
        while len(self._ids) > self._limit:
            self._ids.popitem(last=False)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)
