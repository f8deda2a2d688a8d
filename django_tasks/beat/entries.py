"""A periodic task as beat sees it: what to send, and when. Where entries come from is in ``declared`` and ``rows``."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django_tasks.beat.occurrences import Interval, Occurrences, latest
from django_tasks.canvas.calls import build_message
from django_tasks.messages import TaskMessage
from django_tasks.registry import registry
from django_tasks.schedules import schedule_zone

__all__ = ["NAME_HEADER", "BrokenEntryError", "Entry", "schedule_zone"]

#: The header that tells workers and results which periodic task sent a message; django-celery-beat's name.
NAME_HEADER: Final = "periodic_task_name"
_RUN_IDS: Final = uuid.UUID("6f0c8f5a-5d1e-5e7b-9a35-0f4f5b0f7c11")
_INSTANT: Final = timedelta(microseconds=1)


class BrokenEntryError(ValueError):
    """A periodic task can't be scheduled as it is written; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One periodic task.

    ``since`` is the time up to which its runs are done or unwanted: the due time of its last run, or when it was
    written or enabled; None if nobody knows. ``pk`` is that of its PeriodicTask row, if it has one.
    """

    name: str
    task: str
    occurrences: Occurrences
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    since: datetime | None = None
    start_time: datetime | None = None
    expires: datetime | None = None
    one_off: bool = False
    pk: int | None = None

    def next_run(self, after: datetime) -> datetime | None:
        """Return the first time later than ``after`` at which this is due, in UTC; None when it never is again."""
        if self.start_time is not None and self.start_time > after:
            after = self.start_time - _INSTANT
        due = self.occurrences.after(after)
        if due is None or (self.expires is not None and due >= self.expires):
            return None
        return due

    def last_run(self, first: datetime, until: datetime) -> datetime:
        """Return the last time this was due up to ``until``, knowing that it was at ``first``."""
        if isinstance(self.occurrences, Interval):
            end = until if self.expires is None else min(until, self.expires - _INSTANT)
            return max(first, self.occurrences.until(end))
        return latest(self.next_run, first, until)

    def run_id(self, due_at: datetime) -> str:
        """Return the task id of the run that is due then: the same in every process."""
        return str(uuid.uuid5(_RUN_IDS, f"{self.name}\n{due_at.isoformat()}"))

    def message(self, due_at: datetime, *, task_id: str | None = None) -> TaskMessage:
        """Make the message of the run that is due then. The task's own options apply where the entry has none.

        Raises TypeError or ValueError for options that no call can have.
        """
        args = [_evaluated(value) for value in self.args]
        kwargs = {name: _evaluated(value) for name, value in self.kwargs.items()}
        task = registry.find(self.task)
        options = dict(self.options) if task is None else task.call_options(args, kwargs, self.options)
        options["task_id"] = task_id or self.run_id(due_at)
        options["headers"] = {**(options.get("headers") or {}), NAME_HEADER: self.name}
        return build_message(self.task, args, kwargs, options)


def _evaluated(value: Any) -> Any:
    # Celery's BeatLazyFunc, and any other function without arguments: called when the message is made.
    return value() if callable(value) else value
