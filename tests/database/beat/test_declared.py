"""Entries of the settings and of add_periodic_task()."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from django_tasks import registry
from django_tasks.beat.scheduler import Scheduler
from django_tasks.clock import EPOCH
from django_tasks.models import BeatRun, Message
from django_tasks.schedules import clocked, crontab
from tests.database.beat.rows import START, at, due_times, on_the_second, periodic, sent

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_run_that_can_not_be_encoded_stops_no_other(declare, caplog):
    """One entry's arguments are no JSON: the others of the same batch are sent, and it is named."""
    declare(
        **{f"sound-{number}": {"task": "t", "schedule": 10} for number in range(5)},
        broken={"task": "t", "schedule": 10, "args": [{1, object()}]},
    )
    beat = Scheduler()
    beat.tick(at(0))
    with caplog.at_level(logging.ERROR, logger="django_tasks.beat"):
        beat.tick(at(10))
        beat.tick(at(20))
    assert len(sent()) == 10
    assert len(caplog.records) == 1
    assert "'broken'" in caplog.text


def test_declared_entries_run_on_the_grid_of_1970(declare):
    """BEAT_SCHEDULE takes seconds, timedeltas and crontabs, with options."""
    declare(
        seconds={"task": "shop.tasks.count", "schedule": 30.0, "args": (1,), "options": {"queue": "fast", "priority": 3}},
        hourly={"task": "shop.tasks.count", "schedule": crontab(minute="5")},
        off={"task": "shop.tasks.count", "schedule": 1, "enabled": False},
    )
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(30))
    beat.tick(at(301))
    assert due_times("seconds") == [on_the_second(30), on_the_second(300)]
    assert due_times("hourly") == [on_the_second(300)]
    first = Message.objects.order_by("id")[0]
    assert (first.queue, first.priority) == ("fast", 3)


def test_declared_entries_remember_their_last_run(declare):
    """A beat that starts later makes up for what was missed, once, even when its record is old."""
    declare(daily={"task": "t", "schedule": crontab(minute="0", hour="6")})
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(START + timedelta(days=1))
    BeatRun.objects.create(entry="gone", due_at=START - timedelta(days=30), task_id="x", task="t", sent_at=START)
    later = Scheduler()
    later.tick(START + timedelta(days=30))
    assert due_times("daily") == [datetime(2026, 4, 1, 6, 0, tzinfo=UTC)]
    assert len(sent()) == 2
    assert not due_times("gone")


def test_a_declared_entry_that_never_ran_counts_from_the_predecessor(declare):
    """A run that fell between two leaders isn't lost."""
    declare(hourly={"task": "t", "schedule": 3600})
    Scheduler(since=at(3590)).tick(at(3605))
    assert due_times("hourly") == [on_the_second(3600)]


def test_a_row_switches_a_declared_entry_off(declare):
    """django-celery-beat copies BEAT_SCHEDULE into rows: the copy doesn't run beside it, but can stop it."""
    declare(both={"task": "t", "schedule": 10})
    row = periodic("both", every=7)
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(10))
    assert due_times("both") == [on_the_second(10)]
    row.refresh_from_db()
    assert row.total_run_count == 1
    row.enabled = False
    row.save()
    beat.tick(at(11.5))
    beat.tick(at(30))
    assert len(sent()) == 1
    beat.tick(at(54))
    row.enabled = True
    row.save()
    beat.tick(at(55.5))
    assert len(sent()) == 1
    beat.tick(at(60))
    assert len(sent()) == 2


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("often", "dictionary"),
        ({"schedule": 10}, "no 'task'"),
        ({"task": "t"}, "no 'schedule'"),
        ({"task": "t", "schedule": "daily"}, "schedule is 'daily'"),
        ({"task": "t", "schedule": 10, "arguments": [1]}, "unknown key 'arguments'"),
        ({"task": "t", "schedule": 10, "args": 5}, "args are 5"),
        ({"task": "t", "schedule": 10, "kwargs": [1]}, "kwargs are"),
        ({"task": "t", "schedule": 10, "options": {"queu": "x"}}, "did you mean 'queue'"),
        ({"task": "t", "schedule": 10, "start_time": "noon"}, "start_time is 'noon'"),
    ],
)
def test_a_broken_declaration_is_named(spec, text, declare, caplog):
    """What BEAT_SCHEDULE has wrong is said with its value, and the rest goes on."""
    declare(broken=spec, sound={"task": "t", "schedule": 10})
    beat = Scheduler()
    with caplog.at_level(logging.ERROR, logger="django_tasks.beat"):
        beat.tick(at(0))
    beat.tick(at(10))
    assert text in caplog.text
    assert "'broken'" in caplog.text
    assert [name for name, _ in sent()] == ["sound"]


def test_add_periodic_task_is_scheduled(monkeypatch):
    """What the app collected runs beside the settings."""
    added = {"task": "t", "schedule": 10, "args": (), "kwargs": {}, "options": {}}
    monkeypatch.setattr(registry, "periodic_tasks", {"added": added}, raising=False)
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(10))
    assert [name for name, _ in sent()] == ["added"]


def test_a_clocked_declaration_runs_once_for_all_beats(declare):
    """Its record stays for as long as it is declared."""
    declare(once={"task": "t", "schedule": clocked(at(5))})
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(6))
    Scheduler().tick(START + timedelta(days=60))
    Scheduler().tick(START + timedelta(days=61))
    assert len(sent()) == 1


def test_epoch_is_where_the_grid_begins():
    """Said once, so that nobody moves it: moving it would move every interval of BEAT_SCHEDULE."""
    assert datetime(1970, 1, 1, tzinfo=UTC) == EPOCH
