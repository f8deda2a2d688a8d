"""Runs one task and says what happened, as data: never raises, writes nothing, opens no connection."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NoReturn

from django_tasks import signals, states, timelimits
from django_tasks.conf import settings
from django_tasks.context import Request, enter, leave
from django_tasks.exceptions import EncodeError, Ignore, Reject, Retry, SoftTimeLimitExceeded, TaskRevokedError
from django_tasks.messages import Disposition, Settlement, TaskMessage
from django_tasks.middleware import Middleware, compose
from django_tasks.outcomes import (
    NO_FOLLOWUPS,
    ExceptionInfo,
    Follow,
    Followups,
    Outcome,
    failure,
    ignores_result,
    revoked,
    soft_limit_of,
    tell_end,
    tell_failure,
    tell_internal_error,
    tell_revoked,
)
from django_tasks.reprs import cut_repr
from django_tasks.result_backends.encoding import encode_exception, encode_value

logger = logging.getLogger("django_tasks.task")

#: Most characters of an exception's repr in a log.
_LONGEST_ERROR: Final = 10_000

#: Ends of a run for which ``after_return`` is not called.
_NOT_RETURNED: Final = frozenset({states.RETRY, states.IGNORED, states.REJECTED})


class Replaced(Ignore):
    """Ends the run of a task that was replaced where nothing can be sent, in eager mode: ``value`` is what the others gave."""

    def __init__(self, value: Any) -> None:
        super().__init__("Replaced by new task")
        self.value = value


class TaskHooks:
    """The handlers of a task. Override them in a subclass of ``Task``; one that is not overridden costs nothing."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Run before the task, in its process; what it raises is the task's failure."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Run after the task has returned, before its result is stored; what it raises is logged and changes nothing."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Run after the task has failed for good."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Run when the task is to be tried again."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo | None) -> None:
        """Run last, when the task has succeeded or failed for good; ``retval`` is the exception where there was one."""


_HOOKS: Final = {name: vars(TaskHooks)[name] for name in ("before_start", "on_success", "on_failure", "on_retry", "after_return")}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a task is called."""

    task: Any
    call: Callable[..., Any]
    is_async: bool


def _hook(task: Any, name: str) -> Callable[..., None] | None:
    # Looked up at each run: a test may have put a mock into the task, its class or ``Task`` since the last one.
    if getattr(type(task), name, None) is _HOOKS[name] and name not in vars(task):
        return None
    hook: Callable[..., None] = getattr(task, name)
    return hook


def run_on(turn: Callable[[], Any]) -> Any:
    """Let an event loop go on after a coroutine has raised SystemExit or KeyboardInterrupt: that is its task's failure.

    asyncio hands both to whoever awaits the coroutine, and ends the loop besides.
    """
    while True:
        try:
            return turn()
        except (SystemExit, KeyboardInterrupt) as error:
            logger.warning("A coroutine raised %r; the others run on", error)


class LoopThread:
    """The one event loop on which a process runs its coroutines when its pool has none of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end and return the value; an exception in this thread (a soft limit) cancels the coroutine."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop, if it has been needed yet."""
        return self._loop

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=run_on, args=(self._loop.run_forever,), name="django_tasks-loop", daemon=True).start()
            return self._loop


loop_thread = LoopThread()


