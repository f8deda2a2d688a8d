"""A beat that begins to schedule at the start of a span; needs the models, so it is imported when it is used."""

from datetime import datetime
from typing import Final

from django_tasks.beat.agenda import Slot
from django_tasks.beat.scheduler import Run, Scheduler

#: Seconds between two looks for changes, at most: everything is read at the start, and each look costs queries.
_LOOKS: Final = 3600.0


class SpanScheduler(Scheduler):
    """Sends what is due later than ``start``; what was due until then counts as done."""

    def __init__(self, start: datetime) -> None:
        super().__init__(max_interval=_LOOKS, since=start)
        self._start = start

    def _run(self, slot: Slot, now: datetime) -> Run | None:
        if slot.at is not None and slot.at <= self._start:
            self._advance(slot, self._start)
            return None
        return super()._run(slot, now)
