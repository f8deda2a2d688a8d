"""What a task's attributes may hold: a wrong one stops the import that declares the task, and not the worker that runs it."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from django_tasks.canvas.calls import OPTION_NAMES as CALL_OPTION_NAMES
from django_tasks.canvas.optionvalues import VALUES, is_limit, is_task_name
from django_tasks.result.arguments import is_number
from django_tasks.routing import HIGHEST_PRIORITY, LOWEST_PRIORITY
from django_tasks.routing.queues import LONGEST_NAME, check_name

#: What ``retry()`` takes beside the options of every call.
_OF_RETRY: Final = frozenset({"args", "kwargs", "exc", "throw", "max_retries"})
#: As the worker reads it; the empty text is no limit.
_RATE: Final = re.compile(r"|\d+(\.\d+)?(\s*/\s*[smh])?\s*")


def is_flag(value: Any) -> bool:
    """Whether it says yes or no; texts don't, as "no" would be yes."""
    return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))


def _is_count(value: Any) -> bool:
    # As in Celery, infinity is no end, too.
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _are_exceptions(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(map(_is_exception, value))


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _is_rate(value: Any) -> bool:
    return is_limit(value) or (isinstance(value, str) and _RATE.fullmatch(value) is not None)


def _is_queue(value: Any) -> bool:
    try:
        check_name(getattr(value, "name", value))
    except ValueError:
        return False
    return True


def _is_priority(value: Any) -> bool:
    return type(value) is int and LOWEST_PRIORITY <= value <= HIGHEST_PRIORITY


def _ever_expires(value: Any) -> bool:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return VALUES["expires"][0](value) and not (is_number(seconds) and seconds < 0)


def _retries_by(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value.keys() <= _OF_RETRY | CALL_OPTION_NAMES:
        return False
    limit = value.get("max_retries")
    return (limit is None or _is_count(limit)) and all(
        value[name] is None or VALUES[name][0](value[name]) for name in value.keys() & VALUES.keys()
    )


_EXCEPTIONS: Final = "a tuple of exception classes, as (ConnectionError,)"
_SECONDS: Final = "a number of seconds, 0 or more"
_FLAGS: Final = (
    *("typing", "retry_jitter", "trail", "send_events", "track_started", "ignore_result", "store_eager_result"),
    *("store_errors_even_if_ignored", "acks_late", "acks_on_failure_or_timeout", "acks_on_failure", "acks_on_timeout"),
    "reject_on_worker_lost",
)

_VALUES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    **{name: VALUES[name] for name in ("time_limit", "soft_time_limit", "serializer", "compression", "exchange", "routing_key")},
    **dict.fromkeys(_FLAGS, (is_flag, "True or False")),
    "name": (is_task_name, f"text of at most {LONGEST_NAME} printable characters"),
    "queue": (_is_queue, f"a queue's name, text of at most {LONGEST_NAME} characters, or a kombu Queue"),
    "priority": (_is_priority, f"a whole number from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}; larger runs sooner"),
    "expires": (_ever_expires, f"{VALUES['expires'][1]}; and nothing negative, with which no call would ever run"),
    "rate_limit": (_is_rate, "text as '10/s', '10/m' or '10/h', or a number a second"),
    "max_retries": (_is_count, "a number, 0 or more; None for no end"),
    "default_retry_delay": VALUES["countdown"],
    "retry_backoff": (lambda value: isinstance(value, bool) or is_limit(value), "True, False or a number of seconds, 0 or more"),
    "retry_backoff_max": (is_limit, _SECONDS),
    "retry_kwargs": (_retries_by, "a dictionary of what retry() takes, as {'max_retries': 5, 'countdown': 10}"),
    "autoretry_for": (_are_exceptions, _EXCEPTIONS),
    "dont_autoretry_for": (_are_exceptions, _EXCEPTIONS),
    "throws": (lambda value: _is_exception(value) or _are_exceptions(value), _EXCEPTIONS),
    "resultrepr_maxsize": (lambda value: is_limit(value) and value == math.floor(value), "a whole number of characters, 0 or more"),
}


def refuse_attributes(
    name: str, attributes: Iterable[tuple[str, Any]], owner: type[Any], *, outcome: str = "it was not registered"
) -> None:
    """Raise TypeError for the first attribute that holds what it can't, saying what it takes.

    None is left to the settings, and a property to itself. What is a method of ``owner`` can be replaced by a function only.
    """
    for option, value in attributes:
        if value is None or hasattr(value, "__get__"):
            continue
        accepts, takes = _VALUES.get(option, (None, ""))
        if accepts is not None and not accepts(value):
            raise TypeError(f"task {name}: {option} takes {takes}, not {value!r:.200}; {outcome}")
        if accepts is None and not option.startswith("__") and not callable(value) and _is_method(getattr(owner, option, None)):
            raise TypeError(f"task {name}: {option}() is a method of tasks, which {value!r:.200} can't replace; {outcome}")


def refuse_limits(name: str, soft: Any, hard: Any) -> None:
    """Raise ValueError for a soft time limit of the task's own that comes after the hard one."""
    if is_limit(soft) and is_limit(hard) and soft > hard > 0:
        raise ValueError(f"task {name}: soft_time_limit={soft} must not exceed time_limit={hard}; it was not registered")


def refuse_run(name: str, run: Callable[..., Any], owner: type[Any]) -> None:
    """Raise TypeError where there is no function, or one with ``yield``: calling it runs nothing."""
    if getattr(run, "__func__", None) is vars(owner)["run"]:
        raise TypeError(f"task {name}: a class of tasks needs a method run(), which does the work; it was not registered")
    if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        raise TypeError(f"task {name}: a function that yields would not be run by calling it; return a list. It was not registered")


def _is_method(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)
