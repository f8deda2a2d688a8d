"""Chords as rows: a counter for each, and a row for each part that is done, unique, so that a part counts once."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from django.db import connections, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Greatest

from django_tasks import clock, states
from django_tasks.models.results import ChordCounter, ChordPart, TaskResult
from django_tasks.models.times import aware
from django_tasks.result_backends import bodies
from django_tasks.result_backends.backend import NewChord, OpenChord, ReadyChord, ResultMeta
from django_tasks.result_backends.chordparts import claim_patience
from django_tasks.result_backends.database import chordrows, groups
from django_tasks.result_backends.database.chordrows import ADDED
from django_tasks.result_backends.database.reading import fetch
from django_tasks.result_backends.database.rows import for_model

#: By how much the clocks of who opens a chord and who stores its parts' results may differ.
_SKEW: Final = timedelta(hours=1)


def open_chords(alias: str, chords: Sequence[NewChord]) -> None:
    """Make the counters. One that is there already stays: the task that sends the chord has been delivered twice."""
    groups.store(alias, {chord.group_id: chord.shape for chord in chords if chord.shape is not None})
    now = for_model(clock.now())
    counters = [
        ChordCounter(group_id=chord.group_id, size=chord.size, body=bodies.written(chord.body), date_created=now)
        for chord in sorted(chords, key=attrgetter("group_id"))
    ]
    ChordCounter.objects.using(alias).bulk_create(counters, ignore_conflicts=True)


def grow_chord(alias: str, group_id: str, by: int, parts: Sequence[str]) -> None:
    """Expect more parts. A row beside those of finished parts says which were added: the task that adds them may run twice."""
    counter = ChordCounter.objects.using(alias).filter(group_id=group_id, date_done=None)
    with transaction.atomic(using=alias, savepoint=False):
        if parts:
            # The counter's lock first, as in counting.
            if not counter.update(done=F("done")):
                return
            by = chordrows.insert(connections[alias], [(group_id, f"{ADDED}{task_id}", None) for task_id in parts])
        counter.update(size=F("size") + by)


def count_parts(alias: str, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
    """Count these parts; return the chords that are complete now, or have failed now."""
    parts: defaultdict[str, list[ResultMeta]] = defaultdict(list)
    for meta in metas:
        if meta.group_id is not None and meta.status in states.READY_STATES:
            parts[meta.group_id].append(meta)
    if not parts:
        return []
    with transaction.atomic(using=alias, savepoint=False):
        return _count(alias, parts)


def _count(alias: str, parts: Mapping[str, Sequence[ResultMeta]]) -> list[ReadyChord]:
    connection = connections[alias]
    # First the counters' locks, so that of two workers with the last two parts the second one sees both. Left out are
    # those whose bodies were sent or have failed, and those that are nobody's.
    held = chordrows.hold(connection, parts)
    parts = _without_those_taken_back(alias, {chord.group_id: parts[chord.group_id] for chord in held})
    done = chordrows.counted(
        connection, held, {chord.group_id: {part.task_id: part for part in parts[chord.group_id]}.values() for chord in held}
    )
    failed = {chord.group_id for chord in held if any(part.status != states.SUCCESS for part in parts[chord.group_id])}
    ended = [chord for chord in held if not chord.claimed and (done[chord.group_id] >= chord.size or chord.group_id in failed)]
    found = _collected(alias, ended, [part for chord in ended for part in parts[chord.group_id]])
    # As it is kept: a part that was done well, and failed when it ran again, has not failed.
    ready = {
        chord.id: found[chord.group_id]
        for chord in ended
        if done[chord.group_id] >= chord.size or any(part.status != states.SUCCESS for part in found[chord.group_id].parts)
    }
    changed = {chord.id: done[chord.group_id] for chord in held if chord.id in ready or done[chord.group_id] != chord.done}
    chordrows.write(connection, changed, ready, _patience())
    return list(ready.values())


def _without_those_taken_back(alias: str, parts: Mapping[str, Sequence[ResultMeta]]) -> Mapping[str, Sequence[ResultMeta]]:
    """Leave out failures that were taken back after they had been stored: those parts run again, and count when they end.

    Whoever takes one back needs the counter that is held here, so what is read now stays so until it is counted.
    """
    failed = {part.task_id for some in parts.values() for part in some if part.status != states.SUCCESS}
    again = {meta.task_id for meta in fetch(alias, failed) if meta.status not in states.READY_STATES}
    if not again:
        return parts
    return {group_id: [part for part in some if part.task_id not in again] for group_id, some in parts.items()}


def _collected(alias: str, chords: Sequence[chordrows.Held], fresh: Sequence[ResultMeta] = ()) -> dict[str, ReadyChord]:
    """Return these chords with all that their bodies need, by group."""
    if not chords:
        return {}
    names = [chord.group_id for chord in chords]
    parts = chordrows.collect(alias, names, {part.task_id: part for part in fresh})
    shapes = groups.fetch(alias, names)
    return {chord.group_id: ReadyChord(chord.group_id, chord.body, parts[chord.group_id], shapes.get(chord.group_id)) for chord in chords}


def _patience() -> datetime:
    return clock.now() + timedelta(seconds=claim_patience())


def close_chords(alias: str, group_ids: Collection[str]) -> None:
    """Note that the bodies have been sent; the parts are not needed any more."""
    connection = connections[alias]
    with transaction.atomic(using=alias, savepoint=False):
        for some in chordrows.chunks(sorted(group_ids), chordrows.CHUNK):
            # The locks first, and in their order, as in counting.
            held = chordrows.hold(connection, set(some))
            ChordCounter.objects.using(alias).filter(pk__in=[chord.id for chord in held]).update(date_done=for_model(clock.now()))
            chordrows.remove(connection, [chord.group_id for chord in held])


def reclaim(alias: str, limit: int) -> list[ReadyChord]:
    """Claim chords anew whose claim has lapsed."""
    lapsed = ChordCounter.objects.using(alias).filter(date_done=None, claimed_until__lt=for_model(clock.now()))
    names = list(lapsed.order_by("claimed_until").values_list("group_id", flat=True)[:limit])
    if not names:
        return []
    connection = connections[alias]
    with transaction.atomic(using=alias, savepoint=False):
        # One may have been claimed, closed or opened again since it was read.
        held = [chord for chord in chordrows.hold(connection, set(names)) if chord.claimed is False]
        chordrows.write(connection, {chord.id: chord.done for chord in held}, {chord.id for chord in held}, _patience())
        return list(_collected(alias, held).values())


def waiting(alias: str, before: datetime, limit: int) -> list[OpenChord]:
    """Return chords that nobody has been given yet."""
    return _open(_unclaimed(alias).filter(date_created__lt=for_model(before)).order_by("date_created")[:limit])


def find(alias: str, group_ids: Collection[str]) -> list[OpenChord]:
    """Return those of these chords that nobody has been given yet."""
    return _open(_unclaimed(alias).filter(group_id__in=sorted(group_ids)))


def _unclaimed(alias: str) -> "QuerySet[ChordCounter]":
    return ChordCounter.objects.using(alias).filter(date_done=None, claimed_until=None)


def _open(counters: "QuerySet[ChordCounter]") -> list[OpenChord]:
    rows = counters.values_list("group_id", "size", "done", "date_created", "body")
    return [OpenChord(group_id, size, done, aware(opened), bodies.read(body)) for group_id, size, done, opened, body in rows]


def recount(alias: str, group_ids: Collection[str]) -> list[ReadyChord]:
    """Count what is stored of these chords' parts and was not counted."""
    # Not of one that was claimed: the result of its body, which has the same group, may be there.
    opened = dict(_unclaimed(alias).filter(group_id__in=sorted(group_ids)).values_list("group_id", "date_created"))
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
    ChordPart.objects.using(alias).filter(group_id=group_id).exclude(task_id__startswith=ADDED).delete()
    done = [meta for meta in fetch(alias, parts) if meta.status == states.SUCCESS]
    counted = chordrows.insert(connections[alias], [(group_id, meta.task_id, meta.group_index) for meta in done])
    counter.update(done=counted, size=Greatest("size", len(parts)), date_done=None, claimed_until=None)
