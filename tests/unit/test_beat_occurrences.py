"""When schedules occur, over every change of the clocks."""

# ruff: noqa: DTZ001  wall times have no zone

import pickle
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import ParseException, schedule
from celery.schedules import crontab as celery_crontab
from celery.schedules import solar as celery_solar
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_tasks.beat.occurrences import Crontab, Interval, Once, Solar, first_moment, latest, occurrences_of
from django_tasks.clock import EPOCH
from django_tasks.schedules import crontab

BERLIN, NEW_YORK, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")
SANTIAGO, APIA = ZoneInfo("America/Santiago"), ZoneInfo("Pacific/Apia")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def series(occurrences, start: str, count: int) -> list[str]:
    moment, found = utc(start), []
    for _ in range(count):
        moment = occurrences.after(moment)
        found.append(moment.strftime("%m-%d %H:%M"))
    return found


def test_an_interval_lies_on_its_grid_wherever_one_asks():
    """Every moment between two points has the later one as its next."""
    every = Interval(timedelta(seconds=10), utc("2026-01-01T00:00:03"))
    assert every.after(utc("2026-01-01T00:00:03")) == utc("2026-01-01T00:00:13")
    assert every.after(utc("2026-01-01T00:00:12.999999")) == utc("2026-01-01T00:00:13")
    assert every.after(utc("2025-12-31T23:59:50")) == utc("2025-12-31T23:59:53")
    assert every.until(utc("2026-01-01T00:00:13")) == utc("2026-01-01T00:00:13")


def test_once_is_once():
    """A clocked time lies ahead or not at all."""
    once = Once(utc("2026-01-01T12:00"))
    assert once.after(EPOCH) == utc("2026-01-01T12:00")
    assert once.after(utc("2026-01-01T12:00")) is None


@pytest.mark.parametrize(
    ("zone", "fields", "start", "expected"),
    [
        # Berlin, 29 March 2026: 02:00 becomes 03:00 (01:00 UTC). What is skipped runs once, at the end of the gap.
        (BERLIN, {"minute": "30", "hour": "2"}, "2026-03-28T00:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        (BERLIN, {"minute": "*/15", "hour": "2"}, "2026-03-28T01:40", ["03-28 01:45", "03-29 01:00", "03-30 00:00"]),
        (BERLIN, {"minute": "0", "hour": "2,3"}, "2026-03-28T12:00", ["03-29 01:00", "03-30 00:00", "03-30 01:00"]),
        # Berlin, 25 October 2026: 03:00 becomes 02:00 (01:00 UTC). What is repeated runs the first time.
        (BERLIN, {"minute": "30", "hour": "2"}, "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        (BERLIN, {"minute": "*/20", "hour": "2"}, "2026-10-24T12:00", ["10-25 00:00", "10-25 00:20", "10-25 00:40", "10-26 01:00"]),
        (BERLIN, {"minute": "0", "hour": "2,3"}, "2026-10-25T00:30", ["10-25 02:00", "10-26 01:00"]),
        # Every hour means every hour that passes: none is skipped, and the repeated one is two hours.
        (BERLIN, {"minute": "30"}, "2026-10-24T23:40", ["10-25 00:30", "10-25 01:30", "10-25 02:30"]),
        (BERLIN, {"minute": "30"}, "2026-03-28T23:40", ["03-29 00:30", "03-29 01:30", "03-29 02:30"]),
        # New York, 8 March and 1 November 2026.
        (NEW_YORK, {"minute": "30", "hour": "2"}, "2026-03-07T12:00", ["03-08 07:00", "03-09 06:30"]),
        (NEW_YORK, {"minute": "30", "hour": "1"}, "2026-10-31T12:00", ["11-01 05:30", "11-02 06:30"]),
        # Lord Howe changes by half an hour: 5 April 2026 02:00 becomes 01:30, 4 October 02:00 becomes 02:30.
        (LORD_HOWE, {"minute": "45", "hour": "1"}, "2026-04-03T20:00", ["04-04 14:45", "04-05 15:15"]),
        (LORD_HOWE, {"minute": "15", "hour": "2"}, "2026-10-02T20:00", ["10-03 15:30", "10-04 15:15"]),
        (LORD_HOWE, {"minute": "45"}, "2026-04-04T14:00", ["04-04 14:45", "04-04 15:15", "04-04 16:15"]),
        # Santiago skips midnight: the day begins at one.
        (SANTIAGO, {"minute": "0", "hour": "0"}, "2026-09-05T12:00", ["09-06 04:00", "09-07 03:00"]),
        (SANTIAGO, {"minute": "0", "day_of_month": "6"}, "2026-09-05T12:00", ["09-06 04:00", "09-06 05:00"]),
        # Apia skipped a whole day, 30 December 2011: its noon comes when the 31st begins.
        (APIA, {"minute": "0", "hour": "12"}, "2011-12-29T00:00", ["12-29 22:00", "12-30 10:00", "12-30 22:00"]),
    ],
)
def test_a_crontab_over_a_change_of_the_clocks(zone, fields, start, expected):
    """Wall-clock crontabs skip nothing and repeat nothing; hourly ones go by elapsed time."""
    assert series(Crontab(crontab(**fields), zone), start, len(expected)) == expected


def test_a_crontab_takes_both_kinds_of_day_as_celery_does():
    """Day of the month and day of the week must both match: Friday the thirteenth."""
    friday_13th = Crontab(crontab(minute="0", hour="0", day_of_month="13", day_of_week="5"), ZoneInfo("UTC"))
    assert series(friday_13th, "2026-01-01T00:00", 3) == ["02-13 00:00", "03-13 00:00", "11-13 00:00"]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ("7", {0}), ("07", {0}), (7, {0}), ([1, 7], {0, 1}), ({7}, {0}), ("5-7", {5, 6, 0}), ("1-7", set(range(7))), ("0-7", set(range(7))),
        ("7-7/2", {0}), ("1-7/2", {1, 3, 5, 0}), ("5-7/2", {5, 0}), ("7-2", {0, 1, 2}), ("fri-7", {5, 6, 0}), ("7-tue", {0, 1, 2}),
        ("1, 7", {1, 0}), ("*/7", {0}), ("1-5/7", {1}), ("fri-sun", {5, 6, 0}), ("6-1", {6, 0, 1}),
    ],
)  # fmt: skip
def test_sunday_is_seven_too(days, expected):
    """In numbers, ranges and steps; a step of seven stays a step. What there is goes through a copy, and Celery reads it."""
    spec = crontab(day_of_week=days)
    assert spec.day_of_week == expected
    assert spec == celery_crontab(day_of_week=spec._orig_day_of_week) == pickle.loads(pickle.dumps(spec))


