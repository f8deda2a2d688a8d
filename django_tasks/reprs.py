"""The beginning of a value's repr, without building the whole of it."""

from collections.abc import Iterable
from typing import Any, Final

from django_tasks.exceptions import SoftTimeLimitExceeded

#: Types whose repr is no longer than they are, or hardly.
_PLAIN: Final = frozenset((int, float, bool, type(None)))
#: Containers whose members are looked at first, and how many.
_FLAT: Final = frozenset((list, tuple))
_FEW: Final = 20
#: Lists in lists that are shown.
_DEEPEST: Final = 100


def cut_repr(value: Any, length: int, *, limits_pass: bool = True) -> str:
    """Return a value's repr, cut to ``length`` characters; what a failing ``__repr__`` raised instead.

    YAML and pickle hold once what may be in a value a million times: no more of it is written than can be shown.
    ``limits_pass``: a soft time limit that comes in here is raised. TypeError for a length that is no whole number.
    """
    if not isinstance(length, int):
        raise TypeError(f"the length of a repr is a whole number of characters, not {length!r:.100}")
    try:
        # What most calls hold needs no second look.
        text = repr(value) if _is_flat(value) else repr(_beginning(value, [length], length, 0))
    except Exception as error:
        if limits_pass and isinstance(error, SoftTimeLimitExceeded):
            raise
        return f"<repr raised {error!r}>"
    return text if len(text) <= length else f"{text[: max(0, length - 3)]}..."


def _is_flat(value: Any) -> bool:
    return type(value) in _FLAT and len(value) <= _FEW and all(type(each) in _PLAIN for each in value)


def _beginning(value: Any, left: list[int], length: int, depth: int) -> Any:
    """Return the value, or as many members of it as ``length`` characters can hold: each takes one at least."""
    kind = type(value)
    left[0] -= 1
    if kind in _PLAIN:
        return value
    if kind is str or kind is bytes:
        return value if len(value) <= length else value[:length]
    if kind not in _CONTAINERS:
        return value
    if depth > _DEEPEST:
        return ...
    if kind is dict:
        return dict(_pairs(value, left, length, depth + 1))
    return kind(_members(value, left, length, depth + 1))


def _members(value: Iterable[Any], left: list[int], length: int, depth: int) -> Iterable[Any]:
    for each in value:
        if left[0] < 0:
            return
        yield _beginning(each, left, length, depth)


def _pairs(value: dict[Any, Any], left: list[int], length: int, depth: int) -> Iterable[tuple[Any, Any]]:
    for key, each in value.items():
        if left[0] < 0:
            return
        yield _beginning(key, left, length, depth), _beginning(each, left, length, depth)


_CONTAINERS: Final = frozenset((list, tuple, dict, set, frozenset))
