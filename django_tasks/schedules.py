"""Schedules of periodic tasks: Celery's ``crontab``, ``schedule`` and ``solar``, django-celery-beat's ``clocked``.

They are Celery's own classes; only ``crontab`` is a subclass, which also takes Sunday as 7 and has the project's time zone.
``BEAT_SCHEDULE`` and ``app.add_periodic_task`` take them, and numbers of seconds or timedeltas. Importing this module
imports Celery; nothing else in a web process does.
"""

import re
from datetime import tzinfo
from functools import cached_property
from typing import Any, Final
from zoneinfo import ZoneInfo

from celery.schedules import BaseSchedule, ParseException, crontab_parser, maybe_schedule, schedule, solar
from celery.schedules import crontab as celery_crontab
from celery.utils.time import weekday
from django.utils import timezone
from django_celery_beat.clockedschedule import clocked

from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured

__all__ = [
    "BaseSchedule",
    "ParseException",
    "celery_crontab",
    "clocked",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedule",
    "solar",
]

_SUNDAY: Final = 7
_DAYS: Final = re.compile(r"\s*(\w+)\s*(?:-\s*(\w+)\s*(?:/\s*(\d+)\s*)?)?")


class crontab(celery_crontab):  # type: ignore[misc]  # untyped
    """Celery's crontab. Sunday is 0, and 7 as well: ``crontab(day_of_week="5-7")`` is Friday to Sunday."""

    def __init__(self, minute: Any = "*", hour: Any = "*", day_of_week: Any = "*", *args: Any, **kwargs: Any) -> None:
        super().__init__(minute, hour, sunday_as_zero(day_of_week), *args, **kwargs)

    @cached_property
    def tz(self) -> tzinfo:
        """The time zone of schedules that name none."""
        return schedule_zone()


def schedule_zone() -> tzinfo:
    """Return the time zone of schedules that name none: TIMEZONE, else Django's TIME_ZONE."""
    name = settings.TIMEZONE
    if name is None:
        return timezone.get_default_timezone()
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ImproperlyConfigured(f"TIMEZONE is {name!r}: no time zone has this name, so nothing can be scheduled") from None


def sunday_as_zero(days: Any) -> Any:
    """Return a crontab's days of the week as Celery takes them: with Sunday as 0 where it was 7.

    What can't be days is returned as it is, for Celery to say what is wrong with it.
    """
    if isinstance(days, str):
        return ",".join(map(_without_seven, days.split(",")))
    if isinstance(days, int):
        return 0 if days == _SUNDAY else days
    return [0 if day == _SUNDAY else day for day in days] if isinstance(days, list | tuple | set | frozenset) else days


def _without_seven(part: str) -> str:
    # «*/7» and the step of «1-5/7» are numbers of days, not days.
    found = _DAYS.fullmatch(part)
    first, last, step = found.groups() if found else (None, None, None)
    start, end = _day(first), _day(last or first)
    if start is None or end is None or _SUNDAY not in {start, end} or max(start, end) > _SUNDAY:
        return part
    if start == _SUNDAY or int(step or 1) == 0:
        return f"0-{end % _SUNDAY}/{step or 1}" if last else "0"
    return ",".join(str(day % _SUNDAY) for day in range(start, end + 1, int(step or 1)))


def _day(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text) if text.isdigit() else int(weekday(text))
    except (KeyError, ValueError):
        return None
