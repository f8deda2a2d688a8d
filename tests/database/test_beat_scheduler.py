"""What beat sends, when, and how often: once."""

# ruff: noqa: DTZ001  with USE_TZ off, rows have naive times

import json
import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

from django_tasks import brokers, conf, registry
from django_tasks.beat import runs, scheduler
from django_tasks.beat.scheduler import Scheduler
from django_tasks.clock import EPOCH
from django_tasks.exceptions import OperationalError
from django_tasks.models import BeatRun, Message
from django_tasks.schedules import clocked, crontab

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def on_the_second(seconds: int) -> datetime:
    return at(seconds).replace(microsecond=0)


def periodic(name="beat", *, every=10, period="seconds", changed=START, **fields):
    """Write a row as if it had been saved at ``changed``."""
    if not fields.keys() & {"crontab", "solar", "clocked", "interval"}:
        fields["interval"], _ = IntervalSchedule.objects.get_or_create(every=every, period=period)
    row = PeriodicTask.objects.create(name=name, task=fields.pop("task", "shop.tasks.count"), **fields)
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=changed)
    row.date_changed = changed
    return row


def sent() -> list[tuple[str, str]]:
    return [(json.loads(message.headers)["periodic_task_name"], message.task_id) for message in Message.objects.order_by("id")]


def due_times(name="beat") -> list[datetime]:
    return list(BeatRun.objects.filter(entry=name).order_by("due_at").values_list("due_at", flat=True))


@pytest.fixture
def declare(settings):
    """Set BEAT_SCHEDULE."""

    def declared(**entries):
        settings.DJANGO_TASKS = {"BEAT_SCHEDULE": entries}
        conf.settings.reset()

    yield declared
    conf.settings.reset()


@pytest.fixture
def recorder(monkeypatch):
    """A broker that can't join a transaction, and can be out of order."""

    class Recorder:
        joins_transaction = False
        delays = True
        longest_delay = float("inf")
        alias = None

        def __init__(self):
            self.ids, self.broken = [], False

        def publish(self, envelopes):
            if self.broken:
                raise OperationalError("no broker")
            assert not connection.in_atomic_block
            self.ids += [envelope.headers["id"] for envelope in envelopes]

    found = Recorder()
    monkeypatch.setattr(brokers, "current", lambda: found)
    return found


def test_a_run_is_a_record_and_a_message():
    """What is due is recorded and published under one id, and the row shows it."""
    row = periodic(args="[1, 2]", kwargs='{"key": "value"}', queue="slow", priority=7)
    beat = Scheduler()
    assert beat.tick(at(0)) == pytest.approx(1.0)
    assert beat.tick(at(9.5)) == pytest.approx(0.25)
    assert not sent()
    beat.tick(at(10))
    run = BeatRun.objects.get()
    message = Message.objects.get()
    assert (run.entry, run.due_at, run.task, run.task_id) == ("beat", on_the_second(10), "shop.tasks.count", message.task_id)
    assert run.sent_at == at(10)
    assert (message.queue, message.priority, message.task) == ("slow", 7, "shop.tasks.count")
    assert json.loads(bytes(message.body))[:2] == [[1, 2], {"key": "value"}]
    assert json.loads(message.headers)["periodic_task_name"] == "beat"
    row.refresh_from_db()
    assert (row.last_run_at, row.total_run_count) == (on_the_second(10), 1)


def test_each_due_time_is_sent_once():
    """Ticking on goes along the grid."""
    periodic(every=1)
    beat = Scheduler()
    for tenth in range(51):
        beat.tick(at(tenth / 10))
    assert due_times() == [on_the_second(second) for second in range(1, 6)]
    assert len(sent()) == 5


def test_a_run_does_not_look_like_an_edit():
    """Neither the date of the row nor that of the schedules changes, so nothing is read again."""
    row = periodic()
    changed = PeriodicTasks.last_change()
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(11))
    assert len(sent()) == 1
    row.refresh_from_db()
    assert (row.date_changed, PeriodicTasks.last_change()) == (START, changed)


def test_two_beats_send_each_due_time_once():
    """Two that both believe to lead stay in step by the records alone."""
    periodic(every=1)
    one, other = Scheduler(), Scheduler()
    for tenth in range(31):
        one.tick(at(tenth / 10))
        other.tick(at(tenth / 10 + 0.05))
    assert due_times() == [on_the_second(second) for second in (1, 2, 3)]
    assert len(sent()) == 3


