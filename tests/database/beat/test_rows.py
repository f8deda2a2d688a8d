"""Rows of every kind: edited, switched off, run once, due at odd times, broken."""

# ruff: noqa: DTZ001  with USE_TZ off, rows have naive times

import json
import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.db import connection, connections
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks, SolarSchedule

from django_tasks import conf
from django_tasks.admin.periodic import PeriodicTaskAdmin, next_runs
from django_tasks.beat.scheduler import Scheduler
from django_tasks.models import BeatRun, BeatStart, Message
from tests.database.beat.rows import START, at, due_times, on_the_second, periodic, sent

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_edited_row_is_read_within_a_second():
    """A saved edit counts at the next look; the other rows aren't read again."""
    row = periodic(every=100)
    periodic("other", every=100)
    beat = Scheduler()
    beat.tick(at(0))
    row.interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    row.save()
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=at(0.5))
    beat.tick(at(1.1))
    beat.tick(at(2.5))
    assert due_times() == [on_the_second(2)]


def test_a_row_that_is_saved_more_often_than_its_interval_runs():
    """Each saving changes its date; its first run stays where it was, for the beats of each deployment and in the admin."""
    row = periodic(every=100)
    for second in range(0, 100, 20):
        PeriodicTask.objects.filter(pk=row.pk).update(date_changed=at(second), description=str(second))
        PeriodicTasks.update_changed()
        beat = Scheduler()
        beat.tick(at(second))
        beat.tick(at(second + 10))
    [shown] = next_runs(PeriodicTaskAdmin(PeriodicTask, admin.site).get_queryset(None).get(), 1)
    beat.tick(at(101))
    assert due_times() == [shown] == [on_the_second(100)]
    Scheduler().tick(at(150))
    assert not BeatStart.objects.exists()


@pytest.mark.parametrize("change", ["interval", "switched off"])
def test_a_row_that_never_ran_begins_anew_with_another_interval(change):
    """Or when it was switched off: what counts is from when on it is as it is."""
    row = periodic(every=100)
    beat = Scheduler()
    beat.tick(at(0))
    if change == "interval":
        row.interval.every = 60
        row.interval.save()
    else:
        PeriodicTask.objects.filter(pk=row.pk).update(enabled=False)
        PeriodicTasks.update_changed()
        beat.tick(at(70))
    PeriodicTask.objects.filter(pk=row.pk).update(enabled=True, date_changed=at(80))
    PeriodicTasks.update_changed()
    for second in (81, 100, 139, 141, 179, 181):
        beat.tick(at(second))
    assert due_times() == [on_the_second(140 if change == "interval" else 180)]


@pytest.mark.parametrize(("deadline", "runs"), [(None, 1), (3600, 1), (3599, 0)])
def test_a_crontab_run_that_was_missed_for_longer_than_the_deadline_is_left_out(settings, deadline, runs):
    """BEAT_CRON_STARTING_DEADLINE, as Celery's; intervals are made up for all the same, and the next run comes."""
    settings.DJANGO_TASKS = {"BEAT_CRON_STARTING_DEADLINE": deadline}
    conf.settings.reset()
    hourly = CrontabSchedule.objects.create(minute="0", hour="12", timezone="UTC")
    due, now = START.replace(microsecond=0), START.replace(microsecond=0) + timedelta(hours=1)
    periodic("cron", crontab=hourly, last_run_at=due - timedelta(days=1), changed=due - timedelta(days=3))
    periodic("every", period="hours", every=100, last_run_at=due - timedelta(hours=100), changed=due - timedelta(days=9))
    try:
        beat = Scheduler()
        beat.tick(now)
        assert (len(due_times("cron")), len(due_times("every"))) == (runs, 1)
        beat.tick(due + timedelta(days=1, seconds=1))
        assert due_times("cron")[runs:] == [due + timedelta(days=1)]
    finally:
        conf.settings.reset()


def test_an_edited_schedule_counts_for_its_rows():
    """Changing the interval itself, not the task, is an edit, too."""
    row = periodic(every=100)
    beat = Scheduler()
    beat.tick(at(0))
    row.interval.every = 2
    row.interval.save()
    beat.tick(at(1.1))
    beat.tick(at(2.1))
    assert due_times() == [on_the_second(2)]


def test_new_and_deleted_rows_are_noticed():
    """A row that comes runs; one that goes doesn't."""
    going = periodic("going", every=5)
    beat = Scheduler()
    beat.tick(at(0))
    going.delete()
    periodic("coming", every=5, changed=at(1))
    beat.tick(at(1.5))
    beat.tick(at(7))
    assert [name for name, _ in sent()] == ["coming"]


