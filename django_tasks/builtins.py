"""The tasks that every worker has, under Celery's names: other clients send them, and workflows need them."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NoReturn, cast

from django_tasks import result_backends
from django_tasks.canvas import chunks as chunks_of
from django_tasks.canvas import group as group_of
from django_tasks.canvas import maybe_signature, signature
from django_tasks.canvas.chords import chord as chord_of
from django_tasks.clock import now
from django_tasks.conf import settings
from django_tasks.executor import loop_thread
from django_tasks.tasks import Task, shared_task

#: Results deleted in one statement, so that clean-up never holds a lock for long.
_EXPIRED_AT_ONCE: Final = 1000


@shared_task(name="celery.backend_cleanup")
def backend_cleanup() -> int:
    """Delete the results that are older than RESULT_EXPIRES; returns how many."""
    if not settings.RESULT_EXPIRES:
        return 0
    before, total = now() - timedelta(seconds=settings.RESULT_EXPIRES), 0
    while deleted := result_backends.current().expire(before, limit=_EXPIRED_AT_ONCE):
        total += deleted
    return total


@shared_task(name="celery.accumulate")
def accumulate(*args: Any, index: int | None = None, **kwargs: Any) -> Any:
    """Return what it is given, or the argument at ``index``: the last step of a group that replaces a task."""
    return args if index is None else args[index]


@shared_task(name="celery.map")
def xmap(task: Mapping[str, Any], it: Iterable[Any]) -> list[Any]:
    """Call a task's function with each item."""
    function = signature(task).type
    return [_value(function(item)) for item in it]


@shared_task(name="celery.starmap")
def xstarmap(task: Mapping[str, Any], it: Iterable[Iterable[Any]]) -> list[Any]:
    """Call a task's function with each item's elements."""
    function = signature(task).type
    return [_value(function(*item)) for item in it]


@shared_task(name="celery.chunks")
def chunks(task: Mapping[str, Any], it: Iterable[Any], n: int) -> Any:
    """Send the starmaps of a ``chunks`` signature; returns their ids."""
    return chunks_of.apply_chunks(task, it, n).as_tuple()


@shared_task(name="celery.group")
def group(tasks: Sequence[Any], result: Any = None, group_id: str | None = None, partial_args: Sequence[Any] = (), **kwargs: Any) -> Any:
    """Send the members of a group, as old Celery clients ask for it; returns their ids."""
    sent = group_of([maybe_signature(task) for task in tasks]).apply_async(partial_args, task_id=group_id)
    return sent.as_tuple()


@shared_task(name="celery.chain")
def chain(*args: Any, **kwargs: Any) -> NoReturn:
    """Refuse: a chain travels with its first step."""
    raise NotImplementedError("celery.chain is no task that runs: send the chain's first step, which carries the others")


@shared_task(name="celery.chord")
def chord(header: Any, body: Any, partial_args: Sequence[Any] = (), **kwargs: Any) -> Any:
    """Send a chord, as old Celery clients ask for it; returns the body's id."""
    members = header["kwargs"]["tasks"] if isinstance(header, Mapping) else header
    sent = chord_of([maybe_signature(task) for task in members], maybe_signature(body)).apply_async(partial_args)
    return sent.as_tuple()


@shared_task(name="celery.chord_unlock", ignore_result=True)
def chord_unlock(group_id: str, callback: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """Refuse: chords are counted as their parts finish, nobody polls for them."""
    raise NotImplementedError(
        f"celery.chord_unlock for group {group_id}: chords that poll come from a Celery client whose result backend can't count; "
        "here parts are counted as they finish. Give that client the same result backend"
    )


def _value(returned: Any) -> Any:
    """Return what a task's function returned, awaited if the task is async."""
    return loop_thread.run(returned) if inspect.iscoroutine(returned) else returned


#: Every built-in task, by name.
BUILTINS: Final[Mapping[str, Task[..., Any]]] = {
    task.name: task
    for task in cast(
        "tuple[Task[..., Any], ...]",
        (backend_cleanup, accumulate, xmap, xstarmap, chunks, group, chain, chord, chord_unlock),
    )
}
