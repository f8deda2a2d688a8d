"""What became of a run, as data: outcomes, and how those of tasks that could not be run to their end are built."""

import logging
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeAlias

from django_tasks import signals, states
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.exceptions import TaskRevokedError, TimeLimitExceeded
from django_tasks.messages import Disposition, Settlement, TaskMessage
from django_tasks.records import quick
from django_tasks.result_backends.backend import NewChord, ResultMeta
from django_tasks.result_backends.encoding import encode_exception, encode_value

logger = logging.getLogger("django_tasks.worker")

_PACKAGE: Final = str(Path(__file__).parent) + os.sep


@dataclass(frozen=True, slots=True)
class Followups:
    """What an outcome sets off: messages to send, results to store for tasks that will never run, and chords to open before that."""

    messages: Sequence[TaskMessage] = ()
    metas: Sequence[ResultMeta] = ()
    chords: Sequence[NewChord] = ()


NO_FOLLOWUPS: Final = Followups()

#: ``follow(request, state, value)`` says what an outcome sets off; the canvas knows.
Follow: TypeAlias = Callable[[Request, str, Any], Followups]


def followups_of_unrun(request: Request, state: str, error: BaseException, follow: Follow | None) -> Followups:
    """Return what follows a task that could not be run to its end: who waits for the end of its chain must not wait for ever.

    An error in there is logged: the task's own end is stored in any case. ``follow`` None is for no callbacks at all.
    """
    if follow is None or not request.message.embed:
        return NO_FOLLOWUPS
    try:
        return follow(request, state, error)
    except Exception:
        logger.exception("The error callbacks of %s[%s] failed", request.message.task, request.message.id)
        return NO_FOLLOWUPS


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one run.

    ``value`` is the return value, or the exception of FAILURE, RETRY and REVOKED. ``result`` is that value
    encoded for the result backend, with ``content_type`` and ``content_encoding``. ``followups`` leave with the
    outcome: callbacks, the next step of a chain, a retry. ``settlement`` is None for the usual: acknowledge.
    ``runtime`` is in seconds, ``started_at`` seconds since 1970.
    """

    request: Request
    state: str
    value: Any = None
    traceback: str | None = None
    runtime: float = 0.0
    started_at: float | None = None
    result: str | None = None
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    followups: Followups = NO_FOLLOWUPS
    settlement: Settlement | None = None
    store: bool = True


class ExceptionInfo:
    """An exception as handlers and signals receive it: ``exception``, ``type``, ``traceback`` (text), ``tb``."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        self.type = type(exception)
        self.tb: TracebackType | None = exception.__traceback__
        self.traceback = format_traceback(exception)
        self.internal = False

    @property
    def exc_info(self) -> tuple[type[BaseException], BaseException, TracebackType | None]:
        """The triple that ``logging`` takes."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {self.exception!r}>"


def format_traceback(exception: BaseException) -> str:
    """Return the traceback as text, from the first frame that is the project's own."""
    tb = exception.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(exception), exception, tb))


def failure(
    request: Request, error: BaseException, text: str | None, *, runtime: float = 0.0, followups: Followups = NO_FOLLOWUPS
) -> Outcome:
    """Build the outcome FAILURE, also for tasks that never ran or whose process died."""
    result, content_type, content_encoding = encode_value(encode_exception(error), settings.RESULT_SERIALIZER)
    task = request.definition
    settlement = None
    if task is not None and request.delivery is not None and not _acknowledged_on(task, error):
        settlement = Settlement(request.delivery, Disposition.DEAD, reason="failed")
    errors_kept = settings.TASK_STORE_ERRORS_EVEN_IF_IGNORED if task is None else task.store_errors_even_if_ignored
    return Outcome(
        request=request,
        state=states.FAILURE,
        value=error,
        traceback=text,
        runtime=runtime,
        started_at=request.time_start,
        result=result,
        content_type=content_type,
        content_encoding=content_encoding,
        followups=followups,
        settlement=settlement,
        store=errors_kept or not ignores_result(request) or request.message.embed.get("chord") is not None,
    )


def _acknowledged_on(task: Any, error: BaseException) -> bool:
    return bool(task.acks_on_timeout if isinstance(error, TimeLimitExceeded) else task.acks_on_failure)


def revoked(request: Request, error: TaskRevokedError, *, runtime: float = 0.0, followups: Followups = NO_FOLLOWUPS) -> Outcome:
    """Build the outcome REVOKED: the task expired, was revoked before it ran, or was terminated."""
    result, content_type, content_encoding = encode_value(encode_exception(error), settings.RESULT_SERIALIZER)
    return Outcome(
        request=request,
        state=states.REVOKED,
        value=error,
        runtime=runtime,
        started_at=request.time_start,
        result=result,
        content_type=content_type,
        content_encoding=content_encoding,
        followups=followups,
        store=not ignores_result(request) or request.message.embed.get("chord") is not None,
    )


def tell_failure(request: Request, error: BaseException, info: ExceptionInfo) -> None:
    """Send task_failure."""
    if signals.task_failure.receivers:
        _tell(signals.task_failure, request, exception=error, traceback=info.tb, einfo=info)


def tell_revoked(request: Request, *, terminated: bool = False, signum: int | None = None, expired: bool = False) -> None:
    """Send task_revoked: a task was kept from running, or stopped (``terminated``, by that signal if its process was killed)."""
    if signals.task_revoked.receivers:
        signals.task_revoked.send(request.definition, request=request, terminated=terminated, signum=signum, expired=expired)


def tell_internal_error(request: Request, error: BaseException, info: ExceptionInfo) -> None:
    """Send task_internal_error: not the task's function failed, but what was to be done with its outcome."""
    if signals.task_internal_error.receivers:
        _tell(signals.task_internal_error, request, request=request, exception=error, traceback=info.tb, einfo=info)


def tell_end(outcome: Outcome, state: str) -> None:
    """Send task_postrun."""
    if signals.task_postrun.receivers:
        request = outcome.request
        _tell(signals.task_postrun, request, task=request.definition, retval=outcome.value, state=state)


def _tell(signal: signals.TaskSignal, request: Request, /, **more: Any) -> None:
    message = request.message
    signal.send(request.definition, task_id=message.id, args=message.args, kwargs=message.kwargs, **more)


def ignores_result(request: Request) -> bool:
    """Whether the caller wants no result kept; the task, where the caller does not say; else the settings."""
    asked = request.message.ignore_result
    if asked is None:
        asked = settings.TASK_IGNORE_RESULT if request.definition is None else request.definition.ignore_result
    return bool(asked)


def soft_limit_of(request: Request) -> float | None:
    """Seconds after which SoftTimeLimitExceeded is raised: the message's, else the task's; None without one."""
    own = request.message.soft_time_limit
    limit = own if own is not None else request.definition.soft_time_limit
    return limit or None


def hard_limit_of(request: Request) -> float | None:
    """Seconds after which the task's process is killed: the message's, else the task's; None without one."""
    own = request.message.time_limit
    limit = own if own is not None else request.definition.time_limit
    return limit or None
