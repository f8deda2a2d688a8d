"""Chords as rows: a counter for each, and a row for each part, unique, so that a part counts once."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from django.db import connections, transaction
from django.db.models import F

from django_tasks import clock, states
from django_tasks.models import ChordCounter
from django_tasks.result_backends.backend import ResultMeta

_PARTS: Final = "django_tasks_chordpart"
_INSERT: Final = {"sqlite": "INSERT OR IGNORE INTO", "mysql": "INSERT IGNORE INTO"}


def open_counter(alias: str, group_id: str, size: int, body: str) -> None:
    """Make the counter; one that is there already keeps what it has counted."""
    ChordCounter.objects.using(alias).update_or_create(
        group_id=group_id, defaults={"size": size, "body": body}, create_defaults={"size": size, "body": body, "date_created": clock.now()}
    )


def grow(alias: str, group_id: str, by: int) -> None:
    """Expect more parts."""
    ChordCounter.objects.using(alias).filter(group_id=group_id).update(size=F("size") + by)


def count_parts(alias: str, metas: Sequence[ResultMeta]) -> list[tuple[str, str]]:
    """Count parts; return group id and body (JSON) of the chords that became complete, or failed, by them."""
    groups: defaultdict[str, list[ResultMeta]] = defaultdict(list)
    for meta in metas:
        if meta.group_id is not None:
            groups[meta.group_id].append(meta)
    ready = []
    # In the order of their ids, so that two workers that finish parts of the same chords never wait for each other.
    with transaction.atomic(using=alias, savepoint=False):
        for group_id in sorted(groups):
            body = _count(alias, group_id, groups[group_id])
            if body is not None:
                ready.append((group_id, body))
    return ready


def _count(alias: str, group_id: str, parts: Sequence[ResultMeta]) -> str | None:
    counters = ChordCounter.objects.using(alias).filter(group_id=group_id, date_done=None)
    new = _insert(alias, group_id, parts)
    # The UPDATE takes the counter's row lock: of two workers that bring the last two parts, the second sees both.
    if not counters.update(done=F("done") + new):
        return None
    size, done, body = counters.values_list("size", "done", "body").get()
    failed = any(part.status != states.SUCCESS for part in parts)
    if done < size and not failed:
        return None
    counters.update(date_done=clock.now())
    found: str = body
    return found


def _insert(alias: str, group_id: str, parts: Sequence[ResultMeta]) -> int:
    connection = connections[alias]
    verb = _INSERT.get(connection.vendor, "INSERT INTO")
    ending = "" if connection.vendor in _INSERT else " ON CONFLICT DO NOTHING"
    values: list[object] = []
    for part in parts:
        values += [group_id, part.task_id, part.group_index]
    marks = ", ".join(["(%s, %s, %s)"] * len(parts))
    with connection.cursor() as cursor:
        cursor.execute(f"{verb} {_PARTS} (group_id, task_id, position) VALUES {marks}{ending}", values)
        return max(0, int(cursor.rowcount))
