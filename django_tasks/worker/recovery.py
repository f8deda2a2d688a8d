"""After a child has died: what becomes of the tasks that it was running."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django_tasks import states
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.exceptions import InvalidTaskError, SerializationError, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from django_tasks.executor import Follow
from django_tasks.messages import Death, Delivery, Disposition, Settlement, TaskMessage
from django_tasks.outcomes import ExceptionInfo, Followups, Outcome, failure, hard_limit_of, revoked
from django_tasks.protocol import decode
from django_tasks.registry import registry
from django_tasks.signals import task_failure

logger = logging.getLogger("django_tasks.worker")

#: Why a task's process ended: it crashed, passed the hard limit, was told to, or the worker was stopped cold.
CRASHED, OVERDUE, TERMINATED, STOPPED = "crashed", "overdue", "terminated", "stopped"


def outcome_after_death(delivery: Delivery, cause: str, how: str, hostname: str, follow: Follow) -> Outcome:
    """Say what becomes of a delivery whose process died; ``how`` tells the exit status in words."""
    request = _request(delivery, hostname)
    task = request.task
    if cause == STOPPED:
        return _given_back(request, delivery, counted=False)
    if cause == TERMINATED:
        return revoked(request, TaskRevokedError("terminated"))
    if cause == OVERDUE:
        return _failed(request, TimeLimitExceeded(hard_limit_of(request) if task is not None else None), follow)
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
    if death.cause == CRASHED:
        before = replace(delivery, deliveries=max(1, delivery.deliveries - 1))
        outcome = outcome_after_death(before, CRASHED, death.how, hostname, follow)
        given_back = outcome.settlement is not None and outcome.settlement.disposition is Disposition.REQUEUE
        return None if given_back else outcome
    return None


def outcome_of_acknowledged(task_id: str, how: str, hostname: str) -> Outcome:
    """Build the failure of a task that was acknowledged before it ran, so that nothing but its id is left."""
    request = Request(message=TaskMessage(id=task_id, task=""), hostname=hostname)
    return failure(request, WorkerLostError(f"Worker process died: {how}"), None)


def _request(delivery: Delivery, hostname: str) -> Request:
    try:
        message = decode(delivery.envelope, accept=settings.ACCEPT_CONTENT)
    except (SerializationError, InvalidTaskError):
        headers: Mapping[str, Any] = delivery.envelope.headers
        message = TaskMessage(id=str(headers.get("id") or ""), task=str(headers.get("task") or ""), queue=delivery.queue)
    return Request(message=message, delivery=delivery, hostname=hostname, task=registry.find(message.task))


def _given_back(request: Request, delivery: Delivery, *, counted: bool) -> Outcome:
    settlement = Settlement(delivery, Disposition.REQUEUE, counted=counted)
    return Outcome(request=request, state=states.RECEIVED, settlement=settlement, store=False)


def _failed(request: Request, error: Exception, follow: Follow, settlement: Settlement | None = None) -> Outcome:
    followups = Followups()
    if request.message.embed:
        try:
            followups = follow(request, states.FAILURE, error)
        except Exception:
            logger.exception("The error callbacks of %s[%s] failed", request.message.task, request.message.id)
    if task_failure.receivers:
        message = request.message
        task_failure.send(
            request.task,
            task_id=message.id,
            exception=error,
            args=message.args,
            kwargs=message.kwargs,
            traceback=None,
            einfo=ExceptionInfo(error),
        )
    outcome = failure(request, error, f"{type(error).__name__}: {error}\n", followups=followups)
    return outcome if settlement is None else replace(outcome, settlement=settlement)