class Executor:
    """Records the start, applies limits and middleware, calls the function and classifies what came out.

    One serves a whole process, from any number of threads.
    """

    def __init__(self, *, follow: Follow, middleware: Sequence[Middleware] = (), log_tasks: bool = True) -> None:
        self._follow = follow
        #: Whether a task's start and success are lines of the log, where its level lets them through.
        self._log_tasks = log_tasks
        self._plans: dict[int, Plan] = {}
        #: What the main thread runs now, and may be interrupted in, where there is one task at a time.
        self.inside: Request | None = None
        #: Called when a task's function ends, in a process that it has forked; ends that process.
        self.leave_fork: Callable[[BaseException | None], NoReturn] | None = None
        self._call = compose(middleware, "execute", self._call_function) if middleware else self._call_function
        self._acall = compose(middleware, "aexecute", self._acall_function) if middleware else self._acall_function

    def plan(self, task: Any) -> Plan:
        """Return how the task is called now."""
        plan, call = self._plans.get(id(task)), task.call_target
        if plan is None or plan.call != call or plan.task is not task:
            plan = self._plans[id(task)] = Plan(task, call, bool(task.is_async))
        return plan

    def execute(self, request: Request) -> Outcome:
        """Run the task here and now; a coroutine runs on the process's event loop thread."""
        plan, started = self.plan(request.definition), time.perf_counter()
        request.time_start = time.time()
        token = enter(request)
        try:
            try:
                try:
                    self._begin(plan, request)
                    self.inside = request
                    value = loop_thread.run(self._limited(request)) if plan.is_async else self._call_limited(request)
                finally:
                    self.inside = None
            except BaseException as error:  # noqa: BLE001  whatever a task raises is its outcome
                return self._failed(plan, request, error, time.perf_counter() - started)
            return self._succeeded(plan, request, value, time.perf_counter() - started)
        finally:
            leave(token)

    async def aexecute(self, request: Request) -> Outcome:
        """Run an ``async def`` task on the running loop; its soft limit cancels what it awaits."""
        plan, started = self.plan(request.definition), time.perf_counter()
        request.time_start = time.time()
        token = enter(request)
        try:
            try:
                self._begin(plan, request)
                value = await self._limited(request)
            except BaseException as error:  # noqa: BLE001
                return self._failed(plan, request, error, time.perf_counter() - started)
            return self._succeeded(plan, request, value, time.perf_counter() - started)
        finally:
            leave(token)

    def _call_limited(self, request: Request) -> Any:
        soft = soft_limit_of(request)
        if soft is None:
            return self._call(request)
        with timelimits.soft_limit(soft):
            return self._call(request)

    async def _limited(self, request: Request) -> Any:
        soft = soft_limit_of(request)
        if soft is None:
            return await self._acall(request)
        limit = asyncio.timeout(soft)
        try:
            async with limit:
                return await self._acall(request)
        except TimeoutError as error:
            if limit.expired():
                raise SoftTimeLimitExceeded from error
            raise

    # ---- the function itself, innermost in the middleware

    def _call_function(self, request: Request) -> Any:
        message = request.message
        try:
            return self._plans[id(request.definition)].call(*message.args, **message.kwargs)
        except BaseException as error:
            if self.leave_fork is not None:
                self.leave_fork(error)
            raise
        finally:
            if self.leave_fork is not None:
                self.leave_fork(None)

    async def _acall_function(self, request: Request) -> Any:
        message = request.message
        try:
            return await self._plans[id(request.definition)].call(*message.args, **message.kwargs)
        except BaseException as error:
            if self.leave_fork is not None:
                self.leave_fork(error)
            raise
        finally:
            if self.leave_fork is not None:
                self.leave_fork(None)

    # ---- before and after

    def _begin(self, plan: Plan, request: Request) -> None:
        message = request.message
        if self._log_tasks and logger.isEnabledFor(logging.INFO):
            logger.info("Task %s[%s] started", _shown(message), message.id)
        if signals.task_prerun.receivers:
            signals.task_prerun.send(plan.task, task_id=message.id, task=plan.task, args=message.args, kwargs=message.kwargs)
        if (before_start := _hook(plan.task, "before_start")) is not None:
            before_start(message.id, message.args, message.kwargs)

    def _succeeded(self, plan: Plan, request: Request, value: Any, runtime: float) -> Outcome:
        message = request.message
        try:
            store = not ignores_result(request) or message.embed.get("chord") is not None
            text, content_type, content_encoding = encode_value(value, settings.RESULT_SERIALIZER) if store else (None, "", "")
            followups = self._followups(request, states.SUCCESS, value)
            if (on_success := _hook(plan.task, "on_success")) is not None:
                # Tests that run tasks eagerly want to see its errors; elsewhere the task has done its work.
                handler = on_success if request.is_eager else partial(_guarded, on_success)
                handler(value, message.id, message.args, message.kwargs)
        except Exception as error:  # noqa: BLE001  a result that can't be kept, a link that can't be built
            if isinstance(error, EncodeError):
                error.add_note(f"task {message.task}[{message.id}] returned {type(value).__name__}; its result can't be stored")
            return self._failed(plan, request, error, runtime)
        outcome = Outcome(
            request=request,
            state=states.SUCCESS,
            value=value,
            runtime=runtime,
            started_at=request.time_start,
            result=text,
            content_type=content_type,
            content_encoding=content_encoding,
            followups=followups,
            store=store,
        )
        if signals.task_success.receivers:
            signals.task_success.send(plan.task, result=value)
        if self._log_tasks and logger.isEnabledFor(logging.INFO):
            shown = saferepr(value, plan.task.resultrepr_maxsize)
            logger.info("Task %s[%s] succeeded in %.6fs: %s", _shown(message), message.id, runtime, shown)
        self._end(plan, outcome, None)
        return outcome

    def _failed(self, plan: Plan, request: Request, error: BaseException, runtime: float) -> Outcome:
        try:
            return self._classified(plan, request, error, runtime)
        except Exception as internal:
            # A malformed attribute, an exception that can't be shown: the task has ended nevertheless.
            message = request.message
            logger.exception("Task %s[%s] ended in %s, and handling that failed", _shown(message), message.id, type(error).__name__)
            info = ExceptionInfo(internal)
            tell_internal_error(request, internal, info)
            return failure(request, internal, info.traceback, runtime=runtime, followups=self._failure_followups(request, internal))

    def _classified(self, plan: Plan, request: Request, error: BaseException, runtime: float) -> Outcome:
        if isinstance(error, Retry) and error.task_message is not None:
            return self._retried(plan, request, error, runtime)
        if isinstance(error, Replaced):
            return self._succeeded(plan, request, error.value, runtime)
        if isinstance(error, Ignore | Reject):
            return self._withdrawn(plan, request, error, runtime)
        if request.terminated:
            return self._terminated(plan, request, runtime)
        # First what may be malformed: afterwards error callbacks have been called, and handlers told.
        throws = plan.task.throws
        expected = isinstance(error, throws if isinstance(throws, type) else tuple(throws or ()))
        info = ExceptionInfo(error)
        message = request.message
        outcome = failure(request, error, info.traceback, runtime=runtime, followups=self._failure_followups(request, error))
        if (on_failure := _hook(plan.task, "on_failure")) is not None:
            _guarded(on_failure, error, message.id, message.args, message.kwargs, info)
        tell_failure(request, error, info)
        logger.log(
            logging.INFO if expected else logging.ERROR,
            "Task %s[%s] raised %s: %s",
            _shown(message),
            message.id,
            "expected" if expected else "unexpected",
            saferepr(error, _LONGEST_ERROR),
            exc_info=None if expected else info.exc_info,
        )
        self._end(plan, outcome, info)
        return outcome

    def _retried(self, plan: Plan, request: Request, retry: Retry, runtime: float) -> Outcome:
        message, cause = request.message, retry.exc or retry
        info = ExceptionInfo(cause)
        text, content_type, content_encoding = encode_value(encode_exception(cause), settings.RESULT_SERIALIZER)
        outcome = Outcome(
            request=request,
            state=states.RETRY,
            value=cause,
            traceback=info.traceback,
            runtime=runtime,
            started_at=request.time_start,
            result=text,
            content_type=content_type,
            content_encoding=content_encoding,
            followups=Followups((*request.pending, retry.task_message), (), request.opening),
            store=not ignores_result(request),
        )
        if (on_retry := _hook(plan.task, "on_retry")) is not None:
            _guarded(on_retry, cause, message.id, message.args, message.kwargs, info)
        if signals.task_retry.receivers:
            signals.task_retry.send(plan.task, request=request, reason=retry, einfo=info)
        logger.info("Task %s[%s] retry: %s", _shown(message), message.id, retry)
        self._end(plan, outcome, info)
        return outcome

    def _withdrawn(self, plan: Plan, request: Request, error: Ignore | Reject, runtime: float) -> Outcome:
        if isinstance(error, Reject) and not error.requeue:
            return self._rejected(plan, request, error, runtime)
        settlement = None
        state = states.IGNORED
        if isinstance(error, Reject):
            state = states.REJECTED
            if request.delivery is not None:
                settlement = Settlement(request.delivery, Disposition.REQUEUE, reason=f"rejected: {error.reason}")
        outcome = Outcome(
            request=request,
            state=state,
            value=error,
            runtime=runtime,
            started_at=request.time_start,
            followups=self._of_the_withdrawn(request, state, error),
            settlement=settlement,
            store=False,
        )
        logger.info("Task %s[%s] %s: %s", _shown(request.message), request.message.id, state.lower(), error)
        self._end(plan, outcome, None)
        return outcome

    def _rejected(self, plan: Plan, request: Request, error: Reject, runtime: float) -> Outcome:
        # It will never run again, so who waits for it must learn of it: a failure, though not one that the task's handlers are for.
        info = ExceptionInfo(error)
        outcome = failure(request, error, info.traceback, runtime=runtime, followups=self._failure_followups(request, error))
        if request.delivery is not None:
            outcome = replace(outcome, settlement=Settlement(request.delivery, Disposition.DEAD, reason=f"rejected: {error.reason}"))
        tell_failure(request, error, info)
        logger.info("Task %s[%s] rejected: %s", _shown(request.message), request.message.id, error)
        tell_end(outcome, states.REJECTED)
        return outcome

    def _terminated(self, plan: Plan, request: Request, runtime: float) -> Outcome:
        error = TaskRevokedError("terminated")
        outcome = revoked(request, error, runtime=runtime, followups=self._failure_followups(request, error, states.REVOKED))
        tell_revoked(request, terminated=True, signum=request.terminated_by)
        logger.info("Task %s[%s] terminated", _shown(request.message), request.message.id)
        self._end(plan, outcome, None)
        return outcome

    def _end(self, plan: Plan, outcome: Outcome, info: ExceptionInfo | None) -> None:
        message = outcome.request.message
        # As in Celery: a task that will run again, or said that its outcome is not to be heeded, has not returned.
        if outcome.state not in _NOT_RETURNED and (after_return := _hook(plan.task, "after_return")) is not None:
            _guarded(after_return, outcome.state, outcome.value, message.id, message.args, message.kwargs, info)
        if signals.task_postrun.receivers:
            tell_end(outcome, outcome.state)

    def _followups(self, request: Request, state: str, value: Any) -> Followups:
        embed = request.message.embed
        if not embed or not (embed.get("callbacks") or embed.get("errbacks") or embed.get("chain")):
            return Followups(tuple(request.pending), (), request.opening) if request.pending else NO_FOLLOWUPS
        found = self._follow(request, state, value)
        if not request.pending:
            return found
        return Followups((*request.pending, *found.messages), found.metas, (*request.opening, *found.chords))

    def _of_the_withdrawn(self, request: Request, state: str, error: Ignore | Reject) -> Followups:
        if request.pending or state == states.REJECTED or not request.message.embed:
            # Others run in its place, or it runs again.
            return Followups(tuple(request.pending), (), request.opening)
        return self._follow(request, state, error)

    def _failure_followups(self, request: Request, error: BaseException, state: str = states.FAILURE) -> Followups:
        try:
            return self._followups(request, state, error)
        except Exception:
            logger.exception("Task %s[%s] failed, and so did its error callbacks", request.message.task, request.message.id)
            return NO_FOLLOWUPS


def _shown(message: TaskMessage) -> str:
    return message.shadow or message.task


def saferepr(value: Any, length: int) -> str:
    """Return a value's repr, cut to ``length`` characters; what a failing ``__repr__`` raised instead."""
    return cut_repr(value, length, limits_pass=False)


def _guarded(handler: Callable[..., None], *arguments: Any) -> None:
    try:  # A handler that fails must not change an outcome that is decided already. A limit around an eager run is not the handler's.
        handler(*arguments)
    except Exception as error:
        timelimits.let_pass(error)
        logger.exception("The handler %s failed", getattr(handler, "__qualname__", handler))
