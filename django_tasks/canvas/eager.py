"""Running tasks in the caller's process, at once, with everything that follows them."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import lru_cache
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connections

from django_tasks import client, result_backends
from django_tasks.canvas.dispatch import at_once
from django_tasks.canvas.failures import call_errbacks
from django_tasks.canvas.signatures import maybe_signature
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.exceptions import EncodeError, Retry
from django_tasks.executor import Executor
from django_tasks.messages import TaskMessage
from django_tasks.middleware import Middleware
from django_tasks.outcomes import NO_FOLLOWUPS, Followups, Outcome
from django_tasks.registry import registry
from django_tasks.result import EagerResult
from django_tasks.resultmetas import meta_of
from django_tasks.serializers import dumps, loads
from django_tasks.states import EXCEPTION_STATES, FAILURE, RETRY, SUCCESS


def run_eagerly(task: Any, message: TaskMessage, *, throw: bool, **known: Any) -> EagerResult[Any]:
    """Run a task here: retries follow at once, links and chains run, too. With ``throw`` its exception is raised.

    ``known`` are further attributes of its requests.
    """
    outcome = _run(task, message, **known)
    while (message_of_next := _next_try(outcome)) is not None:
        outcome = _run(task, message_of_next, **known)
    if throw and outcome.state in EXCEPTION_STATES and isinstance(outcome.value, BaseException):
        raise outcome.value
    result: EagerResult[Any] = EagerResult(message.id, outcome.value, outcome.state, traceback=outcome.traceback, name=task.name)
    result.root_id = message.root_id
    return result


def _next_try(outcome: Outcome) -> TaskMessage | None:
    if outcome.state == RETRY:
        return outcome.followups.messages[-1]
    # ``return self.retry(throw=False)``: what the caller wants is what comes of it.
    return outcome.value.task_message if isinstance(outcome.value, Retry) else None


def travelled(task: Any, args: Any, kwargs: Any, serializer: str | None) -> tuple[Any, Any]:
    """Return the arguments as a worker would receive them; EncodeError for what a message can't carry."""
    try:
        payload = dumps((args, kwargs), serializer or settings.TASK_SERIALIZER)
    except EncodeError as error:
        raise EncodeError(f"{task.name}: its arguments can't be serialized: {error}") from error
    args, kwargs = loads(payload.body, payload.content_type, payload.content_encoding, accept=settings.ACCEPT_CONTENT)
    return args, kwargs


def _run(task: Any, message: TaskMessage, **known: Any) -> Outcome:
    if not task.store_eager_result:
        # What is not stored need not be something that can be: tests look at the very object that a task returned.
        message = replace(message, ignore_result=True)
    request = Request(message=message, is_eager=True, definition=task, hostname=socket.gethostname())
    request.update(known)
    with at_once():
        outcome = _execute(_executor(client.middleware()), request)
    if task.store_eager_result and outcome.store and outcome.state != RETRY:
        result_backends.current().store([meta_of(outcome, request.hostname)])
    following = _next_try(outcome)
    for pending in request.pending:
        if pending is not following:
            _run(registry[pending.task], pending)
    return outcome


def _execute(executor: Executor, request: Request) -> Outcome:
    if not executor.plan(request.definition).is_async:
        return executor.execute(request)
    if _is_on_a_loop():
        # Called by a coroutine that waits meanwhile, and its loop with it.
        with ThreadPoolExecutor(1, "django_tasks-eager") as thread:
            return thread.submit(copy_context().run, _execute_apart, executor, request).result()
    # On a loop around this thread, so that a coroutine's queries are made here, in the caller's transaction.
    return async_to_sync(executor.aexecute)(request)


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _execute_apart(executor: Executor, request: Request) -> Outcome:
    try:
        return async_to_sync(executor.aexecute)(request)
    finally:
        connections.close_all()


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
