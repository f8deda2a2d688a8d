"""When a schedule occurs: pure arithmetic on absolute time, so that every beat process finds the same due times.

Celery's schedule classes answer "is it due, seen from now?"; here the question is "what is the first occurrence after
this moment?", and the answer depends on nothing else: not on the clock, not on when a process started. A run of
a periodic task is identified by its due time, so two processes must agree on it to the microsecond.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final, Protocol

from django_tasks.clock import EPOCH, as_utc
from django_tasks.schedules import celery_crontab, clocked, schedule, solar

MINUTE: Final = timedelta(minutes=1)
SECOND: Final = timedelta(seconds=1)
DAY: Final = timedelta(days=1)
_HOURS_OF_DAY: Final = 24
#: A 29 February on a given weekday is at most 40 years away; what doesn't come by then never comes.
_HORIZON_YEARS: Final = 41


class Occurrences(Protocol):
    """The moments at which something is due."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first occurrence later than ``moment`` (aware), in UTC; None when there is none."""


def latest(following: Callable[[datetime], datetime | None], first: datetime, until: datetime) -> datetime:
    """Return the last occurrence that is not later than ``until``, knowing that ``first`` is one of them.

    It looks back over spans that grow, so that a year without beat costs no more than an hour.
    """
    span = MINUTE
    while until - span > first:
        found = following(until - span)
        if found is not None and found <= until:
            first = found
            break
        span *= 8
    while (found := following(first)) is not None and found <= until:
        first = found
    return first


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so often, on a grid through ``anchor``: late starts and slow sends never shift it."""

    every: timedelta
    anchor: datetime = EPOCH

    def after(self, moment: datetime) -> datetime:
        """Return the next point of the grid."""
        return self.anchor + ((moment - self.anchor) // self.every + 1) * self.every

    def until(self, moment: datetime) -> datetime:
        """Return the last point of the grid that is not later."""
        return self.anchor + ((moment - self.anchor) // self.every) * self.every


@dataclass(frozen=True, slots=True)
class Once:
    """One single time."""

    moment: datetime

    def after(self, moment: datetime) -> datetime | None:
        """Return that time if it lies ahead."""
        return self.moment if self.moment > moment else None


class Crontab:
    """Celery's crontab in a time zone, over every change of the clocks.

    A crontab that names hours goes by the wall clock: a time that the clocks skip runs at the first moment after
    the gap, and a time that they show twice runs the first time. One that runs in all 24 hours goes by elapsed time:
    neither the skipped nor the repeated hour makes it pause or bunch.
    """

    __slots__ = ("_last", "days", "hours", "minutes", "months", "weekdays", "zone")

    def __init__(self, spec: Any, zone: tzinfo) -> None:
        self.minutes = sorted(spec.minute)
        self.hours = sorted(spec.hour)
        self.days = frozenset(spec.day_of_month)
        self.months = frozenset(spec.month_of_year)
        self.weekdays = frozenset(spec.day_of_week)
        self.zone = zone
        # Thousands of rows share a crontab and ask for the same moment one after the other.
        self._last: tuple[datetime, datetime | None] | None = None

    def after(self, moment: datetime) -> datetime | None:
        """Return the next occurrence."""
        known = self._last
        if known is not None and known[0] == moment:
            return known[1]
        found = self._by_elapsed_time(moment) if len(self.hours) == _HOURS_OF_DAY else self._by_wall_clock(moment)
        self._last = (moment, found)
        return found

    def _by_wall_clock(self, moment: datetime) -> datetime | None:
        # Wall times in order give moments in order, so the first that lies ahead is the next one.
        wall = moment.astimezone(self.zone).replace(tzinfo=None, second=0, microsecond=0)
        while True:
            found = self._next_wall(wall + MINUTE)
            if found is None:
                return None
            due = first_moment(found, self.zone)
            if due > moment:
                return due
            wall = found

    def _next_wall(self, wall: datetime) -> datetime | None:
        day = self._next_day(wall.date())
        if day is None:
            return None
        if day == wall.date():
            for hour in self.hours:
                for minute in self.minutes if hour >= wall.hour else ():
                    if (hour, minute) >= (wall.hour, wall.minute):
                        return datetime.combine(day, time(hour, minute))
            day = self._next_day(day + DAY)
        return None if day is None else datetime.combine(day, time(self.hours[0], self.minutes[0]))

    def _next_day(self, day: date) -> date | None:
        last_year = min(day.year + _HORIZON_YEARS, date.max.year - 1)
        while day.year <= last_year:
            if day.month not in self.months:
                day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
            elif self._matches(day):
                return day
            else:
                day += DAY
        return None

    def _matches(self, day: date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _by_elapsed_time(self, moment: datetime) -> datetime | None:
        found = as_utc(moment).replace(second=0, microsecond=0) + MINUTE
        while True:
            local = found.astimezone(self.zone)
            if not self._matches(local.date()):
                day = self._next_day(local.date() + DAY)
                if day is None:
                    return None
                found = max(found + MINUTE, first_moment(datetime.combine(day, time()), self.zone))
            elif local.minute in self.minutes:
                return found
            else:
                # Never past the full hour in one step: there the clocks may change by half an hour.
                found += (next((m for m in self.minutes if m > local.minute), 60) - local.minute) * MINUTE


def first_moment(wall: datetime, zone: tzinfo) -> datetime:
    """Return when the clocks of ``zone`` first show ``wall``, in UTC; for a skipped time, the end of the gap."""
    early = wall.replace(tzinfo=zone, fold=0)
    found = early.astimezone(UTC)
    late = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if late >= found:
        return found
    # A gap. Read with the offset before it, the time lies behind the change; with the offset after it, ahead of it.
    offset = late.astimezone(zone).utcoffset()
    while found - late > SECOND:
        middle = late + (found - late) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            late = middle
        else:
            found = middle
    return found.replace(microsecond=0)


class Solar:
    """A solar event. Each is computed from the midnight (UTC) before it: asked from anywhere, the answer is the same."""

    __slots__ = ("_spec",)

    def __init__(self, spec: Any) -> None:
        self._spec = spec

    def after(self, moment: datetime) -> datetime | None:
        """Return the next time the sun does it; None if it doesn't within a year."""
        midnight = as_utc(moment).replace(hour=0, minute=0, second=0, microsecond=0)
        end = midnight + 366 * DAY
        while midnight < end:
            found = self._first_since(midnight)
            day = found.replace(hour=0, minute=0, second=0)
            if day > midnight:
                # In polar regions the search may have run on for months: ask again from the event's own midnight.
                midnight = day
                continue
            if found > moment:
                return found
            midnight += DAY
        return None

    def _first_since(self, midnight: datetime) -> datetime:
        found = midnight + estimate(self._spec, midnight)
        return found.replace(microsecond=0)


