"""Schedules over a span of time that passes in a moment."""

from datetime import UTC, datetime, timedelta

import pytest
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from django_tasks import clock
from django_tasks.models import BeatRun, Message
from django_tasks.schedules import crontab
from django_tasks.testing import due, in_memory, run_beat, travel
from tests.sampleapp.tasks import add

NEW_YEAR = datetime(2031, 1, 1, tzinfo=UTC)


@pytest.fixture
def schedule(settings):
    """A daily entry in the settings, an hourly row."""
    settings.DJANGO_TASKS = {
        "BEAT_SCHEDULE": {"nightly": {"task": add.name, "schedule": crontab(hour=4, minute=30), "args": (1, 2)}},
    }
    with travel(to=NEW_YEAR, tick=False):
        every, _ = IntervalSchedule.objects.get_or_create(every=12, period=IntervalSchedule.HOURS)
        PeriodicTask.objects.create(name="half-days", task="shop.tasks.count", interval=every, args="[7]")
        yield


@pytest.mark.django_db
def test_due_says_when_and_sends_nothing(schedule):
    """Every due time of rows and settings, in order."""
    found = due(timedelta(days=1))
    assert [(one.name, one.at - NEW_YEAR) for one in found] == [
        ("nightly", timedelta(hours=4, minutes=30)),
        ("half-days", timedelta(hours=12)),
        ("half-days", timedelta(hours=24)),
    ]
    assert due(NEW_YEAR + timedelta(hours=5)) == found[:1]
    assert (Message.objects.count(), BeatRun.objects.count()) == (0, 0)


@pytest.mark.django_db
def test_beat_publishes_at_each_due_time(schedule):
    """What due() foretells is sent, each at its time; afterwards it is as late as before, and a second beat sends nothing again."""
    foretold = due(timedelta(days=2))
    with in_memory() as queue:
        sent = run_beat(timedelta(days=2))
        assert clock.now() == NEW_YEAR
        assert [(one.at, one.name, one.task) for one in sent] == [(one.at, one.name, one.task) for one in foretold]
        assert [(one.task, one.at) for one in queue.published()] == [(one.task, one.at) for one in sent]
        queue.assert_published(add, args=(1, 2), times=2)
        assert [outcome.value for outcome in queue.run_pending() if outcome.state == "SUCCESS"] == [3, 3]
        assert run_beat(timedelta(days=2)) == []


@pytest.mark.django_db
def test_beat_on_the_database_broker(schedule):
    """Messages are rows of the test's transaction."""
    assert len(run_beat(timedelta(hours=5))) == 1
    assert Message.objects.get().task == add.name


@pytest.mark.django_db
def test_a_span_that_lies_elsewhere(settings):
    """A span may start somewhere else than now; crontabs follow their time zone."""
    zone, _ = CrontabSchedule.objects.get_or_create(minute="0", hour="9", timezone="Europe/Berlin")
    with travel(to=NEW_YEAR):
        PeriodicTask.objects.create(name="mornings", task="shop.tasks.count", crontab=zone)
    with in_memory():
        sent = run_beat(datetime(2031, 7, 2, tzinfo=UTC), since=datetime(2031, 7, 1, tzinfo=UTC))
    assert [one.at for one in sent] == [datetime(2031, 7, 1, 7, tzinfo=UTC)]
