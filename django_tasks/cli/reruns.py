"""``tasks rerun``."""

from collections.abc import Mapping, Sequence
from typing import Any

from django_tasks.cli.queues import user
from django_tasks.cli.tables import Failure, Screen
from django_tasks.models import TaskResult
from django_tasks.operations import reruns
from django_tasks.operations.calls import run_alone, stored_call
from django_tasks.operations.resuming import failed_in, resume
from django_tasks.operations.workflows import workflow_of

COLUMNS = ("task_id", "sent_as", "task")


def rerun(screen: Screen, options: Mapping[str, Any]) -> int:
    """Run failed tasks again: under their own ids, so that what was to follow does; or alone, under new ones."""
    rows = _rows(list(dict.fromkeys(options["ids"])))
    if options.get("all"):
        rows = list({row.pk: row for one in rows for row in failed_in(workflow_of(one))}.values())
        if not rows:
            raise Failure("nothing in there has failed from which it could go on. Nothing was sent")
    if options.get("alone"):
        sent = _alone(rows)
    else:
        # What follows another one of them is sent by that one.
        ids = set(resume(rows))
        sent = [_line(row, row.task_id) for row in rows if row.task_id in ids]
    reruns.note([(line["task_id"], line["sent_as"]) for line in sent], by=user())
    screen.rows(sent, COLUMNS, empty="nothing was sent")
    return 0


def _rows(ids: Sequence[str]) -> list[TaskResult]:
    found = {row.task_id: row for row in TaskResult.objects.filter(task_id__in=ids)}
    missing = [task_id for task_id in ids if task_id not in found]
    if missing:
        raise Failure(f"nothing is kept of {', '.join(missing)}: never heard of, expired, or deleted. Nothing was sent")
    return [found[task_id] for task_id in ids]


def _alone(rows: Sequence[TaskResult]) -> list[dict[str, str]]:
    for row in rows:
        # All of them, before the first is sent.
        stored_call(row)
    return [_line(row, run_alone(row)) for row in rows]


def _line(row: TaskResult, sent_as: str) -> dict[str, str]:
    return {"task_id": row.task_id, "sent_as": sent_as, "task": row.task_name or ""}
