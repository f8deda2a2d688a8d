"""Calls as operators make and stop them: run a stored call again, revoke, name the nearest task."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django_tasks.application import app
from django_tasks.canvas.dispatch import sending
from django_tasks.exceptions import DecodeError, OperationalError, TaskError
from django_tasks.models import Revocation, RevokedStamp, TaskResult
from django_tasks.registry import registry
from django_tasks.result.revocation import revoke_stamped
from django_tasks.serializers import loads_json

#: What says that a call can't be sent: its queue, its options, its arguments, or the broker.
UNSENDABLE = (TaskError, TypeError, ValueError)


class NotRepeatable(TaskError):
    """The call can't be made again: its name or its arguments were not kept."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """What is needed to call a task again."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str | None


def stored_call(row: TaskResult) -> StoredCall:
    """Read the call that a result came from.

    Raises NotRepeatable, saying why, when the name or the arguments were not kept or are no JSON.
    """
    if not row.task_name:
        raise NotRepeatable(f"{row.task_id}: the task's name was not kept (RESULT_EXTENDED was off), so it can't be run again")
    return StoredCall(
        row.task_name,
        _argument(row, row.task_args, list, "positional"),
        _argument(row, row.task_kwargs, dict, "named"),
        row.queue or None,
    )


def _argument(row: TaskResult, text: str | None, kind: type, what: str) -> Any:
    if text is None:
        raise NotRepeatable(f"{row}: the {what} arguments were not kept (RESULT_EXTENDED was off), so it can't be run again")
    try:
        value = loads_json(text)
    except DecodeError as error:
        raise NotRepeatable(f"{row}: the {what} arguments are no JSON ({error}), so it can't be run again") from error
    if not isinstance(value, kind):
        shape = "a JSON array" if kind is list else "a JSON object"
        raise NotRepeatable(f"{row}: the {what} arguments are not {shape} but {text[:60]!r}, so it can't be run again")
    return value


def run_again(call: StoredCall, **family: str) -> str:
    """Send the call once more, under a new id, to the queue it came from; return the id.

    ``root_id`` and ``parent_id`` say which workflow it joins.
    """
    options: dict[str, Any] = {"queue": call.queue, **family} if call.queue else {**family}
    result = app.send_task(call.task, call.args, call.kwargs, **options)
    return str(result.id)


#: What was sent again, each with its new id, and why the others were not.
Sent: TypeAlias = tuple[list[tuple[TaskResult, str]], list[str]]


def run_all_again(rows: Iterable[TaskResult]) -> Sent:
    """Send the stored calls once more in one publish, as ``run_again`` does; return what was sent, and why the others were not.

    Raises OperationalError where the broker can't be reached; then nothing was sent.
    """
    calls, refused = [], []
    for row in rows:
        try:
            calls.append((row, stored_call(row)))
        except NotRepeatable as error:
            refused.append(str(error))
    try:
        with sending():
            sent = [(row, run_again(call)) for row, call in calls]
    except OperationalError:
        raise
    except UNSENDABLE:
        # One of them can't be sent, and it took all others with it.
        return _one_by_one(calls, refused)
    return sent, refused


def _one_by_one(calls: Iterable[tuple[TaskResult, StoredCall]], refused: list[str]) -> Sent:
    sent = []
    for row, call in calls:
        try:
            task_id = run_again(call)
        except UNSENDABLE as error:
            refused.append(f"{row}: {error}")
        else:
            sent.append((row, task_id))
    return sent, refused


def run_alone(row: TaskResult) -> str:
    """Send the call of a result once more, under a new id, which joins its workflow; nothing follows it. Return the id."""
    return run_again(stored_call(row), root_id=row.root_id or row.task_id, parent_id=row.task_id)


def revoke(task_ids: Sequence[str], *, by: str, terminate: bool = False) -> None:
    """Let no worker start these tasks any more; with ``terminate`` also stop them where they run."""
    app.control.revoke(task_ids, terminate=terminate)
    Revocation.objects.filter(task_id__in=task_ids).update(revoked_by=by[:255])


def revoke_stamp(name: str, value: Any, *, by: str, terminate: bool = False) -> int:
    """Let no worker start tasks with this stamp any more; with ``terminate`` also stop those that run. Returns the row's number."""
    revoke_stamped({name: [value]}, terminate=terminate, by=by)
    return int(RevokedStamp.objects.filter(name=name).order_by("-id").values_list("id", flat=True)[0])


def nearest_task(name: str) -> str | None:
    """Name the registered task that ``name`` was probably meant to be."""
    found: dict[str, float] = {}
    for known in registry:
        # Names of one package are all alike: the last part tells most. And people leave the package away.
        whole, last = _likeness(name, known), _likeness(name.rpartition(".")[2], known.rpartition(".")[2])
        if last >= 0.75 or (last >= 0.6 and whole >= 0.75):
            found[known] = whole + last
    return max(found, key=found.__getitem__, default=None)


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name, other).ratio()


class BadArguments(TaskError):
    """The arguments are not the JSON that is asked for."""


def parse_arguments(text: str, kind: type, what: str) -> Any:
    """Read a JSON array (``kind=list``) or object (``dict``) that a person typed.

    Raises BadArguments with the place of the mistake.
    """
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        line = error.doc.split("\n")[error.lineno - 1]
        raise BadArguments(f"{what} is no JSON: {error.msg}, here:\n  {line}\n  {' ' * (error.colno - 1)}^") from error
    except (RecursionError, ValueError) as error:
        raise BadArguments(f"{what} can't be read: {error}") from error
    try:
        value = loads_json(text)
    except DecodeError as error:
        raise BadArguments(f"{what} can't be read: {error}") from error
    if not isinstance(value, kind):
        shape = 'a JSON array like [1, "two"]' if kind is list else 'a JSON object like {"size": 2}'
        raise BadArguments(f"{what} must be {shape}, not {text.strip()[:60]}")
    return value
