"""After a child has died: what becomes of the tasks that it was running."""

import logging
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django_tasks import states
from django_tasks.conf import settings
from django_tasks.context import Request, running
from django_tasks.exceptions import InvalidTaskError, SerializationError, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from django_tasks.messages import Death, Delivery, Disposition, Settlement, TaskMessage
from django_tasks.outcomes import (
    ExceptionInfo,
    Follow,
    Followups,
    Outcome,
    failure,
    followups_of_unrun,
    hard_limit_of,
    revoked,
    tell_failure,
    tell_revoked,
)
from django_tasks.protocol import decode
from django_tasks.registry import registry
from django_tasks.resultmetas import meta_of

logger = logging.getLogger("django_tasks.worker")

#: Why a task's process ended: it crashed, passed the hard limit, was told to, or the worker was stopped cold.
CRASHED, OVERDUE, TERMINATED, STOPPED = "crashed", "overdue", "terminated", "stopped"
#: It died while it read the message: reading it again, to see what waits for the task, may end another process.
UNREAD = "unread"


def outcome_after_death(delivery: Delivery, cause: str, how: str, hostname: str, follow: Follow) -> Outcome:
    """Say what becomes of a delivery whose process died; ``how`` tells the exit status in words."""
    request = _request(delivery, hostname, read=cause != UNREAD)
    task = request.definition
    if cause == STOPPED:
        return _given_back(request, delivery, counted=False)
    if cause == TERMINATED:
        error = TaskRevokedError("terminated")
        tell_revoked(request, terminated=True, signum=signal.SIGKILL)
        return revoked(request, error, followups=followups_of_unrun(request, states.REVOKED, error, follow))
    if cause == OVERDUE:
        limit = hard_limit_of(request) if task is not None else None
        logger.error("Task %s[%s] failed: its hard time limit of %ss has passed", request.message.task, request.message.id, limit)
        return _failed(request, TimeLimitExceeded(limit), follow)
    lost = WorkerLostError(f"Worker process died: {how}")
    if task is not None and not task.reject_on_worker_lost:
        return _failed(request, lost, follow)
    if delivery.deliveries < settings.TASK_MAX_DELIVERIES:
        logger.warning("Task %s[%s] goes back to its queue: its process died (%s)", request.message.task, request.message.id, how)
        return _given_back(request, delivery, counted=True)
    logger.error(
        "Task %s[%s] becomes a dead letter: its process died %d times (%s)",
        request.message.task,
        request.message.id,
        delivery.deliveries,
        how,
    )
    return _failed(request, lost, follow, Settlement(delivery, Disposition.DEAD, reason="worker lost"))


def outcome_of_redelivery(delivery: Delivery, death: Death, hostname: str, follow: Follow) -> Outcome | None:
    """Say what becomes of a delivery that came back by itself when a process died; None if it is to be run again.

    Its ``deliveries`` count this hand-out, which has not been run yet.
    """
    if death.cause in {OVERDUE, TERMINATED}:
        return outcome_after_death(delivery, death.cause, death.how, hostname, follow)
    if death.cause in {CRASHED, UNREAD}:
        before = replace(delivery, deliveries=max(1, delivery.deliveries - 1))
        outcome = outcome_after_death(before, death.cause, death.how, hostname, follow)
        given_back = outcome.settlement is not None and outcome.settlement.disposition is Disposition.REQUEUE
        return None if given_back else outcome
    return None


def awaited_part(message: TaskMessage) -> str:
    """Name the part of a chord that this task is or leads to, and its group; "" where no chord waits for it."""
    if message.embed.get("chord"):
        return f"{message.id} {message.group}"
    steps = message.embed.get("chain")
    try:
        return _last_part(steps[0]) if steps else ""
    except (AttributeError, LookupError, TypeError):
        # A stranger's signature; the chain will fail, and not the process that runs this step.
        return ""


def _last_part(last: Any) -> str:
    # The last step is the first in a message; a chord in its place ends with its body.
    while last is not None and last.get("subtask_type") == "chord":
        last = last["kwargs"].get("body")
    options = last.get("options") or {} if last is not None else {}
    return f"{options.get('task_id')} {options.get('group_id')}" if options.get("chord") else ""


def outcome_of_acknowledged(task_id: str, awaited: str, how: str, hostname: str, cause: str = CRASHED) -> Outcome:
    """Build the outcome of a task that was acknowledged before it ran, so that its id is left, and for which part a chord waits."""
    request = Request(message=TaskMessage(id=task_id, task=""), hostname=hostname)
    if cause == TERMINATED:
        tell_revoked(request, terminated=True, signum=signal.SIGKILL)
        outcome = revoked(request, TaskRevokedError("terminated"))
    else:
        lost = TimeLimitExceeded(None) if cause == OVERDUE else WorkerLostError(f"Worker process died: {how}")
        outcome = failure(request, lost, None)
    part_id, _, group_id = awaited.partition(" ")
    if not group_id:
        return outcome
    # The body is known to the backend.
    part = replace(meta_of(outcome, hostname), task_id=part_id, group_id=group_id, chord={})
    return replace(outcome, followups=Followups((), [part]))


def _request(delivery: Delivery, hostname: str, *, read: bool = True) -> Request:
    message = None
    if read:
        with suppress(SerializationError, InvalidTaskError):
            message = decode(delivery.envelope, accept=settings.ACCEPT_CONTENT)
    if message is None:
        headers: Mapping[str, Any] = delivery.envelope.headers
        message = TaskMessage(id=str(headers.get("id") or ""), task=str(headers.get("task") or ""), queue=delivery.queue)
    return Request(message=message, delivery=delivery, hostname=hostname, definition=registry.find(message.task))


def _given_back(request: Request, delivery: Delivery, *, counted: bool) -> Outcome:
    settlement = Settlement(delivery, Disposition.REQUEUE, counted=counted)
    return Outcome(request=request, state=states.RECEIVED, settlement=settlement, store=False)


def _handle(request: Request, error: Exception, info: ExceptionInfo) -> None:
    # The process that would have called the task's handler is gone.
    message, task = request.message, request.definition
    if task is None:
        return
    try:
        with running(request):
            task.on_failure(error, message.id, message.args, message.kwargs, info)
    except Exception:
        logger.exception("The handler %s.on_failure failed", message.task)


def _failed(request: Request, error: Exception, follow: Follow, settlement: Settlement | None = None) -> Outcome:
    followups = followups_of_unrun(request, states.FAILURE, error, follow)
    info = ExceptionInfo(error)
    _handle(request, error, info)
    tell_failure(request, error, info)
    outcome = failure(request, error, f"{type(error).__name__}: {error}\n", followups=followups)
    if not request.message.id:
        # Nobody can ask for its result.
        outcome = replace(outcome, store=False)
    return outcome if settlement is None else replace(outcome, settlement=settlement)