@pytest.mark.parametrize("days", ["8", "5-8", "8-7", "7-", "-7", "7,", "7-7/0", "1-7/0", "funday-7", 8, [7, 8], 7.5])
def test_what_is_no_day_is_refused_as_celery_does(days):
    """Seven makes no difference to that."""
    with pytest.raises((ValueError, ParseException, TypeError)):
        crontab(day_of_week=days)


def test_a_leap_day_is_found_and_an_impossible_day_is_not():
    """29 February comes in 2028; the 30th never does, however long one looks."""
    leap = Crontab(crontab(minute="0", hour="0", day_of_month="29", month_of_year="2"), ZoneInfo("UTC"))
    assert leap.after(utc("2026-01-01T00:00")) == utc("2028-02-29T00:00")
    spec = crontab(minute="0", hour="0")
    spec.day_of_month, spec.month_of_year = {30}, {2}
    assert Crontab(spec, ZoneInfo("UTC")).after(utc("2026-01-01T00:00")) is None
    spec.hour = set(range(24))
    assert Crontab(spec, ZoneInfo("UTC")).after(utc("2026-01-01T00:00")) is None


FIELD = st.sampled_from(["*", "*/7", "0", "30", "15,45"])
HOUR = st.sampled_from(["*", "0", "1", "2", "3", "1-3", "*/6", "0,2,23"])
MOMENT = st.datetimes(datetime(2025, 1, 1), datetime(2037, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
ZONE = st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, SANTIAGO, ZoneInfo("Africa/Casablanca"), ZoneInfo("Asia/Kathmandu")])


@given(FIELD, HOUR, ZONE, MOMENT, st.integers(0, 7200))
@hypothesis_settings(max_examples=300, deadline=None)
def test_whoever_asks_and_when_finds_the_same_due_times(minute, hour, zone, moment, earlier):
    """Asked from an earlier moment, the same times follow: no process can see others than its neighbour."""
    cron = Crontab(crontab(minute=minute, hour=hour), zone)
    due = cron.after(moment)
    assert due > moment
    seen = moment - timedelta(seconds=earlier)
    while (following := cron.after(seen)) < due:
        assert following <= moment
        seen = following
    assert following == due


@given(FIELD, HOUR, ZONE, MOMENT)
@hypothesis_settings(max_examples=300, deadline=None)
def test_every_run_shows_a_time_of_the_crontab_or_ends_a_gap(minute, hour, zone, moment):
    """A due time is one that the crontab names, except at the end of a gap in which it named one."""
    spec = crontab(minute=minute, hour=hour)
    due = Crontab(spec, zone).after(moment)
    local = due.astimezone(zone)
    gap = (due - timedelta(seconds=1)).astimezone(zone).utcoffset() != local.utcoffset()
    assert (local.minute in spec.minute and local.hour in spec.hour) or gap
    assert (local.second, local.microsecond) == (0, 0)


