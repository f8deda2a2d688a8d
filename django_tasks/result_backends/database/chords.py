"""Chords as rows: a counter for each, and a row for each part that is done, unique, so that a part counts once."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import connections, transaction
from django.db.models import F

from django_tasks import clock, states
from django_tasks.messages import WireSignature
from django_tasks.models.results import ChordCounter, ChordPart
from django_tasks.result_backends.backend import ReadyChord, ResultMeta
from django_tasks.result_backends.chordparts import claim_patience, collected
from django_tasks.result_backends.database.reading import fetch
from django_tasks.result_backends.database.rows import for_model
from django_tasks.serializers import dumps_json, loads_json

_PARTS: Final[str] = ChordPart._meta.db_table
_CHUNK: Final = 200
_HELD: Final = ("size", "done", "body", "claimed_until")


def open_chord(alias: str, group_id: str, size: int, body: WireSignature) -> None:
    """Make the counter. One that is there already stays: the task that sends the chord has been delivered twice."""
    counter = ChordCounter(group_id=group_id, size=size, body=dumps_json(body), date_created=for_model(clock.now()))
    ChordCounter.objects.using(alias).bulk_create([counter], ignore_conflicts=True)


def grow_chord(alias: str, group_id: str, by: int) -> None:
    """Expect more parts."""
    ChordCounter.objects.using(alias).filter(group_id=group_id, date_done=None).update(size=F("size") + by)


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
    done += _insert(alias, group_id, parts)
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


def _insert(alias: str, group_id: str, parts: Sequence[ResultMeta]) -> int:
    """Insert those parts that are not there; return how many."""
    connection = connections[alias]
    verb, ending = ("INSERT IGNORE", "") if connection.vendor == "mysql" else ("INSERT", " ON CONFLICT DO NOTHING")
    inserted = 0
    with connection.cursor() as cursor:
        for start in range(0, len(parts), _CHUNK):
            some = parts[start : start + _CHUNK]
            values = [value for part in some for value in (group_id, part.task_id, part.group_index)]
            marks = ", ".join(["(%s, %s, %s)"] * len(some))
            cursor.execute(f"{verb} INTO {_PARTS} (group_id, task_id, position) VALUES {marks}{ending}", values)
            inserted += max(0, cursor.rowcount)
    return inserted


def _collect(alias: str, group_id: str, fresh: Sequence[ResultMeta]) -> list[ResultMeta]:
    rows = ChordPart.objects.using(alias).filter(group_id=group_id).order_by("id").values_list("task_id", "position")
    positions = dict(rows)
    found = {meta.task_id: meta for meta in fresh}
    found.update((meta.task_id, meta) for meta in fetch(alias, positions))
    return collected(group_id, positions, found)
