"""Running tasks in the caller's process, at once, with everything that follows them."""

import socket
from dataclasses import replace
from functools import lru_cache
from typing import Any

from django_tasks import client, result_backends
from django_tasks.canvas.dispatch import at_once
from django_tasks.canvas.failures import call_errbacks
from django_tasks.canvas.signatures import maybe_signature
from django_tasks.clock import now
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.exceptions import EncodeError
from django_tasks.executor import Executor
from django_tasks.messages import TaskMessage
from django_tasks.middleware import Middleware
from django_tasks.outcomes import NO_FOLLOWUPS, Followups, Outcome
from django_tasks.registry import registry
from django_tasks.result import EagerResult
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.serializers import dumps, loads
from django_tasks.states import EXCEPTION_STATES, FAILURE, RETRY, SUCCESS


def run_eagerly(task: Any, message: TaskMessage, *, throw: bool) -> EagerResult[Any]:
    """Run a task here: retries follow at once, links and chains run, too. With ``throw`` its exception is raised."""
    outcome = _run(task, message)
    while outcome.state == RETRY:
        message = outcome.followups.messages[-1]
        outcome = _run(task, message)
    if throw and outcome.state in EXCEPTION_STATES and isinstance(outcome.value, BaseException):
        raise outcome.value
    return EagerResult(message.id, outcome.value, outcome.state, traceback=outcome.traceback, name=task.name)


def travelled(task: Any, args: Any, kwargs: Any, serializer: str | None) -> tuple[Any, Any]:
    """Return the arguments as a worker would receive them; EncodeError for what a message can't carry."""
    try:
        payload = dumps((args, kwargs), serializer or settings.TASK_SERIALIZER)
    except EncodeError as error:
        raise EncodeError(f"{task.name}: its arguments can't be serialized: {error}") from error
    args, kwargs = loads(payload.body, payload.content_type, payload.content_encoding, accept=None)
    return args, kwargs


def _run(task: Any, message: TaskMessage) -> Outcome:
    if not task.store_eager_result:
        # What is not stored need not be something that can be: tests look at the very object that a task returned.
        message = replace(message, ignore_result=True)
    request = Request(message=message, is_eager=True, task=task, hostname=socket.gethostname())
    with at_once():
        outcome = _executor(client.middleware()).execute(request)
    if task.store_eager_result and outcome.store and outcome.state != RETRY:
        result_backends.current().store([_meta(outcome)])
    for pending in request.pending:
        _run(registry[pending.task], pending)
    return outcome


@lru_cache(maxsize=1)
def _executor(middleware: tuple[Middleware, ...]) -> Executor:
    return Executor(follow=_follow, middleware=middleware)


def _follow(request: Request, state: str, value: Any) -> Followups:
    embed, message = request.message.embed, request.message
    if state == SUCCESS:
        for callback in embed.get("callbacks") or ():
            maybe_signature(callback).apply((value,))
        steps = embed.get("chain")
        if steps:
            maybe_signature(steps[-1]).apply((value,), chain=list(steps[:-1]) or None)
    elif state == FAILURE and embed.get("errbacks"):
        call_errbacks(embed["errbacks"], message.id, message.root_id, value, task=message.task, request=request)
    return NO_FOLLOWUPS


def _meta(outcome: Outcome) -> ResultMeta:
    message = outcome.request.message
    return ResultMeta(
        task_id=message.id,
        status=outcome.state,
        result=outcome.result,
        content_type=outcome.content_type,
        content_encoding=outcome.content_encoding,
        traceback=outcome.traceback,
        children=list(outcome.request.children),
        date_done=now(),
        name=message.task,
        worker=outcome.request.hostname,
        retries=message.retries,
        runtime=outcome.runtime,
        group_id=message.group,
        group_index=message.group_index,
        root_id=message.root_id,
        parent_id=message.parent_id,
    )
