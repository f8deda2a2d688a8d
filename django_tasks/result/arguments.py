"""What ids and waiting take: looked at before anything is asked or waited for."""

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Final
from uuid import UUID

#: As wide as the databases' columns.
LONGEST_ID: Final = 255


def is_number(value: Any) -> bool:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_id(value: Any) -> bool:
    """Whether brokers and results can carry it as an id; some databases refuse control characters and halves of surrogate pairs."""
    return isinstance(value, UUID) or (isinstance(value, str) and len(value) <= LONGEST_ID and value.isprintable())


def fit_id(given: Any, who: str = "a result needs a task's id") -> str:
    """Return an id as text. Raises TypeError for what is no text, and ValueError for text that no id can be."""
    if isinstance(given, UUID):
        return str(given)
    if not given:
        raise ValueError(f"{who}, not {given!r}")
    if not isinstance(given, str):
        raise TypeError(f"{who}, which is text or a UUID, not {given!r:.200}")
    if not given.isprintable():
        raise ValueError(f"{who}, which is printable text, not {given!r:.300}")
    return given


def fit_timeout(timeout: Any) -> float | None:
    """Return how long to wait, None without end. Raises TypeError for what is no number of seconds."""
    # A real number of another kind: numpy's whole numbers.
    if timeout is None or is_number(timeout) or (type(timeout) is not bool and isinstance(timeout, Real) and not math.isnan(timeout)):
        return None if timeout is None or timeout == math.inf else float(timeout)
    raise TypeError(f"timeout takes a number of seconds, or None to wait without end, not {timeout!r:.200}; nothing was waited for")


def refuse_interval(interval: Any) -> None:
    """Raise TypeError for what is no time between two looks."""
    if not is_number(interval) or interval < 0:
        raise TypeError(f"interval takes a number of seconds, 0 or more, not {interval!r:.200}; nothing was waited for")


def refuse_callbacks(**callbacks: Any) -> None:
    """Raise TypeError for what can't be called when the time has come."""
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise TypeError(f"{name} takes a function, not {callback!r:.200}; nothing was waited for")


def members_of(results: Any) -> list[Any]:
    """Return the members of a set of results. Raises TypeError for what is none."""
    if not isinstance(results, Iterable) or isinstance(results, str | bytes | Mapping):
        raise TypeError(f"a set of results is made of several results, as AsyncResult(id) is one, not of {results!r:.200}")
    return [member_of(result) for result in results]


def member_of(result: Any) -> Any:
    """Return a member of a set of results. Raises TypeError for what is no result."""
    if not hasattr(result, "ready"):
        hint = f"; did you mean AsyncResult({result!r:.200})?" if isinstance(result, str) else ""
        raise TypeError(f"{result!r:.200} is no result, as AsyncResult(id) is one{hint}")
    return result
