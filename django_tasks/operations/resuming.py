"""Letting a workflow go on from where it failed: the task runs again under its own id, and what failed with it follows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import F, Max

from django_tasks import client, result_backends, states
from django_tasks.canvas.completion import failed_with
from django_tasks.canvas.failures import Failure, failed_metas
from django_tasks.conf import settings
from django_tasks.dbaccess import reaching, trying_again
from django_tasks.exceptions import ChordError, DecodeError
from django_tasks.messages import LIFTED, TaskMessage
from django_tasks.models import ChordCounter, Revocation, TaskResult
from django_tasks.operations.calls import NotRepeatable, stored_call
from django_tasks.operations.workflows import Workflow
from django_tasks.result_backends import bodies
from django_tasks.result_backends.backend import ResultBackend, ResultMeta
from django_tasks.result_backends.database.chords import members
from django_tasks.resultmetas import OMITTED, TOLD
from django_tasks.serializers import loads_json
from django_tasks.tasks.retries import without_deaths

#: Ids that an error names.
_NAMED = 5


@dataclass(slots=True)
class _Plan:
    """Messages to be sent once more, the tasks that failed because of them, and the parts of chords among all these, by group."""

    messages: Mapping[str, TaskMessage]
    waiting: set[str] = field(default_factory=set)
    parts: dict[str, set[str]] = field(default_factory=dict)

    def returns(self, task_id: str) -> bool:
        """Whether a task runs again, or follows one that does."""
        return task_id in self.messages or task_id in self.waiting


def resume(rows: Iterable[TaskResult]) -> list[str]:
    """Run failed tasks again under their own ids, and let go on from there what failed because of them; return their ids.

    What was to follow becomes PENDING until it runs: the rest of a chain, and the body of a chord, which waits again. All the
    failed parts of a chord must be among ``rows``, or follow one of them. A task that follows another one of them isn't sent
    itself. The error callbacks that were called stay called.

    Raises NotRepeatable, saying why, for what can't be; then nothing has changed and nothing was sent.
    """
    backend, ids = result_backends.current(), sorted({row.task_id for row in rows})
    if backend.alias is None:
        backend.reopen((), {})
    with reaching(alias := backend.alias or "", "Running tasks again") as connection:
        return trying_again(connection, lambda: _resume(backend, alias, ids))


def failed_in(workflow: Workflow) -> list[TaskResult]:
    """Return what a workflow can go on from: all of its tasks that ran, or were to run, and failed."""
    alias = result_backends.current().alias or DEFAULT_DB_ALIAS
    rows = TaskResult.objects.using(alias).filter(task_id__in=[step.task_id for step in workflow.failed])
    return [row for row in rows if row.status in states.PROPAGATE_STATES and has_way_on(row)]


def has_way_on(row: TaskResult) -> bool:
    """Whether what a failed task's message said, and what was to follow it, was kept with its result."""
    follows = _known(row).get("follows")
    return isinstance(follows, dict) and OMITTED not in follows


def _resume(backend: ResultBackend, alias: str, ids: Sequence[str]) -> list[str]:
    # A broker elsewhere gets the messages just before the transaction ends, and not after it: if it can't be reached, everything
    # stays as it was. A worker that is quicker than the end waits for it at the row of its task.
    with transaction.atomic(using=alias):
        plan = _plan(alias, _messages(alias, ids))
        backend.reopen([*plan.messages, *plan.waiting], _all_parts(alias, plan))
        messages = [message for task_id, message in plan.messages.items() if task_id not in plan.waiting]
        _publish(alias, _lifted(messages))
    return [message.id for message in messages]


def _publish(alias: str, messages: Sequence[TaskMessage]) -> None:
    in_outbox = bool(settings.TASK_PUBLISH_OUTBOX) and alias == settings.TASK_OUTBOX_DATABASE
    client.publish(messages, on_commit=in_outbox)


def _lifted(messages: Sequence[TaskMessage]) -> list[TaskMessage]:
    """Take back what was revoked of these; workers, which remember it, see it by the message."""
    rows = Revocation.objects.filter(task_id__in=[message.id for message in messages])
    numbers = dict(rows.values_list("task_id").annotate(Max("id")))
    rows.delete()
    return [
        replace(message, headers={**message.headers, LIFTED: numbers[message.id]}) if message.id in numbers else message
        for message in messages
    ]


# ---- what is sent


def _messages(alias: str, ids: Sequence[str]) -> dict[str, TaskMessage]:
    rows = TaskResult.objects.using(alias).filter(task_id__in=ids)
    # To write is to lock, in every database: of two who click at once, the second sees what the first has done.
    rows.update(status=F("status"))
    found = {row.task_id: row for row in rows}
    if missing := [task_id for task_id in ids if task_id not in found]:
        raise NotRepeatable(f"nothing is kept of {_named(missing)}: the result has expired, or was deleted. Nothing was sent")
    return {task_id: _message(alias, found[task_id]) for task_id in ids}