class Estimated:
    """A project's own subclass of Celery's schedule classes, asked through ``remaining_estimate``."""

    __slots__ = ("_spec",)

    def __init__(self, spec: Any) -> None:
        self._spec = spec

    def after(self, moment: datetime) -> datetime | None:
        """Return the next occurrence as the class sees it from ``moment``."""
        found = moment + estimate(self._spec, moment)
        return found if found > moment else None


def estimate(spec: Any, moment: datetime) -> timedelta:
    """Ask a schedule of Celery's how long it is from ``moment`` to its next occurrence after ``moment``."""
    spec.nowfun = lambda: moment
    remaining: timedelta = spec.remaining_estimate(moment)
    return remaining


def occurrences_of(spec: Any, *, zone: tzinfo, anchor: datetime = EPOCH) -> Occurrences:
    """Turn what Celery takes for a schedule (seconds, a timedelta, one of its schedule objects) into occurrences.

    Raises ValueError, saying what is wrong, for what can't be a schedule.
    """
    if isinstance(spec, int | float) and not isinstance(spec, bool):
        return _interval(timedelta(seconds=spec), anchor)
    if isinstance(spec, timedelta):
        return _interval(spec, anchor)
    for known, build in _builders(zone, anchor):
        if isinstance(spec, known) and type(spec).remaining_estimate is known.remaining_estimate:
            return build(spec)
    if callable(getattr(spec, "remaining_estimate", None)):
        return Estimated(spec)
    raise ValueError(f"its schedule is {spec!r}: give it seconds, a timedelta, or a crontab, solar or clocked object")


def _builders(zone: tzinfo, anchor: datetime) -> tuple[tuple[Any, Callable[[Any], Occurrences]], ...]:
    return (
        (celery_crontab, lambda spec: Crontab(spec, _own_zone(spec) or zone)),
        (solar, Solar),
        (clocked, lambda spec: Once(as_utc(spec.clocked_time))),
        (schedule, lambda spec: _interval(spec.run_every, anchor)),
    )


def _own_zone(spec: Any) -> tzinfo | None:
    # django-celery-beat's crontab carries its zone; Celery's plain one would ask its app for one.
    found = vars(spec).get("tz") if type(spec) is not celery_crontab else None
    return found if isinstance(found, tzinfo) else None


def _interval(every: timedelta, anchor: datetime) -> Interval:
    if every <= timedelta(0):
        raise ValueError(f"its interval is {every}: it must be longer than nothing")
    return Interval(every, anchor)
