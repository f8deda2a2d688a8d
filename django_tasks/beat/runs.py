"""BeatRun rows: the record that makes each run of a periodic task happen once, whoever sends it."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import router
from django.db.models import Max, QuerySet

from django_tasks.beat.rows import chunks
from django_tasks.models import BeatRun
from django_tasks.models.times import aware

#: How long runs stay on record.
KEPT_FOR: Final = timedelta(days=7)
_PRUNED_AT_ONCE: Final = 1000

#: A run by what makes it unique: the entry's name and the due time.
Key = tuple[str, datetime]


def alias() -> str:
    """Return the database of the runs."""
    return router.db_for_write(BeatRun)


def _runs() -> QuerySet[BeatRun]:
    return BeatRun.objects.using(alias()).order_by()


def insert(runs: Sequence[tuple[Key, str, str]], *, sent_at: datetime | None, sent_by: str = "") -> None:
    """Record runs, given as key, task id and task name; ``sent_by`` names who sent them by hand.

    Raises IntegrityError if any of them is on record already; nothing is recorded then.
    """
    both = {"sent_at": sent_at, "sent_by": sent_by[:255]}
    rows = [BeatRun(entry=name, due_at=due, task_id=task_id, task=task, **both) for (name, due), task_id, task in runs]
    _runs().bulk_create(rows, batch_size=500)


def recorded(keys: Iterable[Key]) -> set[Key]:
    """Return which of these runs are on record."""
    found: set[Key] = set()
    for due, names in _by_time(keys):
        for chunk in chunks(names):
            found.update((name, due) for name in _runs().filter(due_at=due, entry__in=chunk).values_list("entry", flat=True))
    return found


def mark_sent(keys: Iterable[Key], moment: datetime) -> None:
    """Record that these runs are with the broker."""
    for due, names in _by_time(keys):
        for chunk in chunks(names):
            _runs().filter(due_at=due, entry__in=chunk).update(sent_at=moment)


def forget(keys: Iterable[Key]) -> None:
    """Take back the record of runs that were not sent and never will be."""
    for due, names in _by_time(keys):
        for chunk in chunks(names):
            _runs().filter(due_at=due, entry__in=chunk, sent_at=None).delete()


def unsent(now: datetime, *, limit: int) -> list[Key]:
    """Return runs that are recorded but may not have reached the broker, oldest first."""
    rows = _runs().filter(sent_at=None, due_at__gte=now - KEPT_FOR).order_by("due_at")
    return [(name, aware(due)) for name, due in rows.values_list("entry", "due_at")[:limit]]


def last_due(names: Collection[str]) -> dict[str, datetime]:
    """Return the due time of each entry's last run on record; what was sent by hand beside its schedule doesn't count."""
    found: dict[str, datetime] = {}
    for chunk in chunks(names):
        rows: Any = _runs().filter(entry__in=chunk, sent_by="").values_list("entry").annotate(last=Max("due_at"))
        found.update((name, aware(last)) for name, last in rows)
    return found


def prune(now: datetime, keep: Collection[str]) -> bool:
    """Delete some runs that are past keeping; return whether there may be more.

    The last run of each entry named in ``keep`` stays: it is all that remembers when a declared entry ran.
    """
    old = _runs().filter(due_at__lt=now - KEPT_FOR)
    for name, due in last_due(keep).items():
        if due < now - KEPT_FOR:
            old = old.exclude(entry=name, due_at=due)
    keys = list(old.values_list("pk", flat=True)[:_PRUNED_AT_ONCE])
    for chunk in chunks(keys):
        _runs().filter(pk__in=chunk).delete()
    return len(keys) == _PRUNED_AT_ONCE


def _by_time(keys: Iterable[Key]) -> Iterable[tuple[datetime, list[str]]]:
    found: dict[datetime, list[str]] = {}
    for name, due in keys:
        found.setdefault(due, []).append(name)
    return found.items()