def _message(alias: str, row: TaskResult) -> TaskMessage:
    if row.status not in states.PROPAGATE_STATES:
        raise NotRepeatable(f"{row}: only what has failed, or was revoked, can run again under its own id. Nothing was sent")
    known = _known(row)
    follows = known.get("follows")
    if not isinstance(follows, dict):
        raise NotRepeatable(f"{_no_way_on(alias, row)}. Nothing was sent")
    if OMITTED in follows:
        raise NotRepeatable(
            f"{row}: what its message said was not kept, since {follows[OMITTED]}; it can run again alone. Nothing was sent"
        )
    call = stored_call(row)
    fields = {name: follows[name] for name in TOLD if name in follows}
    fields["headers"] = without_deaths(fields.get("headers") or {})
    return TaskMessage(
        id=row.task_id,
        task=call.task,
        args=call.args,
        kwargs=call.kwargs,
        queue=call.queue or "",
        root_id=row.root_id,
        parent_id=row.parent_id,
        group=row.group_id,
        group_index=known.get("group_index"),
        embed=_embed(alias, row, follows.get("embed") or {}),
        **fields,
    )


def _known(row: TaskResult) -> Mapping[str, Any]:
    try:
        known = loads_json(row.meta or "{}")
    except DecodeError:
        return {}
    return known if isinstance(known, dict) else {}


def _no_way_on(alias: str, row: TaskResult) -> str:
    if row.task_args is not None:
        return f"{row}: what was to follow it was not kept (by an earlier version, or RESULT_EXTENDED was off); it can run again alone"
    cause = _cause(alias, row)
    return f"{row} never started" + (f": run again {cause}, because of which it failed" if cause != row.task_id else "")


def _embed(alias: str, row: TaskResult, kept: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**kept, "chord": _body(_counter(alias, row.group_id or "", row.task_id))} if kept.get("chord") else kept


# ---- what failed because of it


def _plan(alias: str, messages: Mapping[str, TaskMessage]) -> _Plan:
    """Follow a failure as it went: along chains, into chords, and out of them."""
    plan, failure = _Plan(messages), Failure(ChordError(""))
    groups: list[tuple[str, str]] = []

    def awaited(task_id: str, group_id: str | None) -> None:
        if group_id:
            if group_id not in plan.parts:
                groups.append((group_id, task_id))
            plan.parts.setdefault(group_id, set()).add(task_id)

    def note(metas: Iterable[ResultMeta]) -> None:
        for meta in metas:
            plan.waiting.add(meta.task_id)
            if meta.chord is not None:
                awaited(meta.task_id, meta.group_id)

    for message in messages.values():
        if message.embed.get("chord"):
            awaited(message.id, message.group)
        note(failed_metas(message.embed.get("chain") or (), failure))
    while groups:
        note(failed_with(_body(_counter(alias, *groups.pop())), failure))
    return plan


def _counter(alias: str, group_id: str, part: str) -> ChordCounter:
    counter = ChordCounter.objects.using(alias).filter(group_id=group_id).first()
    if counter is None:
        raise NotRepeatable(f"{part} is a part of the chord {group_id}, of which nothing is kept any more. Nothing was sent")
    return counter


def _body(counter: ChordCounter) -> Any:
    return bodies.read(counter.body)


# ---- the chords


def _all_parts(alias: str, plan: _Plan) -> dict[str, set[str]]:
    """Return all parts of the chords that wait again. Raises NotRepeatable where one could never be complete."""
    return {group_id: _parts(alias, group_id, plan) for group_id in plan.parts}


def _parts(alias: str, group_id: str, plan: _Plan) -> set[str]:
    ours = plan.parts[group_id]
    counter = _counter(alias, group_id, min(ours))
    if counter.date_done is None and counter.claimed_until is not None:
        raise NotRepeatable(f"the chord {group_id} is ending in this moment; try again in a minute. Nothing was sent")
    after = {meta.task_id for meta in failed_with(_body(counter), Failure(ChordError("")))}
    _check_body(alias, group_id, after)
    found = {row.task_id: row for row in members(alias, group_id, counter.date_created) if row.task_id not in after}
    others = [row for row in found.values() if row.status in states.PROPAGATE_STATES and not plan.returns(row.task_id)]
    if others:
        causes = sorted({_cause(alias, row) for row in others})
        raise NotRepeatable(
            f"other parts of the chord {group_id} have failed, too: run {_named(causes)} again together with"
            f" {_named(sorted(set(plan.messages)))}. Nothing was sent"
        )
    parts = ours | set(found)
    if len(parts) < counter.size:
        raise NotRepeatable(
            f"of the {counter.size} parts of the chord {group_id}, {counter.size - len(parts)} have no result: they have not run yet,"
            " so try again when they have, or their results have expired or were deleted. Nothing was sent"
        )
    return parts


def _check_body(alias: str, group_id: str, after: Iterable[str]) -> None:
    gone_on = TaskResult.objects.using(alias).filter(task_id__in=list(after)).exclude(status__in=[*states.PROPAGATE_STATES, states.PENDING])
    if (row := gone_on.first()) is not None:
        raise NotRepeatable(f"the chord {group_id} has gone on: {row}. Nothing was sent")


def _cause(alias: str, row: TaskResult) -> str:
    """Name the task because of which this one failed; itself, if it ran. Each that never started has the one before as its parent."""
    seen = {row.task_id}
    while not row.task_args and row.parent_id and row.parent_id not in seen:
        parent = TaskResult.objects.using(alias).filter(task_id=row.parent_id, status__in=states.PROPAGATE_STATES).first()
        if parent is None:
            break
        seen.add(parent.task_id)
        row = parent
    return row.task_id


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