def test_a_row_that_was_just_switched_off_is_not_sent():
    """Even before the edit is noticed: the row is looked at in the transaction that sends it."""
    row = periodic(every=5)
    beat = Scheduler()
    beat.tick(at(0))
    PeriodicTask.objects.filter(pk=row.pk).update(enabled=False)
    beat.tick(at(5))
    assert not sent()
    assert not BeatRun.objects.exists()


@pytest.mark.parametrize("how", ["saved", "updated", "updated without a word"])
def test_a_row_that_is_enabled_again_does_not_run_for_the_past(how):
    """What was due while it was disabled stays undone, in this beat and in the next."""
    row = periodic(every=100, changed=at(-1000), enabled=False)
    beat = Scheduler()
    beat.tick(at(0))
    if how == "saved":
        row.enabled = True
        row.save()
        PeriodicTask.objects.filter(pk=row.pk).update(date_changed=at(10))
    else:
        PeriodicTask.objects.filter(pk=row.pk).update(enabled=True)
    if how == "updated":
        PeriodicTasks.update_changed()
    beat.tick(at(10.5))
    beat.tick(at(70))
    beat.tick(at(75))
    Scheduler().tick(at(75))
    assert not sent()
    beat.tick(at(175))
    assert len(sent()) == 1


def test_an_interval_changed_in_the_past_waits_for_its_next_time():
    """A crontab that is moved to an hour that has passed today runs tomorrow."""
    noon = CrontabSchedule.objects.create(minute="0", hour="18", timezone="UTC")
    row = periodic(crontab=noon, last_run_at=START - timedelta(hours=18), changed=START - timedelta(days=3))
    beat = Scheduler()
    beat.tick(at(0))
    row.crontab = CrontabSchedule.objects.create(minute="0", hour="6", timezone="UTC")
    row.save()
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=at(1))
    beat.tick(at(2))
    assert not sent()
    beat.tick(START + timedelta(hours=18, minutes=1))
    assert due_times() == [datetime(2026, 3, 3, 6, 0, tzinfo=UTC)]


def test_a_start_time_is_the_first_run():
    """Nothing runs before it; the grid of an interval goes through it."""
    periodic(every=60, start_time=at(100), changed=at(-500))
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(99))
    assert not sent()
    beat.tick(at(100))
    beat.tick(at(161))
    assert due_times() == [at(100), at(160)]


def test_a_one_off_runs_once_and_is_switched_off():
    """Other beats are told by the date of the schedules."""
    row = periodic(every=5, one_off=True)
    before = PeriodicTasks.last_change()
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(5))
    beat.tick(at(15))
    row.refresh_from_db()
    assert len(sent()) == 1
    assert (row.enabled, row.total_run_count) == (False, 1)
    assert PeriodicTasks.last_change() > before


def test_a_one_off_runs_once_though_two_beats_do_not_know_of_each_other():
    """The second finds the row switched off when it would send."""
    periodic(every=5, one_off=True)
    one, other = Scheduler(max_interval=1000), Scheduler(max_interval=1000)
    one.tick(at(0))
    other.tick(at(0))
    one.tick(at(5))
    other.tick(at(10))
    assert len(sent()) == 1


def test_a_clocked_time_runs_once():
    """It is a one-off, and one whose time had passed when it was written runs at once."""
    when = ClockedSchedule.objects.create(clocked_time=at(3))
    past = ClockedSchedule.objects.create(clocked_time=at(-60))
    periodic("clocked", clocked=when, one_off=True)
    periodic("late", clocked=past, one_off=True)
    beat = Scheduler()
    beat.tick(at(0))
    assert [name for name, _ in sent()] == ["late"]
    beat.tick(at(3))
    beat.tick(at(100))
    Scheduler().tick(at(200))
    assert [name for name, _ in sent()] == ["late", "clocked"]
    assert not PeriodicTask.objects.filter(enabled=True).exists()


def test_an_expired_row_is_switched_off_without_a_run():
    """After its date there is nothing more to send, and the admin shows so."""
    row = periodic(every=10, expires=at(25))
    beat = Scheduler()
    for second in range(0, 60, 5):
        beat.tick(at(second))
    row.refresh_from_db()
    assert due_times() == [on_the_second(10), on_the_second(20)]
    assert not row.enabled


