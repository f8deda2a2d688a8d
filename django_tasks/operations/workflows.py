"""The tasks of one workflow as a graph: who sent whom, which tasks are one group, and which body waits for it."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q, QuerySet

from django_tasks import states
from django_tasks.exceptions import TaskError
from django_tasks.models import ChordCounter, TaskResult
from django_tasks.operations.shapes import shape_of
from django_tasks.result_backends import bodies

#: Rows before and behind the one that is looked at among which its workflow is sought. There is no index on root and group,
#: since every task would pay for it; the tasks of a workflow are stored near each other.
NEAR: Final = 100_000
#: Most tasks of a workflow that are read.
MOST: Final = 5_000
#: What a graph needs of a row.
_FIELDS: Final = ("id", "task_id", "task_name", "status", "runtime", "group_id", "root_id", "parent_id", "meta")
#: Tasks of bodies that are looked up by their ids; the others are found by their root.
_NAMED: Final = 500
#: How often newly found groups may lead to further ones: a chord whose body is a chord whose body is a chord ...
_ROUNDS: Final = 6


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a workflow. ``pk`` is the number of its result; None as long as nothing is stored of it."""

    task_id: str
    name: str = ""
    status: str = states.PENDING
    pk: int | None = None
    runtime: float | None = None
    group_id: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended without a value."""
        return self.status in {states.FAILURE, states.REVOKED}


@dataclass(frozen=True, slots=True)
class Workflow:
    """Tasks by id, in the order in which they were stored, and the arrows between them (from sender to sent, from part to body)."""

    steps: Mapping[str, Step]
    arrows: Sequence[tuple[str, str]]
    truncated: bool = False

    @property
    def failed(self) -> list[Step]:
        """The tasks that failed or were revoked."""
        return [step for step in self.steps.values() if step.failed]

    @property
    def unfinished(self) -> bool:
        """Whether something in it may still happen."""
        return any(step.status not in states.READY_STATES for step in self.steps.values())

    def counts(self) -> dict[str, int]:
        """How many tasks are in each state, the most frequent state first."""
        counted: defaultdict[str, int] = defaultdict(int)
        for step in self.steps.values():
            counted[step.status] += 1
        return dict(sorted(counted.items(), key=lambda item: -item[1]))


def workflow_of(row: TaskResult) -> Workflow:
    """Gather the workflow that a task belongs to; of one that is alone, itself."""
    rows = _relatives(row)
    steps = {one.task_id: _step(one) for one in rows}
    arrows: dict[tuple[str, str], None] = {}
    for one in rows:
        if one.parent_id and one.parent_id in steps and one.parent_id != one.task_id:
            arrows[one.parent_id, one.task_id] = None
        for child in _children(one.meta):
            steps.setdefault(child, Step(child))
            if child != one.task_id:
                arrows[one.task_id, child] = None
    bodies = {group_id: shape_of(body) for group_id, body in _bodies({step.group_id for step in steps.values() if step.group_id}).items()}
    for group_id, body in bodies.items():
        for task_id, name in body.tasks.items():
            # A body has the group of its chord beside it, or that of a chord that it is a part of.
            part_of = body.groups.get(task_id)
            steps.setdefault(task_id, Step(task_id, name, group_id=part_of if part_of != group_id else None))
        arrows.update((arrow, None) for arrow in body.arrows)
    for group_id, body in bodies.items():
        parts = [step.task_id for step in steps.values() if step.group_id == group_id and step.task_id not in body.tasks]
        arrows.update(((part, first), None) for part in parts for first in body.first)
    return Workflow(steps, list(arrows), truncated=len(rows) >= MOST)


def belongs_to_others(row: TaskResult) -> bool:
    """Whether a task is part of a workflow, as far as its own row tells."""
    return bool(row.group_id or row.parent_id or (row.root_id and row.root_id != row.task_id) or _children(row.meta))


def _relatives(row: TaskResult) -> list[TaskResult]:
    near = TaskResult.objects.filter(pk__range=(row.pk - NEAR, row.pk + NEAR)).only(*_FIELDS)
    found = {row.pk: row}
    roots, groups = {row.root_id or row.task_id, row.task_id}, {row.group_id} if row.group_id else set()
    asked: set[str] = set()
    for _ in range(_ROUNDS):
        before = len(found)
        wanted = near.filter(Q(root_id__in=roots) | Q(task_id__in=roots) | Q(group_id__in=groups) | Q(task_id__in=_members(groups - asked)))
        found.update((one.pk, one) for one in _some(wanted))
        asked |= groups
        groups |= {one.group_id for one in found.values() if one.group_id}
        roots |= {one.root_id for one in found.values() if one.root_id}
        if len(found) == before or len(found) >= MOST:
            break
    return [found[pk] for pk in sorted(found)]


def _some(rows: "QuerySet[TaskResult]") -> "QuerySet[TaskResult]":
    return rows.order_by("id")[:MOST]


def _members(groups: Iterable[str]) -> list[str]:
    """Return the ids of the tasks of the bodies that wait for these groups."""
    return [task_id for body in _bodies(groups).values() for task_id in shape_of(body).tasks][:_NAMED]


def _bodies(groups: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for group_id, text in ChordCounter.objects.filter(group_id__in=list(groups)[:500]).values_list("group_id", "body"):
        try:
            body = bodies.read(text)
        except TaskError:
            continue
        if isinstance(body, Mapping):
            found[group_id] = body
    return found


def _step(row: TaskResult) -> Step:
    return Step(row.task_id, row.task_name or "", row.status, row.pk, row.runtime, row.group_id)


def _children(meta: str | None) -> list[str]:
    # Celery's result tuples, [[id, parent], None or [members]]; a group stands for its members.
    found: list[str] = []
    kept = _read(meta)
    children = kept.get("children") if isinstance(kept, dict) else None
    pending: list[Any] = list(children) if isinstance(children, list) else []
    while pending and len(found) < MOST:
        match pending.pop(0):
            case [[str(task_id), *_], None]:
                found.append(task_id)
            case [_, [*members]]:
                pending.extend(members)
            case _:
                pass
    return found


def _read(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
