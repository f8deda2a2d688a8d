"""Waiting for results in a database, chords counted there, and what is old."""

import threading
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_tasks import clock, states
from django_tasks.messages import new_id
from django_tasks.models import ChordCounter, ChordPart, GroupResult, TaskResult
from django_tasks.result_backends.backend import NewChord
from django_tasks.result_backends.database import DatabaseResultBackend, reading
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, failure, meta, part
from tests.database.database_backend.keeping import committed, everywhere, kept
from tests.processes import SOON

# ---- waiting


@committed
def test_waiting_inside_a_transaction(backend, alias):
    """Where a transaction hides what others commit, waiting must be refused at once; reading what is there must not."""
    stored = meta()
    backend.store([stored])
    with transaction.atomic(using=alias):
        assert next(backend.wait([stored.task_id], None)).task_id == stored.task_id
        if alias == "default":
            with pytest.raises(RuntimeError, match="would never end"):
                next(backend.wait([new_id()], 5))


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True, databases=["default", "mysql"])
def test_waiting_under_repeatable_read(monkeypatch):
    """Under REPEATABLE READ waiting inside a transaction must be refused, under READ COMMITTED it must not."""
    backend = DatabaseResultBackend("mysql")
    with transaction.atomic(using="mysql"):
        for level in ("repeatable read", "serializable", None):
            monkeypatch.setattr(connections["mysql"], "isolation_level", level)
            with pytest.raises(RuntimeError, match="would never end"):
                next(backend.wait([new_id()], 5))
        monkeypatch.setattr(connections["mysql"], "isolation_level", "read committed")
        with pytest.raises(TimeoutError):
            next(backend.wait([new_id()], 0.01))


@committed
def test_a_waiter_asks_less_and_less_often(backend, alias):
    """Waiting must not ask the table more often than makes a difference: in a second, a few dozen times, on SQLite hardly at all."""
    with CaptureQueriesContext(connections[alias]) as queries, pytest.raises(TimeoutError):
        list(backend.wait([new_id()], 1.0))
    looks = sum("SELECT" in query["sql"] for query in queries)
    assert looks <= (3 if alias == "default" else 25)


@committed
def test_a_waiter_notices_soon(backend, alias, monkeypatch):
    """However long it has waited, a reader must notice a result soon; on SQLite without a look at the table that is due in any case."""
    monkeypatch.setattr(reading.DatabasePauses, "TRUST", 60.0)
    task_id, times = new_id(), {}
    waiting = threading.Event()

    def work():
        assert waiting.wait(SOON)
        try:
            backend.store([meta(task_id)])
            times["stored"] = clock.monotonic()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    timer = threading.Timer(0.6, waiting.set)
    timer.start()
    assert next(backend.wait([task_id], 90)).task_id == task_id
    noticed = clock.monotonic()
    thread.join()
    timer.join()
    assert noticed - times["stored"] < SOON


@pytest.mark.django_db(transaction=True)
def test_a_waiter_sees_its_own_threads_writes(monkeypatch):
    """What the waiting thread itself stores between two looks must end its wait, though SQLite doesn't announce it."""
    monkeypatch.setattr(reading.DatabasePauses, "TRUST", 60.0)
    backend, one, other = DatabaseResultBackend(), new_id(), new_id()
    backend.store([meta(one)])
    waiting = backend.wait([one, other], 90)
    assert next(waiting).task_id == one
    begun = clock.monotonic()
    backend.store([meta(other)])
    assert next(waiting).task_id == other
    assert clock.monotonic() - begun < SOON


@everywhere
def test_reading_many(backend, alias):
    """Many ids must be read with few questions, and unknown ones left out."""
    stored = [meta() for _ in range(10)]
    backend.store(stored)
    ids = [each.task_id for each in stored] + [new_id() for _ in range(1500)]
    with CaptureQueriesContext(connections[alias]) as queries:
        assert len(backend.fetch(ids)) == 10
    assert len(queries) <= 5


# ---- chords