def test_a_successor_with_old_rows_sends_nothing_twice():
    """A beat that read the rows before the other's runs goes on where the other stopped."""
    periodic(every=1)
    late = Scheduler()
    late.tick(at(0))
    early = Scheduler()
    early.tick(at(0))
    early.tick(at(3))
    late.tick(at(3.1))
    late.tick(at(4))
    assert due_times() == [on_the_second(3), on_the_second(4)]
    assert len(sent()) == 2


def test_missed_runs_are_made_up_for_by_one():
    """After an hour without beat a ten-second task runs once, for its last due time."""
    periodic(every=10, last_run_at=on_the_second(0))
    Scheduler().tick(at(3605))
    assert due_times() == [on_the_second(3600)]


def test_a_missed_crontab_runs_once():
    """After ten days without beat a daily task runs once; the next time is its usual one."""
    daily = CrontabSchedule.objects.create(minute="0", hour="3", timezone="Europe/Berlin")
    periodic(crontab=daily, last_run_at=at(-86400))
    beat = Scheduler()
    now = START + timedelta(days=10)
    beat.tick(now)
    beat.tick(now + timedelta(hours=1))
    assert due_times() == [datetime(2026, 3, 12, 2, 0, tzinfo=UTC)]


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


def test_record_and_message_come_together_or_not_at_all(monkeypatch):
    """If publishing fails, nothing is recorded, and the same run is sent at the next attempt."""
    periodic(every=10)
    beat = Scheduler()
    beat.tick(at(0))
    publish = scheduler.client.publish
    monkeypatch.setattr(scheduler.client, "publish", lambda *_, **__: (_ for _ in ()).throw(OperationalError("no broker")))
    with pytest.raises(OperationalError):
        beat.tick(at(10))
    assert not BeatRun.objects.exists()
    monkeypatch.setattr(scheduler.client, "publish", publish)
    beat.tick(at(11))
    assert due_times() == [on_the_second(10)]
    assert len(sent()) == 1


def test_a_broker_of_its_own_gets_what_is_on_record(recorder):
    """The run is recorded first, then sent, then marked."""
    periodic(every=10)
    beat = Scheduler()
    beat.tick(at(0))
    beat.tick(at(10))
    run = BeatRun.objects.get()
    assert recorder.ids == [run.task_id]
    assert run.sent_at == at(10)


def test_a_broker_that_is_away_gets_its_runs_later(recorder):
    """The record waits, unsent, and goes out under the same id; new runs queue behind it."""
    periodic(every=10)
    beat = Scheduler()
    beat.tick(at(0))
    recorder.broken = True
    with pytest.raises(OperationalError):
        beat.tick(at(10))
    with pytest.raises(OperationalError):
        beat.tick(at(20))
    assert list(BeatRun.objects.values_list("sent_at", flat=True)) == [None, None]
    recorder.broken = False
    beat.tick(at(21))
    assert recorder.ids == list(BeatRun.objects.order_by("due_at").values_list("task_id", flat=True))
    assert not BeatRun.objects.filter(sent_at=None).exists()
    assert due_times() == [on_the_second(10), on_the_second(20)]


@pytest.mark.parametrize("one_off", [False, True])
def test_a_successor_sends_what_its_predecessor_only_recorded(recorder, one_off):
    """With the same id, although a one-off is switched off by then."""
    periodic(every=10, one_off=one_off)
    first = Scheduler()
    first.tick(at(0))
    recorder.broken = True
    with pytest.raises(OperationalError):
        first.tick(at(10))
    recorder.broken = False
    Scheduler().tick(at(12))
    assert recorder.ids == [BeatRun.objects.get().task_id]
    assert BeatRun.objects.get().sent_at is not None


def test_an_unsent_run_of_a_deleted_task_is_dropped(recorder, caplog):
    """There is nothing left to send; the log says so."""
    BeatRun.objects.create(entry="gone", due_at=at(-5), task_id="x", task="t")
    with caplog.at_level(logging.WARNING, logger="django_tasks.beat"):
        Scheduler().tick(at(0))
    assert "'gone'" in caplog.text
    assert not BeatRun.objects.exists()
    assert not recorder.ids


