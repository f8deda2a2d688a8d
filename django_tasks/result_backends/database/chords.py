"""Chords as rows: a counter for each, and a row for each part that is done, unique, so that a part counts once."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import connections, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Greatest

from django_tasks import clock, states
from django_tasks.messages import WireSignature
from django_tasks.models.results import ChordCounter, ChordPart, TaskResult
from django_tasks.result_backends.backend import OpenChord, ReadyChord, ResultMeta
from django_tasks.result_backends.chordparts import claim_patience, collected
from django_tasks.result_backends.database.reading import fetch
from django_tasks.result_backends.database.rows import for_model
from django_tasks.serializers import dumps_json, loads_json

_PARTS: Final[str] = ChordPart._meta.db_table
_CHUNK: Final = 200
#: Before the id in the row of a part that was added, which is no finished one.
_ADDED: Final = "+"
#: By how much the clocks of who opens a chord and who stores its parts' results may differ.
_SKEW: Final = timedelta(hours=1)
_HELD: Final = ("size", "done", "body", "claimed_until")


def open_chord(alias: str, group_id: str, size: int, body: WireSignature) -> None:
    """Make the counter. One that is there already stays: the task that sends the chord has been delivered twice."""
    counter = ChordCounter(group_id=group_id, size=size, body=dumps_json(body), date_created=for_model(clock.now()))
    ChordCounter.objects.using(alias).bulk_create([counter], ignore_conflicts=True)


def grow_chord(alias: str, group_id: str, by: int, parts: Sequence[str]) -> None:
    """Expect more parts. A row beside those of finished parts says which were added: the task that adds them may run twice."""
    counter = ChordCounter.objects.using(alias).filter(group_id=group_id, date_done=None)
    with transaction.atomic(using=alias, savepoint=False):
        if parts:
            # The counter's lock first, as in counting.
            if not counter.update(done=F("done")):
                return
            by = _insert(alias, [(group_id, f"{_ADDED}{task_id}", None) for task_id in parts])
        counter.update(size=F("size") + by)


def count_parts(alias: str, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
    """Count these parts; return the chords that are complete now, or have failed now."""
    groups: defaultdict[str, list[ResultMeta]] = defaultdict(list)
    for meta in metas:
        if meta.group_id is not None and meta.status in states.READY_STATES:
            groups[meta.group_id].append(meta)
    # In the order of their ids, so that two workers that finish parts of the same chords don't wait for each other.
    with transaction.atomic(using=alias, savepoint=False):
        found = [_count(alias, group_id, groups[group_id]) for group_id in sorted(groups)]
    return [ready for ready in found if ready is not None]


def _count(alias: str, group_id: str, parts: Sequence[ResultMeta]) -> ReadyChord | None:
    counters = ChordCounter.objects.using(alias).filter(group_id=group_id, date_done=None)
    # First the counter's lock, so that of two workers with the last two parts the second one sees both.
    if connections[alias].features.has_select_for_update:
        held = counters.select_for_update().values_list(*_HELD).first()
    else:
        held = counters.values_list(*_HELD).first() if counters.update(done=F("done")) else None
    if held is None:
        return None  # its body was sent or has failed, or it is nobody's
    size, done, body, claimed_until = held
    done += _insert(alias, [(group_id, part.task_id, part.group_index) for part in parts])
    claimed = claimed_until is not None and claimed_until > for_model(clock.now())
    if claimed or (done < size and all(part.status == states.SUCCESS for part in parts)):
        counters.update(done=done)
        return None
    ordered = _collect(alias, group_id, parts)
    # As it is kept: a part that was done well, and failed when it ran again, has not failed.
    if done < size and all(part.status == states.SUCCESS for part in ordered):
        counters.update(done=done)
        return None
    counters.update(done=done, claimed_until=_patience())
    return ReadyChord(group_id, loads_json(body), ordered)


def _patience() -> datetime:
    return for_model(clock.now() + timedelta(seconds=claim_patience()))


def close_chords(alias: str, group_ids: Collection[str]) -> None:
    """Note that the bodies have been sent; the parts are not needed any more."""
    names = sorted(group_ids)
    with transaction.atomic(using=alias, savepoint=False):
        for start in range(0, len(names), _CHUNK):
            some = names[start : start + _CHUNK]
            ChordCounter.objects.using(alias).filter(group_id__in=some, date_done=None).update(date_done=for_model(clock.now()))
            ChordPart.objects.using(alias).filter(group_id__in=some).delete()


def reclaim(alias: str, limit: int) -> list[ReadyChord]:
    """Claim chords anew whose claim has lapsed."""
    lapsed = ChordCounter.objects.using(alias).filter(date_done=None, claimed_until__lt=for_model(clock.now()))
    found = []
    for pk, group_id, body in list(lapsed.order_by("claimed_until").values_list("pk", "group_id", "body")[:limit]):
        # The row may have been claimed, or closed, since it was read.
        if lapsed.filter(pk=pk).update(claimed_until=_patience()):
            found.append(ReadyChord(group_id, loads_json(body), _collect(alias, group_id, ())))
    return found


def waiting(alias: str, before: datetime, limit: int) -> list[OpenChord]:
    """Return chords that nobody has been given yet."""
    counters = ChordCounter.objects.using(alias).filter(date_done=None, claimed_until=None, date_created__lt=for_model(before))
    rows = counters.order_by("date_created").values_list("group_id", "size", "done", "date_created", "body")[:limit]
    return [OpenChord(group_id, size, done, clock.as_utc(opened), loads_json(body)) for group_id, size, done, opened, body in rows]


def recount(alias: str, group_ids: Collection[str]) -> list[ReadyChord]:
    """Count what is stored of these chords' parts and was not counted."""
    # Not of one that was claimed: the result of its body, which has the same group, may be there.
    counters = ChordCounter.objects.using(alias).filter(group_id__in=sorted(group_ids), date_done=None, claimed_until=None)
    opened = dict(counters.values_list("group_id", "date_created"))
    if not opened:
        return []
    counted = ChordPart.objects.using(alias).filter(group_id=OuterRef("group_id"), task_id=OuterRef("task_id"))
    found = list(_ended_in(alias, opened).exclude(Exists(counted)).values_list("task_id", flat=True))
    return count_parts(alias, fetch(alias, found)) if found else []


