"""What a failure sets off: error callbacks, and the failure of everything that was to come after it."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from django_tasks.canvas.dispatch import all_or_nothing, at_once
from django_tasks.canvas.groups import group
from django_tasks.canvas.parameters import told_signature
from django_tasks.canvas.signatures import Signature, maybe_signature
from django_tasks.clock import now
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.executor import loop_thread
from django_tasks.messages import TaskMessage
from django_tasks.outcomes import format_traceback
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.encoding import encode_exception, encode_value
from django_tasks.states import FAILURE

logger = logging.getLogger("django_tasks.canvas")

_LOST: Final = "The error callback %s of task %s can't be sent, and is lost"


class Failure:
    """An exception as results keep it, encoded once for all tasks that share it."""

    def __init__(self, error: BaseException, state: str = FAILURE) -> None:
        self.error = error
        self.state = state

    @cached_property
    def encoded(self) -> tuple[str, str, str]:
        """Text, content type and content encoding."""
        return encode_value(encode_exception(self.error), settings.RESULT_SERIALIZER)

    @cached_property
    def traceback(self) -> str:
        """The traceback as text."""
        return format_traceback(self.error)

    def meta(self, sig: Mapping[str, Any], root_id: str | None = None, parent_id: str | None = None) -> ResultMeta:
        """Return the result of a call that will never be made; its root and parent where the call doesn't know them itself."""
        options = sig.get("options") or {}
        text, content_type, content_encoding = self.encoded
        return ResultMeta(
            task_id=options["task_id"],
            status=self.state,
            result=text,
            content_type=content_type,
            content_encoding=content_encoding,
            traceback=self.traceback,
            children=(),
            date_done=now(),
            name=sig["task"],
            group_id=options.get("group_id"),
            group_index=options.get("group_index"),
            root_id=options.get("root_id") or root_id,
            parent_id=options.get("parent_id") or parent_id,
            chord=options.get("chord"),
        )


def failed_metas(
    sigs: Sequence[Mapping[str, Any]], failure: Failure, *, root_id: str | None = None, parent_id: str | None = None
) -> list[ResultMeta]:
    """Return the results of calls that will never be made; those that are parts of a chord count as its parts.

    ``sigs`` are what is left of a chain, the next step last, as messages carry it. What came before is ``parent_id``.
    """
    metas: list[ResultMeta] = []
    for step in reversed(sigs):
        found = [failure.meta(sig, root_id, parent_id) for sig in _waited_for([step]) if (sig.get("options") or {}).get("task_id")]
        parent_id = found[-1].task_id if found else parent_id
        metas += found
    return metas


def _waited_for(sigs: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the calls by whose ids somebody may wait: a chord is waited for by its body, a group by its members."""
    for sig in sigs:
        kind, kwargs = sig.get("subtask_type"), sig.get("kwargs") or {}
        if kind == "chord":
            yield from _waited_for([kwargs["body"]] if kwargs.get("body") else [])
        elif kind in {"group", "chain"}:
            yield from _waited_for(kwargs.get("tasks") or [])
        else:
            yield sig


def call_errbacks(
    errbacks: Sequence[Any],
    task_id: str | None,
    root_id: str | None,
    error: BaseException,
    *,
    task: str = "",
    request: Request | None = None,
) -> list[Any]:
    """Call the error callbacks that take ``(request, exc, traceback)`` here, and send the others with the task's id.

    One that can't be called or sent is logged and lost: the others are, and what fails with the task has failed.
    Returns the results of what was sent.
    """
    to_send: list[Signature[Any]] = []
    for wire in errbacks:
        try:
            errback = maybe_signature(wire)
            called = takes_failure(errback)
        except Exception:
            logger.exception(_LOST, wire.get("task"), task_id)
            continue
        if not called:
            to_send.append(errback)
            continue
        if request is None:
            request = Request(message=TaskMessage(id=task_id or "", task=task, root_id=root_id))
        _call(errback, request, error)
    if request is not None and request.is_eager:
        # They run here, so one by one: what has run can't be taken back because of another.
        return [result for errback in to_send for result in _send([errback], task_id, root_id, is_eager=True)]
    return _send(to_send, task_id, root_id) if to_send else []


def _send(errbacks: Sequence[Signature[Any]], task_id: str | None, root_id: str | None, *, is_eager: bool = False) -> list[Any]:
    try:
        calls = group(errbacks)
        with all_or_nothing():
            return [(calls.apply if is_eager else calls.apply_async)((task_id,), parent_id=task_id, root_id=root_id or task_id)]
    except Exception:
        if len(errbacks) == 1:
            logger.exception(_LOST, errbacks[0].task, task_id)
            return []
    return [result for errback in errbacks for result in _send([errback], task_id, root_id)]


def _call(errback: Signature[Any], request: Request, error: BaseException) -> None:
    # As in Celery the traceback is text, to be written down; what never ran has none.
    traceback = None if error.__traceback__ is None else format_traceback(error)
    try:
        with at_once():
            returned = errback(request, error, traceback)
            if inspect.iscoroutine(returned):
                loop_thread.run(returned)
    except Exception:
        logger.exception("The error callback %s of task %s failed", errback.task, request.message.id)


def takes_failure(errback: Signature[Any]) -> bool:
    """Whether the error callback's function takes more than one argument from its caller.

    Tasks that this process doesn't know, and those with ``bind=True`` (they may want to retry), are sent instead.
    """
    task = errback.find_task()
    if task is None or not getattr(task, "is_plain_function", False):
        return False
    try:
        parameters = told_signature(task.run).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return True
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not errback.immutable:
        # Stored arguments come last, so they fill the last places; named ones fill theirs.
        positional = [name for name in positional if name not in errback.kwargs]
        return len(positional) - len(errback.args) > 1
    return len(positional) > 1
