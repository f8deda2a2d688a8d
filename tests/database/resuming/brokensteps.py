"""Steps that fail while a test says so, and what is left of their workflows."""

from typing import Any

import pytest

from django_tasks import group, shared_task, states
from django_tasks.models import ChordCounter, ChordPart, Message, Revocation, TaskResult
from django_tasks.operations.calls import NotRepeatable
from django_tasks.operations.resuming import resume
from django_tasks.result import AsyncResult
from tests.database.lane import Lane

#: Names of steps that fail.
BROKEN: set[str] = set()


#: Names of steps that ran, in order.
RAN: list[str] = []


@shared_task(name="resuming.step")
def step(value, name):
    """Return one more, unless it is broken."""
    RAN.append(name)
    if name in BROKEN:
        raise ValueError(f"{name} is broken")
    return value + 1


@shared_task(name="resuming.total")
def total(values, name="total"):
    """Add up, unless it is broken."""
    RAN.append(name)
    if name in BROKEN:
        raise ValueError(f"{name} is broken")
    return sum(values)


@shared_task(name="resuming.told")
def told(*args):
    """Note that it was called."""
    RAN.append("told")


@shared_task(name="resuming.spread", bind=True)
def spread(self, value):
    """Let a chain with a chord run in its place."""
    return self.replace(step.s(value, "r1") | group(step.s("r2"), step.s("r3")) | total.s("r4"))


def fail(lane: Lane, workflow: Any, *names: str) -> Any:
    """Send a workflow, and run it as far as it goes while these steps are broken."""
    BROKEN.update(names)
    result = workflow.delay()
    lane.drain()
    BROKEN.clear()
    RAN.clear()
    return result


def failed(*, started: bool = True) -> list[TaskResult]:
    """Return the failed tasks: those that ran, or all."""
    rows = TaskResult.objects.filter(status__in=states.PROPAGATE_STATES).order_by("id")
    return list(rows.exclude(task_args=None) if started else rows)


def value(result: Any) -> Any:
    """Ask anew, as a process would that has never seen the result."""
    return AsyncResult(result.id).get(timeout=1)


def nothing_waits() -> bool:
    return not (Message.objects.exists() or ChordPart.objects.exists() or ChordCounter.objects.filter(date_done=None).exists())


def unchanged(rows: Any, why: str) -> None:
    """Resuming is refused for this reason, and leaves everything as it was."""

    def everything() -> list[Any]:
        models = (TaskResult, ChordCounter, ChordPart, Message, Revocation)
        return [list(model.objects.order_by("pk").values()) for model in models]

    before = everything()
    with pytest.raises(NotRepeatable, match=why):
        resume(rows)
    assert everything() == before