@committed
def test_a_complete_chord_leaves_no_parts(backend, alias):
    """The rows of a complete chord's parts must go, and its counter stay, so that late parts find it complete."""
    group_id = new_id()
    backend.open_chords([NewChord(group_id, 1, BODY)])
    stored = part(group_id, 0)
    backend.store([stored])
    assert len(backend.count_chord_parts([stored])) == 1
    counter = ChordCounter.objects.using(alias).get(group_id=group_id)
    assert (counter.date_done, counter.claimed_until > clock.now()) == (None, True)
    # Whoever gets the chord after this one needs them.
    assert ChordPart.objects.using(alias).filter(group_id=group_id).exists()
    backend.close_chords([group_id])
    assert not ChordPart.objects.using(alias).filter(group_id=group_id).exists()
    counter = ChordCounter.objects.using(alias).get(group_id=group_id)
    assert (counter.size, counter.done, counter.date_done is None) == (1, 1, False)
    assert backend.count_chord_parts([part(group_id, 1)]) == []
    assert not ChordPart.objects.using(alias).filter(group_id=group_id).exists()


@everywhere
def test_parts_of_nobody_leave_nothing(backend, alias):
    """Parts of an unknown chord must not be kept."""
    assert backend.count_chord_parts([part(new_id(), 0)]) == []
    assert ChordPart.objects.using(alias).count() == 0


@everywhere
def test_a_large_chord(backend):
    """Hundreds of parts in one batch must be counted at once."""
    group_id = new_id()
    backend.open_chords([NewChord(group_id, 700, BODY)])
    parts = [part(group_id, position) for position in range(700)]
    backend.store(parts)
    (ready,) = backend.count_chord_parts(parts)
    assert [decode(each) for each in ready.parts] == list(range(700))


@everywhere
def test_a_refused_part_fails_its_chord(backend):
    """A part whose result could not be kept must make the body fail, not run with a value that is nowhere."""
    group_id = new_id()
    backend.open_chords([NewChord(group_id, 1, BODY)])
    bad = part(group_id, 0, retries=2**70)
    backend.store([bad])
    (ready,) = backend.count_chord_parts([bad])
    assert ready.parts[0].status == states.FAILURE


# ---- what is old


@committed
def test_old_rows_of_every_kind_go(backend, alias):
    """Old results, failures a month later, tasks that were never heard of again, groups and finished chords must go; the rest must stay."""
    before = clock.now() - timedelta(days=1)
    old = before - timedelta(hours=1)
    ended, recent = meta(date_done=old), meta()
    failed, long_failed = failure(date_done=old), failure(date_done=old - timedelta(days=30))
    silent, running, waiting = (meta(status=states.STARTED, value={}, date_started=when) for when in (old, clock.now(), None))
    backend.store([ended, recent, failed, long_failed, silent, running, waiting])
    TaskResult.objects.using(alias).filter(task_id__in=[silent.task_id, running.task_id]).update(date_created=old)
    for name in ("old-group", "new-group"):
        backend.store_group(name, [])
    GroupResult.objects.using(alias).filter(group_id="old-group").update(date_created=old)
    for name in ("old-done", "new-done", "old-waiting", "ancient"):
        backend.open_chords([NewChord(name, 1 if name.endswith("done") else 2, BODY)])
        backend.count_chord_parts([part(name, 0)])
    backend.close_chords(["old-done", "new-done"])
    chords = ChordCounter.objects.using(alias)
    chords.filter(group_id="old-done").update(date_done=old, date_created=old)
    chords.filter(group_id="old-waiting").update(date_created=old)
    chords.filter(group_id="ancient").update(date_created=old - timedelta(days=60))
    assert backend.expire(before, limit=100) == 6
    assert backend.expire(before, limit=100) == 0
    assert [each is None for each in kept(backend, ended, recent, silent, running, waiting)] == [True, False, True, False, False]
    assert set(GroupResult.objects.using(alias).values_list("group_id", flat=True)) == {"new-group"}
    assert set(chords.values_list("group_id", flat=True)) == {"new-done", "old-waiting"}
    assert set(ChordPart.objects.using(alias).values_list("group_id", flat=True)) == {"old-waiting"}


@everywhere
def test_the_limit_holds_for_all_together(backend, alias):
    """``limit`` must bound what one call deletes, so that it holds no lock for long."""
    before = clock.now()
    backend.store([meta(date_done=before - timedelta(hours=1)) for _ in range(3)])
    for number in range(3):
        backend.store_group(f"g{number}", [])
    GroupResult.objects.using(alias).update(date_created=before - timedelta(hours=1))
    assert [backend.expire(before, limit=2) for _ in range(4)] == [2, 2, 2, 0]


# ---- opening


def test_the_alias_is_told():
    """Whoever wants to share a transaction must be told the database's alias."""
    assert DatabaseResultBackend("default").alias == "default"