def test_a_beat_that_leads_no_longer_sends_nothing():
    """The question is asked before every batch."""
    periodic(every=10)
    leads = [True]
    beat = Scheduler(may_send=lambda: leads[0])
    beat.tick(at(0))
    leads[0] = False
    beat.tick(at(10))
    assert not sent()
    leads[0] = True
    beat.tick(at(10.5))
    assert len(sent()) == 1


def test_old_records_are_pruned():
    """A week is kept."""
    for days in (1, 6, 8, 400):
        BeatRun.objects.create(entry="e", due_at=START - timedelta(days=days), task_id="x", task="t", sent_at=START)
    Scheduler().tick(at(0))
    assert due_times("e") == [START - timedelta(days=6), START - timedelta(days=1)]


def test_pruning_goes_in_pieces(monkeypatch):
    """A large backlog is no long transaction."""
    monkeypatch.setattr(runs, "_PRUNED_AT_ONCE", 10)
    BeatRun.objects.bulk_create(
        BeatRun(entry=str(number), due_at=START - timedelta(days=9), task_id="x", task="t", sent_at=START) for number in range(25)
    )
    beat = Scheduler()
    left = []
    for second in range(4):
        beat.tick(at(second * 1.5))
        left.append(BeatRun.objects.count())
    assert left == [15, 5, 0, 0]


def test_an_idle_look_costs_one_query():
    """However many rows there are."""
    for number in range(20):
        periodic(f"task {number}", every=1000)
    beat = Scheduler()
    beat.tick(at(0))
    with CaptureQueriesContext(connection) as queries:
        beat.tick(at(1.5))
        beat.tick(at(1.7))
    assert len(queries) == 1


def test_many_rows_due_at_once_go_in_bulk():
    """The statements of a batch don't grow with its runs."""
    interval = IntervalSchedule.objects.create(every=10, period="seconds")
    PeriodicTask.objects.bulk_create(PeriodicTask(name=f"task {number}", task="t", interval=interval) for number in range(400))
    PeriodicTask.objects.update(date_changed=START)
    beat = Scheduler()
    beat.tick(at(0))
    with CaptureQueriesContext(connection) as queries:
        beat.tick(at(10))
    assert Message.objects.count() == BeatRun.objects.count() == 400
    assert PeriodicTask.objects.filter(last_run_at=on_the_second(10), total_run_count=1).count() == 400
    assert len(queries) < 30


def test_rows_with_due_times_of_their_own_are_marked_in_bulk():
    """Each gets its own last run."""
    interval = IntervalSchedule.objects.create(every=1000, period="seconds")
    PeriodicTask.objects.bulk_create(PeriodicTask(name=f"{number:03}", task="t", interval=interval) for number in range(300))
    for number, row in enumerate(PeriodicTask.objects.order_by("name")):
        PeriodicTask.objects.filter(pk=row.pk).update(date_changed=at(number))
    beat = Scheduler()
    beat.tick(at(0))
    with CaptureQueriesContext(connection) as queries:
        beat.tick(at(1600))
    assert len(queries) < 40
    marked = PeriodicTask.objects.order_by("name").values_list("last_run_at", flat=True)
    assert list(marked) == [on_the_second(1000 + number) for number in range(300)]


def test_ids_come_from_entry_and_due_time():
    """The same run has the same id in every process, and no two runs share one."""
    periodic(every=10)
    one = Scheduler()
    one.tick(at(0))
    one.tick(at(10))
    first = BeatRun.objects.get().task_id
    BeatRun.objects.all().delete()
    Message.objects.all().delete()
    PeriodicTask.objects.update(last_run_at=None)
    other = Scheduler()
    other.tick(at(10.5))
    assert BeatRun.objects.get().task_id == first
    other.tick(at(20))
    assert len(set(BeatRun.objects.values_list("task_id", flat=True))) == 2


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
    assert BeatRun.objects.get().due_at == on_the_second(10).replace(tzinfo=None)
    beat.tick(at(20))
    Scheduler().tick(at(20.5))
    assert len(sent()) == 2


def test_epoch_is_where_the_grid_begins():
    """Said once, so that nobody moves it: moving it would move every interval of BEAT_SCHEDULE."""
    assert datetime(1970, 1, 1, tzinfo=UTC) == EPOCH


def test_a_tick_inside_a_transaction_of_a_test_works():
    """Nested transactions are savepoints; nothing here needs a connection of its own."""
    periodic(every=10)
    beat = Scheduler()
    with transaction.atomic():
        beat.tick(at(0))
        beat.tick(at(10))
    assert len(sent()) == 1
