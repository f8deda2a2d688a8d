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
from django_tasks.states import FAILURE, REVOKED, SUCCESS


def followups(request: Request, state: str, value: Any) -> Followups:
    """Say what the outcome of a task sets off: messages to send, and results of tasks that will never run.

    ``value`` is the return value, or the exception of a FAILURE or REVOKED. Error callbacks that take
    ``(request, exc, traceback)`` are called here. Chords among the messages are opened in the result backend here.
    """
    if state == SUCCESS:
        return _succeeded(request, value)
    if state in (FAILURE, REVOKED):
        return _failed(request, state, value)
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
    outbox.open_chords()
    return Followups(outbox.messages)


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
        metas = [replace(meta, reply_to=message.reply_to) for meta in failed_metas(embed["chain"], Failure(error, state))]
    errbacks = embed.get("errbacks")
    if not errbacks or state != FAILURE:
        return Followups((), metas)
    with running(request), gathering() as outbox:
        call_errbacks(errbacks, message.id, message.root_id, error, task=message.task, request=request)
    outbox.open_chords()
    return Followups(outbox.messages, metas)
