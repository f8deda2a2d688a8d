"""What a setting may be: its default, its type, its range, and what it does."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final


def as_is(value: Any) -> Any:
    """Keep a value unchanged."""
    return value


def seconds(value: Any) -> Any:
    """Turn a timedelta into seconds; keep numbers and None."""
    return value.total_seconds() if isinstance(value, timedelta) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting.

    ``types`` are what a project may write; ``choices``, ``at_least`` and ``at_most`` narrow it. ``clean`` turns it
    into what the code uses. ``effective=False`` marks a Celery setting that is accepted and changes nothing here.
    """

    default: Any
    types: tuple[type, ...]
    doc: str
    choices: tuple[Any, ...] | None = None
    at_least: float | None = None
    at_most: float | None = None
    clean: Callable[[Any], Any] = as_is
    effective: bool = True


NONE: Final = type(None)
NUMBER: Final = (int, float)
DURATION: Final = (int, float, timedelta, NONE)


def text(default: str | None, doc: str, **more: Any) -> Option:
    """Describe a setting that is text."""
    return Option(default=default, types=(str,) if default is not None else (str, NONE), doc=doc, **more)


def flag(default: bool, doc: str) -> Option:
    """Describe a setting that is True or False."""
    return Option(default=default, types=(bool,), doc=doc)


def count(default: int | None, doc: str, *, at_least: float = 0, **more: Any) -> Option:
    """Describe a setting that is a whole number."""
    return Option(default=default, types=(int,) if default is not None else (int, NONE), doc=doc, at_least=at_least, **more)


def duration(default: float | None, doc: str, *, at_least: float = 0) -> Option:
    """Describe a setting that is a time: seconds, or a timedelta."""
    return Option(default=default, types=DURATION, doc=doc, at_least=at_least, clean=seconds)
