"""What a task's attributes may hold: a wrong one stops the import that declares the task, and not the worker that runs it."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from django_tasks.canvas.optionvalues import VALUES, is_limit, is_number


def _is_count(value: Any) -> bool:
    # As in Celery, infinity is no end, too.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_exceptions(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(one, type) and issubclass(one, BaseException) for one in value
    )


def _is_rate(value: Any) -> bool:
    return is_limit(value) or (isinstance(value, str) and _RATE.fullmatch(value) is not None)


#: As the worker reads it; the empty text is no limit.
_RATE: Final = re.compile(r"|\d+(\.\d+)?(\s*/\s*[smh])?\s*")
_EXCEPTIONS: Final = "a tuple of exception classes, as (ConnectionError,)"
_SECONDS: Final = "a number of seconds, 0 or more"

_VALUES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    **{name: VALUES[name] for name in ("time_limit", "soft_time_limit", "expires", "serializer", "compression", "exchange", "routing_key")},
    "rate_limit": (_is_rate, "text as '10/s', '10/m' or '10/h', or a number a second"),
    "max_retries": (_is_count, "a number; None for no end"),
    "default_retry_delay": VALUES["countdown"],
    "retry_backoff": (lambda value: isinstance(value, bool) or is_number(value), "True, False or a number of seconds"),
    "retry_backoff_max": (is_limit, _SECONDS),
    "retry_kwargs": (lambda value: isinstance(value, Mapping), "a dictionary of what retry() takes"),
    "autoretry_for": (_are_exceptions, _EXCEPTIONS),
    "dont_autoretry_for": (_are_exceptions, _EXCEPTIONS),
}


def refuse_attributes(name: str, attributes: Iterable[tuple[str, Any]]) -> None:
    """Raise TypeError for the first attribute that holds what it can't, saying what it takes.

    None is left to the settings, and a property to itself.
    """
    for option, value in attributes:
        accepts, takes = _VALUES.get(option, (None, ""))
        if accepts is not None and value is not None and not hasattr(value, "__get__") and not accepts(value):
            raise TypeError(f"task {name}: {option} takes {takes}, not {value!r:.200}; it was not registered")
