"""What follows a task: callbacks, the next step of its chain, error callbacks."""

from dataclasses import replace
from typing import Any

from django_tasks.canvas.dispatch import gathering
from django_tasks.canvas.failures import Failure, call_errbacks, failed_metas
from django_tasks.canvas.groups import group
from django_tasks.canvas.signatures import maybe_signature
from django_tasks.context import Request, running
from django_tasks.outcomes import NO_FOLLOWUPS, Followups
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.states import FAILURE, IGNORED, REVOKED, SUCCESS


def followups(request: Request, state: str, value: Any) -> Followups:
    """Say what the outcome of a task sets off: messages to send, and results of tasks that will never run.

    ``value`` is the return value, or the exception of FAILURE, REVOKED and IGNORED. Error callbacks that take
    ``(request, exc, traceback)`` are called here.
    """
    if state == SUCCESS:
        return _succeeded(request, value)
    if state in (FAILURE, REVOKED):
        return _failed(request, state, value)
    if state == IGNORED:
        return _ignored(request, value)
    return NO_FOLLOWUPS


def _succeeded(request: Request, value: Any) -> Followups:
    embed, message = request.message.embed, request.message
    family = {"parent_id": message.id, "root_id": message.root_id or message.id}
    with running(request), gathering() as outbox:
        for callback in _together(embed.get("callbacks") or ()):
            callback.apply_async((value,), **family)
        steps = embed.get("chain")
        if steps:
            maybe_signature(steps[-1]).apply_async((value,), chain=list(steps[:-1]) or None, **family)
    return outbox.followups()


def _together(callbacks: Any) -> list[Any]:
    """Return the callbacks as they are sent: groups by themselves, several others as one group."""
    sigs = [maybe_signature(callback) for callback in callbacks]
    if len(sigs) < 2:
        return sigs
    groups = [sig for sig in sigs if isinstance(sig, group)]
    others = [sig for sig in sigs if not isinstance(sig, group)]
    return [*groups, group(others)] if others else groups


def _failed(request: Request, state: str, error: Any) -> Followups:
    embed, message = request.message.embed, request.message
    metas: list[ResultMeta] = []
    if embed.get("chain"):
        family = {"root_id": message.root_id or message.id, "parent_id": message.id}
        metas = [replace(meta, reply_to=message.reply_to) for meta in failed_metas(embed["chain"], Failure(error, state), **family)]
    errbacks = embed.get("errbacks")
    if not errbacks or state != FAILURE:
        return Followups((), metas)
    with running(request), gathering() as outbox:
        call_errbacks(errbacks, message.id, message.root_id, error, task=message.task, request=request)
    return outbox.followups(metas)


def _ignored(request: Request, error: Any) -> Followups:
    # A chord can't go on without one of its parts, nor can it wait for what will never be: here the ignored task, or the chain
    # that it ends, has failed. Nobody else hears of it.
    message, failure = request.message, Failure(error)
    rest = failed_metas(message.embed.get("chain") or (), failure)
    metas = rest if any(meta.chord for meta in rest) else []
    if message.embed.get("chord"):
        metas = [replace(failure.meta(_call_of(request)), root_id=message.root_id, parent_id=message.parent_id)]
    return Followups((), metas)


def _call_of(request: Request) -> dict[str, Any]:
    message = request.message
    part = {"task_id": message.id, "group_id": message.group, "group_index": message.group_index, "chord": request.chord}
    return {"task": message.task, "options": part}
