"""Taking failures back: rows that become PENDING again, and chords that wait again."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from django.db import transaction

from django_tasks import clock, states
from django_tasks.models.results import TaskResult
from django_tasks.result_backends.database import chords
from django_tasks.result_backends.database.rows import for_model

#: Rows of one statement.
_CHUNK: Final = 200
#: What a task that waits has of ``meta``: its place in its group, and nothing of the run that failed.
_STAYS: Final = ("group_index", "stamps")


def reopen(alias: str, task_ids: Collection[str], parts: Mapping[str, Collection[str]]) -> int:
    """Make these tasks PENDING where they have failed, and these chords wait again; return how many tasks had failed."""
    ids = sorted(task_ids)
    with transaction.atomic(using=alias, savepoint=False):
        taken = sum(_take_back(alias, ids[start : start + _CHUNK]) for start in range(0, len(ids), _CHUNK))
        # In the order of their ids, after the rows, as workers take these locks.
        for group_id in sorted(parts):
            chords.reopen(alias, group_id, parts[group_id])
    return taken


def _take_back(alias: str, task_ids: Sequence[str]) -> int:
    failed = TaskResult.objects.using(alias).filter(task_id__in=task_ids, status__in=states.PROPAGATE_STATES)
    # One that is held is not taken for abandoned because it was created long ago.
    taken = failed.update(
        status=states.PENDING,
        result=None,
        traceback=None,
        worker=None,
        runtime=None,
        retries=0,
        date_started=None,
        date_done=None,
        date_created=for_model(clock.now()),
    )
    rows = TaskResult.objects.using(alias).filter(task_id__in=task_ids, status=states.PENDING).exclude(meta=None)
    changed = [row for row in rows.only("id", "meta") if _stripped(row)]
    TaskResult.objects.using(alias).bulk_update(changed, ["meta"], batch_size=_CHUNK)
    return taken


def _stripped(row: TaskResult) -> bool:
    try:
        known: Any = json.loads(row.meta or "{}")
    except ValueError:
        return False
    if not isinstance(known, dict) or known.keys() <= set(_STAYS):
        return False
    left = {name: known[name] for name in _STAYS if name in known}
    row.meta = json.dumps(left, separators=(",", ":")) if left else None
    return True
