"""From when on the interval of a row counts that never ran: on record, since each saving of the row changes its date."""

from collections.abc import Collection, Mapping
from datetime import datetime

from django.db import router
from django.db.models import QuerySet

from django_tasks.beat.rows import chunks
from django_tasks.models import BeatStart
from django_tasks.models.times import aware


def alias() -> str:
    """Return the database of the record."""
    return router.db_for_write(BeatStart)


def _starts() -> QuerySet[BeatStart]:
    return BeatStart.objects.using(alias())


def settle(found: Mapping[int, tuple[int, datetime]]) -> dict[int, datetime]:
    """Return from when on each row's interval counts.

    ``found`` has, by the row's key, its interval in microseconds and its date, which counts where nothing is on record of this interval.
    """
    known = {}
    for chunk in chunks(found):
        for key, every, since in _starts().filter(pk__in=chunk).values_list("pk", "every", "since"):
            known[key] = every, aware(since)
    new = {key: given for key, given in found.items() if key not in known or known[key][0] != given[0]}
    _forget(new.keys() & known.keys())
    rows = [BeatStart(periodic_task_id=key, every=every, since=since) for key, (every, since) in new.items()]
    _starts().bulk_create(rows, batch_size=200, ignore_conflicts=True)
    return {key: since for key, (_, since) in {**known, **new}.items()}


def prune(keep: Collection[int]) -> None:
    """Forget all rows but these: the others have run, are switched off, or gone."""
    _forget(set(_starts().values_list("pk", flat=True)) - set(keep))


def _forget(keys: Collection[int]) -> None:
    for chunk in chunks(keys):
        _starts().filter(pk__in=chunk).delete()