def _ended_in(alias: str, opened: Mapping[str, datetime]) -> "QuerySet[TaskResult]":
    """Return what has ended in these groups, each of which was opened then: there is an index on that time only."""
    ended = TaskResult.objects.using(alias).filter(status__in=states.READY_STATES, date_done__gte=min(opened.values()) - _SKEW)
    return ended.filter(group_id__in=list(opened))


def members(alias: str, group_id: str, opened: datetime) -> list[TaskResult]:
    """Return what is known of the tasks of a group whose chord was opened then: names, states and relations."""
    unfinished = TaskResult.objects.using(alias).filter(date_done=None, group_id=group_id)
    return [
        row
        for found in (_ended_in(alias, {group_id: opened}), unfinished)
        for row in found.only("id", "task_id", "task_name", "status", "parent_id")
    ]


def reopen(alias: str, group_id: str, parts: Collection[str]) -> None:
    """Let a chord that has ended wait again for those of these parts that have not succeeded."""
    counter = ChordCounter.objects.using(alias).filter(group_id=group_id)
    # The lock first, as in counting: what ends meanwhile counts afterwards.
    counter.update(done=F("done"))
    ChordPart.objects.using(alias).filter(group_id=group_id).exclude(task_id__startswith=_ADDED).delete()
    done = [meta for meta in fetch(alias, parts) if meta.status == states.SUCCESS]
    counted = _insert(alias, [(group_id, meta.task_id, meta.group_index) for meta in done])
    counter.update(done=counted, size=Greatest("size", len(parts)), date_done=None, claimed_until=None)


def _insert(alias: str, parts: Sequence[tuple[str, str, int | None]]) -> int:
    """Insert those parts (group, id, position) that are not there; return how many."""
    connection = connections[alias]
    verb, ending = ("INSERT IGNORE", "") if connection.vendor == "mysql" else ("INSERT", " ON CONFLICT DO NOTHING")
    inserted = 0
    with connection.cursor() as cursor:
        for start in range(0, len(parts), _CHUNK):
            some = parts[start : start + _CHUNK]
            values = [value for part in some for value in part]
            marks = ", ".join(["(%s, %s, %s)"] * len(some))
            cursor.execute(f"{verb} INTO {_PARTS} (group_id, task_id, position) VALUES {marks}{ending}", values)
            inserted += max(0, cursor.rowcount)
    return inserted


def _collect(alias: str, group_id: str, fresh: Sequence[ResultMeta]) -> list[ResultMeta]:
    done = ChordPart.objects.using(alias).filter(group_id=group_id).exclude(task_id__startswith=_ADDED)
    rows = done.order_by("id").values_list("task_id", "position")
    positions = dict(rows)
    found = {meta.task_id: meta for meta in fresh}
    found.update((meta.task_id, meta) for meta in fetch(alias, positions))
    return collected(group_id, positions, found)