@given(ZONE, st.integers(0, 23), st.integers(0, 59), st.dates(datetime(2025, 1, 2).date(), datetime(2037, 12, 30).date()))
@hypothesis_settings(max_examples=300, deadline=None)
def test_a_daily_crontab_runs_once_for_each_day(zone, hour, minute, day):
    """Every date has exactly one run, over every change of the clocks."""
    cron = Crontab(crontab(minute=str(minute), hour=str(hour)), zone)
    start = first_moment(datetime(day.year, day.month, day.day, hour, minute), zone)
    assert cron.after(start - timedelta(seconds=1)) == start
    tomorrow = datetime(day.year, day.month, day.day, hour, minute) + timedelta(days=1)
    assert cron.after(start) == first_moment(tomorrow, zone)


@given(st.sampled_from(["*/5", "0"]), HOUR, ZONE, MOMENT, st.integers(1, 400))
@hypothesis_settings(max_examples=100, deadline=None)
def test_the_latest_occurrence_is_the_last_one_that_stepping_finds(minute, hour, zone, moment, hours):
    """Looking back over a long pause gives what running through it would have given."""
    cron = Crontab(crontab(minute=minute, hour=hour), zone)
    first = cron.after(moment)
    until = first + timedelta(hours=hours)
    expected = first
    while (following := cron.after(expected)) <= until:
        expected = following
    assert latest(cron.after, first, until) == expected


def test_the_latest_occurrence_after_years_is_found_quickly():
    """Ten years of missed minutes cost a handful of questions."""
    asked = []

    def every_minute(moment):
        asked.append(moment)
        return Interval(timedelta(minutes=1)).after(moment)

    until = utc("2026-01-01T00:00:30")
    assert latest(every_minute, utc("2016-01-01T00:00"), until) == utc("2026-01-01T00:00")
    assert len(asked) < 10


def test_a_solar_event_is_the_same_from_anywhere_in_the_day():
    """Sunset in Berlin has one time, to the microsecond, whoever computes it."""
    pytest.importorskip("ephem")
    sunset = Solar(celery_solar("sunset", 52.52, 13.40))
    due = sunset.after(utc("2026-06-21T00:00"))
    assert due.strftime("%Y-%m-%d %H:%M") == "2026-06-21 19:33"
    for second in range(0, 70_000, 3_333):
        assert sunset.after(utc("2026-06-21T00:00") + timedelta(seconds=second, microseconds=second)) == due
    assert timedelta(hours=23) < sunset.after(due) - due < timedelta(hours=25)


def test_the_sun_that_does_not_set_is_waited_for():
    """In Tromsø the midnight sun of May sets in July."""
    pytest.importorskip("ephem")
    sunset = Solar(celery_solar("sunset", 69.65, 18.96))
    assert sunset.after(utc("2026-06-01T00:00")).month == 7


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (30, timedelta(seconds=30)),
        (0.5, timedelta(seconds=0.5)),
        (timedelta(hours=1), timedelta(hours=1)),
        (schedule(90), timedelta(seconds=90)),
    ],
)
def test_what_celery_takes_for_an_interval(spec, expected):
    """Numbers are seconds; timedeltas and schedule objects are what they are."""
    assert occurrences_of(spec, zone=ZoneInfo("UTC")) == Interval(expected, EPOCH)


def test_a_crontab_keeps_its_own_zone():
    """django-celery-beat's crontab has one; Celery's gets the project's."""
    from django_celery_beat.tzcrontab import TzAwareCrontab

    own = occurrences_of(TzAwareCrontab(minute="0", hour="12", tz=NEW_YORK), zone=BERLIN)
    assert own.after(utc("2026-01-01T00:00")) == utc("2026-01-01T17:00")
    plain = occurrences_of(crontab(minute="0", hour="12"), zone=BERLIN)
    assert plain.after(utc("2026-01-01T00:00")) == utc("2026-01-01T11:00")


def test_a_schedule_class_of_the_project_is_asked():
    """A subclass that computes for itself keeps doing so."""

    class Odd(schedule):
        def remaining_estimate(self, last_run_at):
            return timedelta(seconds=1 if last_run_at.second % 2 == 0 else 2)

    odd = occurrences_of(Odd(10), zone=ZoneInfo("UTC"))
    assert odd.after(utc("2026-01-01T00:00:00")) == utc("2026-01-01T00:00:01")
    assert odd.after(utc("2026-01-01T00:00:01")) == utc("2026-01-01T00:00:03")


@pytest.mark.parametrize("spec", [True, "every day", None, 0, -5, timedelta(0)])
def test_what_is_no_schedule_is_refused_with_its_value(spec):
    """The error shows what was given."""
    with pytest.raises(ValueError, match=r"schedule is|longer than nothing"):
        occurrences_of(spec, zone=ZoneInfo("UTC"))
