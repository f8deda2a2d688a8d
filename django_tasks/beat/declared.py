"""Entries that the project's code declares: BEAT_SCHEDULE, in Celery's format, and ``app.add_periodic_task``."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from difflib import get_close_matches
from typing import Any, Final

from django_tasks import clock, registry
from django_tasks.beat.entries import BrokenEntryError, Entry
from django_tasks.beat.moments import from_local
from django_tasks.beat.occurrences import Crontab, Solar, occurrences_of
from django_tasks.canvas.calls import OPTION_NAMES
from django_tasks.conf import settings

_LONGEST_NAME: Final = 255
_KEYS: Final = frozenset({"task", "schedule", "args", "kwargs", "options", "relative", "enabled", "start_time", "expires"})
#: Written for django-celery-beat, which copies them into its rows; they say nothing about when or what to send.
_IDLE_KEYS: Final = frozenset({"description", "last_run_at", "total_run_count"})


def declarations() -> dict[str, Any]:
    """Return every declared entry as it was written, by name; BEAT_SCHEDULE wins over ``add_periodic_task``."""
    return {**registry.periodic_tasks, **settings.BEAT_SCHEDULE}


def enabled_count() -> int:
    """Return how many declared entries are not switched off."""
    return sum(not isinstance(spec, Mapping) or bool(spec.get("enabled", True)) for spec in declarations().values())


def read(name: str, spec: Any, *, zone: tzinfo, since: datetime | None = None, pk: int | None = None) -> Entry | None:
    """Read one declared entry; None if it is switched off.

    Raises BrokenEntryError for one that can't be scheduled.
    """
    spec = _checked(name, spec)
    if not spec.get("enabled", True):
        return None
    start_time = _moment(spec, "start_time")
    try:
        # Without a start time the grid of an interval goes through 1970-01-01T00:00Z: there is no row that could
        # remember another one, and every process must find the same due times.
        occurrences = occurrences_of(spec["schedule"], zone=zone, anchor=start_time or clock.EPOCH)
    except ValueError as error:
        raise BrokenEntryError(str(error)) from error
    if isinstance(occurrences, Crontab | Solar) and occurrences.after(clock.now()) is None:
        raise BrokenEntryError(f"its schedule, {spec['schedule']!r}, never comes")
    return Entry(
        name=name,
        task=str(getattr(spec["task"], "name", spec["task"])),
        occurrences=occurrences,
        args=tuple(spec.get("args") or ()),
        kwargs=dict(spec.get("kwargs") or {}),
        options=_options(spec.get("options") or {}),
        since=since,
        start_time=start_time,
        expires=_moment(spec, "expires"),
        pk=pk,
    )


def _checked(name: Any, spec: Any) -> Mapping[str, Any]:
    if not isinstance(spec, Mapping):
        raise BrokenEntryError(f"it is {spec!r}, but must be a dictionary with 'task' and 'schedule'")
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise BrokenEntryError(f"its name must be text of at most {_LONGEST_NAME} characters")
    for key in ("task", "schedule"):
        if spec.get(key) is None:
            raise BrokenEntryError(f"it has no {key!r}")
    if unknown := spec.keys() - _KEYS - _IDLE_KEYS:
        raise BrokenEntryError(f"it has {_unknown(unknown, _KEYS)}")
    if not isinstance(spec.get("args") or (), list | tuple):
        raise BrokenEntryError(f"its args are {spec['args']!r}, but must be a list or tuple")
    for key in ("kwargs", "options"):
        if not isinstance(spec.get(key) or {}, Mapping):
            raise BrokenEntryError(f"its {key} are {spec[key]!r}, but must be a dictionary")
    return spec


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(given)
    if (seconds := options.pop("expire_seconds", None)) is not None:
        options.setdefault("expires", seconds)
    if unknown := options.keys() - OPTION_NAMES:
        raise BrokenEntryError(f"its options have {_unknown(unknown, OPTION_NAMES)}")
    return options


def _unknown(names: set[Any], known: frozenset[str]) -> str:
    name = min(map(str, names))
    near = get_close_matches(name, known, n=1)
    return f"an unknown key {name!r}: " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}")


def _moment(spec: Mapping[str, Any], key: str) -> datetime | None:
    value = spec.get(key)
    if value is not None and not isinstance(value, datetime):
        raise BrokenEntryError(f"its {key} is {value!r}, but must be a datetime")
    return from_local(value)
