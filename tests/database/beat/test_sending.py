"""What beat sends, when, and how often: once."""

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from django_tasks.beat import runs, scheduler
from django_tasks.beat.scheduler import Scheduler
from django_tasks.exceptions import OperationalError
from django_tasks.models import BeatRun, Message
from tests.database.beat.rows import START, at, due_times, on_the_second, periodic, sent

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_a_tick_inside_a_transaction_of_a_test_works():
    """Nested transactions are savepoints; nothing here needs a connection of its own."""
    periodic(every=10)
    beat = Scheduler()
    with transaction.atomic():
        beat.tick(at(0))
        beat.tick(at(10))
    assert len(sent()) == 1
