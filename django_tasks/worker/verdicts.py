"""What becomes of deliveries that may not run: verdicts of admission turned into outcomes."""

import logging
import traceback
from dataclasses import replace
from typing import Any

from django_tasks import signals, states
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.exceptions import TaskRevokedError
from django_tasks.messages import UNKNOWN_SINCE, Disposition, Settlement, TaskMessage
from django_tasks.outcomes import Follow, Outcome, failure, followups_of_unrun, revoked, tell_revoked
from django_tasks.worker.admission import Answer, Verdict
from django_tasks.worker.forwarding import again

logger = logging.getLogger("django_tasks.worker")


def outcome_of(verdict: Verdict, hostname: str, follow: Follow | None = None) -> Outcome:
    """Turn a verdict into an outcome, say so in the log, and tell who listens. ``follow`` says what failures set off."""
    request = verdict.request
    if request is None:
        return _unreadable(verdict, hostname)
    if verdict.until is not None:
        return _later(verdict, request)
    if verdict.answer in {Answer.EXPIRED, Answer.REVOKED}:
        return _revoked(verdict.answer, request, follow)
    return _dead(verdict, request, follow)


def outcome_of_revoked(request: Request, follow: Follow | None = None) -> Outcome:
    """Say the same of a task that was admitted, and waits still."""
    return _revoked(Answer.REVOKED, request, follow)


def _later(verdict: Verdict, request: Request) -> Outcome:
    settlement = Settlement(verdict.delivery, Disposition.DELAY, until=verdict.until, reason=verdict.answer.value, counted=False)
    if verdict.since is not None:
        # Once for each message, not at each look at it.
        logger.warning(
            "Task %s[%s] is unknown here; it waits for a worker that knows it, up to UNKNOWN_TASK_GRACE (%gs)",
            request.message.task,
            request.message.id,
            settings.UNKNOWN_TASK_GRACE,
        )
        marked = again(verdict.delivery, verdict.until, headers={UNKNOWN_SINCE: verdict.since.isoformat()})
        settlement = replace(settlement, instead=marked)
    return Outcome(request=request, state=states.RECEIVED, settlement=settlement, store=False)


def _revoked(answer: Answer, request: Request, follow: Follow | None) -> Outcome:
    expired = answer is Answer.EXPIRED
    logger.info("Discarding %s task %s[%s]", answer.value, request.message.task, request.message.id)
    tell_revoked(request, expired=expired)
    error = TaskRevokedError(answer.value)
    return revoked(request, error, followups=followups_of_unrun(request, states.REVOKED, error, follow))


def _dead(verdict: Verdict, request: Request, follow: Follow | None) -> Outcome:
    error = verdict.error or RuntimeError(verdict.answer.value)
    logger.error(
        "Task %s[%s] becomes a dead letter (%s): %s. It can be replayed from the admin or with `manage.py tasks dead replay`.",
        request.message.task,
        request.message.id,
        verdict.answer.value,
        error,
    )
    if verdict.answer is Answer.UNKNOWN:
        signals.task_unknown.send(None, name=request.message.task, id=request.message.id, message=verdict.delivery, exc=error)
    followups = followups_of_unrun(request, states.FAILURE, error, follow)
    lost = failure(request, error, "".join(traceback.format_exception_only(error)), followups=followups)
    return replace(lost, settlement=Settlement(verdict.delivery, Disposition.DEAD, reason=verdict.answer.value))


def _unreadable(verdict: Verdict, hostname: str) -> Outcome:
    headers = verdict.delivery.envelope.headers
    name, task_id, group = str(headers.get("task") or ""), str(headers.get("id") or ""), headers.get("group")
    logger.error(
        "A message of queue %r (task %r, id %r) can't be read and becomes a dead letter: %s",
        verdict.delivery.queue,
        name,
        task_id,
        verdict.error,
    )
    signals.task_rejected.send(hostname, message=verdict.delivery, exc=verdict.error)
    request = Request(
        message=TaskMessage(id=task_id, task=name, queue=verdict.delivery.queue, group=group if _has_bytes(group) else None),
        delivery=verdict.delivery,
        hostname=hostname,
    )
    error = verdict.error or RuntimeError(verdict.answer.value)
    settlement = Settlement(verdict.delivery, Disposition.DEAD, reason=verdict.answer.value)
    # Without an id that can be written nobody can ask for the result.
    return replace(failure(request, error, None), settlement=settlement, store=bool(task_id) and _has_bytes(task_id))


def _has_bytes(text: Any) -> bool:
    try:
        return isinstance(text, str) and text.encode() is not None
    except UnicodeEncodeError:
        return False