def test_expire_seconds_count_from_sending():
    """The message goes stale by itself."""
    periodic(every=10, expire_seconds=60)
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(10))
    expires = datetime.fromisoformat(json.loads(Message.objects.get().headers)["expires"])
    assert timedelta(seconds=50) < expires - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_solar_event_runs():
    """Sunset in Berlin on 2 March 2026 is at 16:47 UTC."""
    pytest.importorskip("ephem")
    periodic(solar=SolarSchedule.objects.create(event="sunset", latitude="52.52", longitude="13.40"))
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(START + timedelta(hours=12))
    [due] = due_times()
    assert due.strftime("%d %H:%M") == "02 16:47"


BROKEN = {
    "february": ({"minute": "0", "day_of_month": "31", "month_of_year": "2"}, {}, "never occurs|never comes"),
    "minute": ({"minute": "99"}, {}, "minute is '99'"),
    "words": ({"hour": "noonish"}, {}, "hour is 'noonish'"),
    "nothing": ({"hour": ""}, {}, "hour is ''"),
    "eighth day": ({"day_of_week": "5-8"}, {}, "day_of_week is '5-8'"),
    "args": (None, {"args": "[1,"}, r"args are '\[1,'"),
    "kwargs": (None, {"kwargs": "[1]"}, "JSON object"),
    "headers": (None, {"headers": "nope"}, "headers are 'nope'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_row_is_reported_once_and_stops_no_other(kind, caplog):
    """The log names it and what is wrong; when it is changed and still wrong, again."""
    fields, columns, text = BROKEN[kind]
    crontab_row = {} if fields is None else {"crontab": CrontabSchedule.objects.create(**fields)}
    row = periodic("broken one", **crontab_row)
    PeriodicTask.objects.filter(pk=row.pk).update(**columns)
    periodic("sound", every=1)
    beat = Scheduler()
    with caplog.at_level(logging.ERROR, logger="django_tasks.beat"):
        for second in range(5):
            beat.tick(at(second))
        [record] = caplog.records
        assert record.getMessage().startswith("Periodic task 'broken one' can't be scheduled")
        assert re.search(text, record.getMessage())
        PeriodicTask.objects.filter(pk=row.pk).update(description="still wrong", queue="q", date_changed=at(5))
        PeriodicTasks.update_changed()
        for second in range(5, 9):
            beat.tick(at(second))
        assert len(caplog.records) == 2
    assert [name for name, _ in sent()] == ["sound"] * 8


@pytest.mark.parametrize(
    ("table", "column", "value", "text"),
    [
        ("solarschedule", "event", "high_tea", "'high_tea'"),
        ("crontabschedule", "timezone", "Mars/Olympus", "'Mars/Olympus'"),
        ("intervalschedule", "period", "fortnights", "'fortnights'"),
        ("intervalschedule", "every", 0, "longer than nothing"),
    ],
)
def test_values_that_no_form_lets_pass_are_reported_too(table, column, value, text, caplog):
    """Rows written by SQL or by another version hide no others."""
    schedules = {
        "solarschedule": lambda: {"solar": SolarSchedule.objects.create(event="sunset", latitude=1, longitude=1)},
        "crontabschedule": lambda: {"crontab": CrontabSchedule.objects.create(minute="0")},
        "intervalschedule": lambda: {"interval": IntervalSchedule.objects.create(every=77, period="seconds")},
    }
    periodic("broken", **schedules[table]())
    periodic("sound", every=1)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE django_celery_beat_{table} SET {column} = %s WHERE {column} <> 1", [value])
    if table == "intervalschedule":
        PeriodicTask.objects.filter(name="sound").update(interval=IntervalSchedule.objects.create(every=1, period="seconds"))
    beat = Scheduler()
    with caplog.at_level(logging.ERROR, logger="django_tasks.beat"):
        beat.tick(at(0))
        beat.tick(at(1))
    assert text in caplog.text
    assert [name for name, _ in sent()] == ["sound"]


def test_without_time_zones_in_the_database(settings):
    """USE_TZ = False keeps local naive times in django-celery-beat's rows; beat reads them right."""
    settings.USE_TZ = False
    settings.TIME_ZONE = "America/New_York"
    naive = datetime(2026, 3, 2, 7, 0)
    for database in connections.all():
        database.close()
        database.__dict__.pop("timezone", None)
    interval = IntervalSchedule.objects.create(every=10, period="seconds")
    row = PeriodicTask.objects.create(name="naive", task="t", interval=interval)
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=naive)
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(10))
    row.refresh_from_db()
    assert row.last_run_at == datetime(2026, 3, 2, 7, 0, 10)
    assert BeatRun.objects.get().due_at == datetime(2026, 3, 2, 7, 0, 10)
    beat.tick(at(20))
    Scheduler().tick(at(20.5))
    assert len(sent()) == 2
