"""Deleting what is old, in pieces that hold no lock for long."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Exists, OuterRef, Q, QuerySet

from django_tasks import clock, states
from django_tasks.dbaccess import delete
from django_tasks.models.results import ChordCounter, ChordPart, GroupResult, TaskResult
from django_tasks.result_backends.database.rows import for_model
from django_tasks.result_backends.lifetimes import failures_before

#: Chords deleted at a time.
_CHUNK: Final = 500
#: A chord that still waits for parts is kept at least this long, since deleting it means that its body never runs.
_PATIENCE: Final = timedelta(days=30)


def expire(alias: str, before: datetime, *, limit: int) -> int:
    """Delete up to ``limit`` old results, then old groups and chords within what is left of it; failures stay longer. Return how many."""
    deleted, ancient = 0, for_model(min(before, clock.now() - _PATIENCE))
    failed = failures_before(before)
    before = for_model(before)
    for rows in (_ended(alias, before), _failed(alias, failed), _abandoned(alias, before), _groups(alias, before)):
        deleted += delete(rows, limit - deleted)
    return deleted + _delete_chords(alias, before, ancient, limit - deleted)


def _ended(alias: str, before: datetime) -> QuerySet[Any]:
    rows = TaskResult.objects.using(alias).filter(date_done__lt=before).exclude(status=states.FAILURE)
    return _not_wanted(rows).order_by("date_done")


def _failed(alias: str, before: datetime | None) -> QuerySet[Any]:
    rows = TaskResult.objects.using(alias)
    if before is None:
        return rows.none()
    return _not_wanted(rows.filter(date_done__lt=for_model(before), status=states.FAILURE)).order_by("date_done")


def _abandoned(alias: str, before: datetime) -> QuerySet[Any]:
    # Started or to be retried once, and never heard of again.
    return TaskResult.objects.using(alias).filter(
        Q(date_started__lt=before) | Q(date_started=None), date_done=None, date_created__lt=before
    )


def _groups(alias: str, before: datetime) -> QuerySet[Any]:
    # The body of a chord that is not complete needs the shape of its header.
    waiting = ChordCounter.objects.using(alias).filter(group_id=OuterRef("group_id"), date_done=None)
    return GroupResult.objects.using(alias).filter(date_created__lt=before).exclude(Exists(waiting))


def _not_wanted(rows: QuerySet[Any]) -> QuerySet[Any]:
    # The body of a chord that is not complete needs the results of the parts that are.
    parts = ChordPart.objects.using(rows.db).filter(group_id=OuterRef("group_id"), task_id=OuterRef("task_id"))
    return rows.exclude(Exists(parts))


def _delete_chords(alias: str, before: datetime, ancient: datetime, limit: int) -> int:
    if limit <= 0:
        return 0
    chords = ChordCounter.objects.using(alias)
    old = chords.filter(Q(date_done__lt=before) | Q(date_done=None, date_created__lt=ancient))
    group_ids = list(old.values_list("group_id", flat=True)[: min(limit, _CHUNK)])
    if not group_ids:
        return 0
    ChordPart.objects.using(alias).filter(group_id__in=group_ids).delete()
    return chords.filter(group_id__in=group_ids).delete()[0]
