"""What beat does with rows, on every database that Django projects use."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connections
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from django_tasks import clock, conf
from django_tasks.beat.leader import Leader
from django_tasks.beat.scheduler import Scheduler
from django_tasks.models import BeatRun, Message

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def _everything_in(alias, settings):
    """Keep every row, messages included, in the database of the test."""

    class Router:
        def db_for_read(self, model, **hints):
            return alias

        db_for_write = db_for_read

        def allow_relation(self, *objects, **hints):
            return True

    settings.DATABASE_ROUTERS = [Router()]
    settings.DJANGO_TASKS = {"BROKER_URL": f"db://{alias}"}
    conf.settings.reset()
    yield
    conf.settings.reset()


def many(count, *, every=10, **fields):
    interval = IntervalSchedule.objects.create(every=every, period="seconds")
    PeriodicTask.objects.bulk_create(PeriodicTask(name=f"{number:04}", task="t", interval=interval, **fields) for number in range(count))
    PeriodicTask.objects.update(date_changed=START)
    PeriodicTasks.update_changed()


def pass_over(error):
    """A locked SQLite file, a deadlock's victim: the service tries again, and so does the test."""
    if "locked" not in str(error) and "deadlock" not in str(error).lower():
        raise error


def in_threads(*functions):
    """Run functions at the same time, each with connections of its own; raise what they raise."""
    faults, gate = [], threading.Barrier(len(functions))

    def run(function):
        try:
            gate.wait(10)
            function()
        except Exception as error:
            faults.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults, faults


def test_a_batch_is_recorded_published_and_marked():
    """All columns take what they are given, to the microsecond where there is one."""
    many(120)
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(10.5))
    beat.tick(at(20.5))
    assert BeatRun.objects.count() == Message.objects.count() == 240
    assert set(BeatRun.objects.values_list("due_at", flat=True)) == {at(10), at(20)}
    assert set(PeriodicTask.objects.values_list("last_run_at", "total_run_count")) == {(at(20), 2)}


def test_due_times_below_a_second_are_kept():
    """A half-second interval has two runs a second, told apart on every database."""
    interval = IntervalSchedule.objects.create(every=500_000, period="microseconds")
    PeriodicTask.objects.create(name="fast", task="t", interval=interval)
    PeriodicTask.objects.update(date_changed=START)
    beat = Scheduler()
    for tenth in range(16):
        beat.tick(at(tenth / 10))
    assert list(BeatRun.objects.order_by("due_at").values_list("due_at", flat=True)) == [at(0.5), at(1), at(1.5)]


def test_beats_at_the_same_time_send_each_run_once():
    """Four that all take themselves for the leader, in one race after the other."""
    many(50)
    beats = [Scheduler() for _ in range(4)]
    for beat in beats:
        beat.tick(at(0))

    def race(beat):
        for step in range(1, 6):
            for _attempt in range(50):
                try:
                    beat.tick(at(step * 10))
                    break
                except OperationalError as error:
                    pass_over(error)

    in_threads(*(lambda beat=beat: race(beat) for beat in beats))
    assert BeatRun.objects.count() == 250
    assert sorted(Message.objects.values_list("task_id", flat=True)) == sorted(BeatRun.objects.values_list("task_id", flat=True))
    assert set(PeriodicTask.objects.values_list("total_run_count", flat=True)) == {5}


def test_one_offs_run_once_whoever_comes_first():
    """The second beat is behind by a run, and finds the rows switched off."""
    many(30, one_off=True)
    one, other = Scheduler(max_interval=1000), Scheduler(max_interval=1000)
    one.tick(at(0))
    other.tick(at(0))
    one.tick(at(10))
    other.tick(at(20))
    assert Message.objects.count() == 30
    assert not PeriodicTask.objects.filter(enabled=True).exists()


def test_one_beat_wins_an_election():
    """Ten that ask at once."""
    leaders = [Leader(10) for _ in range(10)]
    won = []

    def ask(leader):
        try:
            if leader.lead(clock.now()):
                won.append(leader)
        except OperationalError as error:
            pass_over(error)

    in_threads(*(lambda leader=leader: ask(leader) for leader in leaders))
    assert len(won) == 1
    assert sum(leader.lead(clock.now()) for leader in leaders) == 1


def test_a_zone_that_is_unknown_hides_no_row(caplog, alias):
    """It is read as text, so the query doesn't fail on it."""
    many(3)
    crontab = CrontabSchedule.objects.create(minute="0")
    PeriodicTask.objects.filter(name="0001").update(crontab=crontab, interval=None)
    with connections[alias].cursor() as cursor:
        cursor.execute("UPDATE django_celery_beat_crontabschedule SET timezone = 'Mars/Olympus'")
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(10))
    assert "'0001'" in caplog.text
    assert sorted(BeatRun.objects.values_list("entry", flat=True)) == ["0000", "0002"]


def test_old_records_go_and_the_last_of_a_declared_entry_stays(settings, alias):
    """The statement works where a table can't be read in its own delete."""
    settings.DJANGO_TASKS = {"BROKER_URL": f"db://{alias}", "BEAT_SCHEDULE": {"declared": {"task": "t", "schedule": timedelta(days=30)}}}
    conf.settings.reset()
    for days in (20, 10):
        for name in ("declared", "row"):
            BeatRun.objects.create(entry=name, due_at=at(-86400 * days), task_id="x", task="t", sent_at=START)
    Scheduler().tick(at(0))
    assert list(BeatRun.objects.values_list("entry", "due_at")) == [("declared", at(-864000))]
