"""Saved groups as rows: the result tuples of their members."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from django.db import connections

from django_tasks import clock
from django_tasks.models.results import GroupResult
from django_tasks.result_backends.database.rows import for_model
from django_tasks.serializers import dumps_json, loads_json

#: Ids of one statement.
_CHUNK: Final = 500


def store(alias: str, groups: Mapping[str, Sequence[Any]]) -> None:
    """Keep the result tuples of these groups under their ids."""
    if not groups:
        return
    now = for_model(clock.now())
    # In one order everywhere, so that two processes don't wait for each other.
    rows = [
        GroupResult(group_id=group_id, result=dumps_json(groups[group_id]), date_created=now, date_done=now) for group_id in sorted(groups)
    ]
    targeted = connections[alias].features.supports_update_conflicts_with_target
    GroupResult.objects.using(alias).bulk_create(
        rows,
        update_conflicts=True,
        update_fields=["result", "date_done"],
        unique_fields=["group_id"] if targeted else None,
    )


def fetch(alias: str, group_ids: Collection[str]) -> dict[str, Sequence[Any]]:
    """Read the result tuples of these groups; unknown ones are absent."""
    ids, found = list(group_ids), {}
    rows = GroupResult.objects.using(alias)
    for start in range(0, len(ids), _CHUNK):
        known = rows.filter(group_id__in=ids[start : start + _CHUNK]).values_list("group_id", "result")
        found.update({group_id: loads_json(text) for group_id, text in known if text is not None})
    return found


def forget(alias: str, group_ids: Collection[str]) -> None:
    """Delete these groups."""
    ids = sorted(group_ids)
    for start in range(0, len(ids), _CHUNK):
        GroupResult.objects.using(alias).filter(group_id__in=ids[start : start + _CHUNK]).delete()
