"""Trying again: the message of the next try, and ``autoretry_for``."""

import inspect
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import wraps
from typing import Any, Final, NoReturn

from django_tasks.canvas.calls import amend_message, eta_of
from django_tasks.canvas.optionvalues import refuse_values
from django_tasks.canvas.parameters import own_signature, told_signature
from django_tasks.context import Request
from django_tasks.exceptions import Ignore, Reject, Retry
from django_tasks.messages import HIDDEN, TaskMessage

_DEATHS: Final = ("x-death", "x-first-death-", "x-last-death-")

#: The exception with which ``retry()`` has just given up: it is final, whatever ``autoretry_for`` says.
_given_up: ContextVar[BaseException | None] = ContextVar("django_tasks_given_up", default=None)


def give_up(error: BaseException) -> NoReturn:
    """Raise an exception that ``autoretry_for`` lets pass; one that is being handled already is its cause."""
    _given_up.set(error)
    raise_over_current(error)


def raise_over_current(error: BaseException) -> NoReturn:
    """Raise an exception, caused by the one that is being handled if there is one."""
    current = sys.exc_info()[1]
    if current is None or current is error:
        raise error
    raise error from current


def retried_error(name: str, error: Any) -> BaseException | None:
    """Return what ``retry(exc=...)`` was given as an exception; TypeError for what is none."""
    if isinstance(error, type) and issubclass(error, BaseException):
        return error()
    if error is None or isinstance(error, BaseException):
        return error
    if isinstance(error, str):
        # Celery takes a reason, too.
        return Exception(error)
    raise TypeError(f"{name}: retry() takes exc as an exception, as the one that was caught, not {error!r:.200}; nothing was sent")


def fit_max_retries(name: str, limit: Any) -> float:
    """Return how often a run may be retried; TypeError for what is no number."""
    if isinstance(limit, int | float) and not isinstance(limit, bool) and not math.isnan(limit):
        return limit
    raise TypeError(f"{name}: retry() takes max_retries as a number, math.inf for no end, not {limit!r:.200}; nothing was sent")


def next_message(
    request: Request,
    run: Callable[..., Any],
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    *,
    when: tuple[Any, Any],
    options: Mapping[str, Any],
) -> TaskMessage:
    """Return the message of a request's next try: everything stays but what is given. ``when`` is countdown and eta."""
    message = request.message
    if not isinstance(args, list | tuple | None) or not isinstance(kwargs, Mapping | None):
        raise TypeError(f"{message.task}: retry() takes args as a list or tuple and kwargs as a mapping, not {args!r} and {kwargs!r}")
    refuse_values(message.task, {"countdown": when[0], "eta": when[1]})
    fields: dict[str, Any] = {}
    if args is not None or kwargs is not None:
        fields["args"], fields["kwargs"] = _arguments(run, message, args, kwargs)
        if not message.headers.get(HIDDEN):
            fields["argsrepr"] = fields["kwargsrepr"] = None
    made = amend_message(message, options, eta=eta_of(*when), retries=message.retries + 1, **fields)
    # Also where the call gives headers, which are added to those that came.
    headers = without_deaths(made.headers)
    return made if headers is made.headers else replace(made, headers=headers)


def without_deaths(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out what RabbitMQ notes of a message's dead-lettering: sent anew, it would take the message for one that goes in circles."""
    if not any(name.startswith(_DEATHS) for name in headers):
        return headers
    return {name: value for name, value in headers.items() if not name.startswith(_DEATHS)}


def _arguments(
    run: Callable[..., Any], message: TaskMessage, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Lay new arguments over the old ones; one that is now given by position is not given by name, too, and vice versa."""
    if args is not None and kwargs is not None:
        return args, kwargs
    try:
        signature = told_signature(run)
        parameters = signature.parameters
        named = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if args is not None:
            taken = {name for name in named[: len(args)] if parameters[name].kind is not inspect.Parameter.POSITIONAL_ONLY}
            return args, {name: value for name, value in message.kwargs.items() if name not in taken}
        bound, more = signature.bind_partial(*message.args), dict(kwargs or {})
        for name in list(more):
            if name in bound.arguments and parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                bound.arguments[name] = more.pop(name)
    except (TypeError, ValueError):
        # Whatever doesn't fit the function is the next run's error, as with any wrong call.
        return (message.args if args is None else args), (message.kwargs if kwargs is None else kwargs)
    return bound.args, {**bound.kwargs, **more}


def backoff(factor: int, retries: int, maximum: float, *, jitter: bool) -> float:
    """Return the seconds before the next try: factor times 2 to the number of retries so far, at most ``maximum``.

    With jitter a random whole number up to that, so that tasks that failed together don't come back together.
    """
    # The exponent is bounded before the power is taken: a task may retry for ever.
    seconds = min(maximum, factor * 2 ** min(retries, 63))
    return random.randrange(int(seconds) + 1) if jitter else max(0, seconds)


def with_autoretry(task: Any, run: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """Wrap a task's function so that the exceptions of ``autoretry_for`` become retries."""
    retried, spared = tuple(task.autoretry_for or ()), tuple(task.dont_autoretry_for or ())
    if not retried:
        return run

    def next_try(error: BaseException) -> BaseException:
        if isinstance(error, (Ignore, Reject, Retry, *spared)) or _given_up.get() is error:
            raise error
        options = dict(task.retry_kwargs or {})
        if task.retry_backoff:
            factor = int(max(1.0, float(task.retry_backoff)))
            options["countdown"] = backoff(factor, task.request.retries, task.retry_backoff_max, jitter=task.retry_jitter)
        outcome: BaseException = task.retry(exc=error, **options)
        return outcome

    if is_async:

        @wraps(run)
        async def arun(*args: Any, **kwargs: Any) -> Any:
            token = _given_up.set(None)
            try:
                return await run(*args, **kwargs)
            except retried as error:
                raise next_try(error) from error
            finally:
                _given_up.reset(token)

        arun.__signature__ = own_signature(run)  # type: ignore[attr-defined]
        return arun

    @wraps(run)
    def retrying(*args: Any, **kwargs: Any) -> Any:
        token = _given_up.set(None)
        try:
            return run(*args, **kwargs)
        except retried as error:
            raise next_try(error) from error
        finally:
            _given_up.reset(token)

    retrying.__signature__ = own_signature(run)  # type: ignore[attr-defined]
    return retrying
