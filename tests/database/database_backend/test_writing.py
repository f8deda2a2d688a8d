"""Results in a database: transactions, values it refuses, databases that are away."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError as DjangoOperationalError
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_tasks import clock, states
from django_tasks.exceptions import BackendStoreError, OperationalError
from django_tasks.messages import new_id
from django_tasks.models import GroupResult, TaskResult
from django_tasks.result_backends.backend import NewChord
from django_tasks.result_backends.database import DatabaseResultBackend, sizes
from django_tasks.result_backends.database.writing import logger as writing_logger
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, meta, part
from tests.database.database_backend.keeping import committed, everywhere, kept

# ---- writing


@everywhere
def test_a_batch_is_one_statement(backend, alias):
    """However many results there are, storing them must not take a statement each."""
    with transaction.atomic(using=alias), CaptureQueriesContext(connections[alias]) as queries:
        backend.store([meta() for _ in range(50)])
    inserts = [query["sql"] for query in queries if "INSERT" in query["sql"]]
    # Django's SQLite cursor notes what executemany repeats in one line.
    assert len(inserts) == 1


@everywhere
def test_rows_are_what_django_reads(backend, alias):
    """The model, and so the admin, must see the values and the times that were stored; «created» is when it was sent, if that is known."""
    done = datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=UTC)
    stored = meta(name="n", args="[1]", worker="w", date_done=done, date_started=done - timedelta(seconds=1), runtime=1.0)
    before = clock.now()
    backend.store([stored])
    row = TaskResult.objects.using(alias).get(task_id=stored.task_id)
    assert (row.task_name, row.task_args, row.worker, row.status, row.result) == ("n", "[1]", "w", "SUCCESS", "5")
    assert (row.date_done, row.date_started) == (done, done - timedelta(seconds=1))
    sent = done - timedelta(minutes=5)
    backend.store([told := meta(date_created=sent)])
    assert TaskResult.objects.using(alias).get(task_id=told.task_id).date_created == sent
    assert before - timedelta(seconds=1) <= row.date_created <= clock.now() + timedelta(seconds=1)


@everywhere
def test_rows_that_django_wrote(backend, alias):
    """A row that was made through the model must be read, even one whose meta was broken by hand."""
    moment = datetime(2026, 5, 1, 12, tzinfo=UTC)
    TaskResult.objects.using(alias).create(task_id="by-hand", status="STARTED", date_created=moment, date_started=moment, meta="{broken")
    found = backend.fetch(["by-hand"])["by-hand"]
    assert (found.status, found.date_started, found.children, found.result) == ("STARTED", moment, None, None)


@pytest.mark.django_db
@pytest.mark.parametrize(("use_tz", "zone"), [(True, "Asia/Tokyo"), (False, "Asia/Tokyo"), (False, "UTC")])
def test_times_without_zones(settings, use_tz, zone):
    """With USE_TZ off, and in any zone, times must be kept as Django keeps them and come back in UTC."""
    from django.utils import timezone

    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    done = datetime(2026, 11, 21, 12, tzinfo=UTC)
    backend, stored = DatabaseResultBackend(), meta(date_done=done)
    backend.store([stored])
    assert kept(backend, stored)[0].date_done == done
    read = TaskResult.objects.get(task_id=stored.task_id).date_done
    assert (read if use_tz else timezone.make_aware(read)) == done
    assert backend.expire(done, limit=10) == 0
    assert backend.expire(done + timedelta(seconds=1), limit=10) == 1
    backend.store_group("g", [])
    backend.open_chords([NewChord("g", 1, BODY)])
    assert len(backend.count_chord_parts([part("g", 0)])) == 1
    assert backend.count_chord_parts([part("g", 0)]) == []
    assert backend.reclaim_chords(10) == []
    backend.close_chords(["g"])
    assert backend.expire(clock.now() + timedelta(seconds=1), limit=10) == 2


@committed
def test_results_share_the_callers_transaction(backend, alias):
    """Inside a transaction, results and counted parts must come and go with it."""
    stored, group_id = meta(), new_id()
    backend.open_chords([NewChord(group_id, 1, BODY)])

    class Rolled(Exception):
        pass

    def rolled_back():
        with transaction.atomic(using=alias):
            backend.store([stored])
            assert len(backend.count_chord_parts([part(group_id, 0)])) == 1
            backend.close_chords([group_id])
            raise Rolled

    with pytest.raises(Rolled):
        rolled_back()
    assert kept(backend, stored) == [None]
    with transaction.atomic(using=alias):
        backend.store([stored])
        assert len(backend.count_chord_parts([part(group_id, 0)])) == 1
        backend.close_chords([group_id])
    assert kept(backend, stored)[0].status == states.SUCCESS
    assert backend.count_chord_parts([part(group_id, 0)]) == []


def bad_ones(alias):
    found = {"a huge number": {"retries": 2**70}}
    if alias != "default":
        found["too long a content type"] = {"content_type": "x" * 300}
    return found


@committed
@pytest.mark.parametrize("inside", [False, True], ids=["autocommit", "transaction"])
def test_a_refused_row_becomes_a_failure(backend, alias, inside, caplog):
    """A row that the database refuses must be a FAILURE that says so; the rest of the batch, and what else the transaction did, stays."""
    for values in bad_ones(alias).values():
        good, bad, other = meta(), meta(name="shop.tasks.wrap", **values), meta()
        if inside:
            with transaction.atomic(using=alias):
                GroupResult.objects.using(alias).create(group_id=new_id(), date_created=clock.now())
                backend.store([good, bad, other])
        else:
            backend.store([good, bad, other])
        found = kept(backend, good, bad, other)
        assert [each.status for each in found] == [states.SUCCESS, states.FAILURE, states.SUCCESS]
        error = decode(found[1])
        assert isinstance(error, BackendStoreError)
        assert "ended as SUCCESS, but the database refused" in str(error)
        assert found[1].name == "shop.tasks.wrap"
        assert found[1].date_done is not None
        assert "shop.tasks.wrap" in caplog.text
    assert GroupResult.objects.using(alias).count() == inside * len(bad_ones(alias))


@everywhere
def test_a_refused_progress_is_no_failure(backend):
    """Of a task that still runs a refused state must be left out: it has not failed."""
    running = meta(status="PROGRESS", value={}, retries=2**70)
    backend.store([running])
    assert kept(backend, running) == [None]


@everywhere
def test_names_are_cut(backend):
    """Names that are longer than their columns must not cost the result."""
    stored = meta(name="n" * 300, worker="w" * 300, queue="q" * 300)
    backend.store([stored, meta()])
    (found,) = kept(backend, stored)
    assert decode(found) == 5
    assert found.name.startswith("n" * 255)


@everywhere
def test_an_impossible_id_holds_up_nothing(backend, alias, caplog):
    """A task id that no column takes must be reported, and the others of the batch stored."""
    if alias == "default":
        return  # SQLite takes any length
    other = meta()
    backend.store([meta("i" * 300), other])
    assert kept(backend, other)[0].status == states.SUCCESS
    assert "has 300 characters" in caplog.text


@everywhere
def test_results_larger_than_a_statement(backend, alias, monkeypatch, caplog):
    """A result larger than the server takes must be a FAILURE with its size; a batch larger than that must be split."""
    if alias == "default":
        return  # SQLite has no such limit short of a gigabyte
    monkeypatch.setattr(sizes, "_limit", lambda connection: 1_000_000)
    middle = [meta(value="x" * 400_000) for _ in range(4)]
    large = meta(value="'" * 600_000, name="large")
    backend.store([*middle, large])
    assert {each.status for each in kept(backend, *middle)} == {states.SUCCESS}
    (found,) = kept(backend, large)
    assert found.status == states.FAILURE
    assert "it takes 1,2" in str(decode(found))


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True, databases=["default", "mysql"])
def test_the_servers_own_limit():
    """The limit must be the one that the server has, so that it never hangs up in the middle of a worker's transaction."""
    with connections["mysql"].cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        packet = cursor.fetchone()[0]
    if packet > 20_000_000:
        pytest.skip(f"a result of {packet} bytes would take too long")
    backend, large, other = DatabaseResultBackend("mysql"), meta(value="x" * packet), meta()
    with transaction.atomic(using="mysql"):
        backend.store([large, other])
    assert [each.status for each in kept(backend, large, other)] == [states.FAILURE, states.SUCCESS]


def test_the_logger_is_the_projects_to_configure():
    """What can't be kept must be reported under the package's name."""
    assert writing_logger.name.startswith("django_tasks.")


# ---- a database that is away


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
def test_a_lost_connection_is_an_operational_error():
    """A connection that the server ended must be OperationalError once, and the next call must connect again."""
    backend, stored = DatabaseResultBackend("postgres"), meta()
    backend.store([stored])
    for call in (
        lambda: backend.store([meta()]),
        lambda: backend.fetch([stored.task_id]),
        lambda: backend.count_chord_parts([part("g", 0)]),
    ):
        with connections["postgres"].cursor() as cursor, pytest.raises(Exception, match="terminat"):
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(OperationalError, match="failed on the database 'postgres'") as caught:
            call()
        assert caught.value.__cause__ is not None
        assert kept(backend, stored)[0].status == states.SUCCESS


@pytest.mark.django_db(transaction=True)
def test_missing_tables_are_named():
    """Without migrations, the error must say what to run."""
    with connections["default"].cursor() as cursor:
        cursor.execute("ALTER TABLE django_tasks_taskresult RENAME TO gone")
    try:
        for call in (lambda: DatabaseResultBackend().store([meta()]), lambda: DatabaseResultBackend().fetch(["1"])):
            with pytest.raises(OperationalError, match=r"manage\.py migrate"):
                call()
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO django_tasks_taskresult")


@pytest.mark.django_db(transaction=True)
def test_a_locked_file_is_an_operational_error():
    """A SQLite file that another process holds must be OperationalError after the timeout, with a hint, and work afterwards."""
    import sqlite3

    backend, stored = DatabaseResultBackend(), meta()
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        patience = cursor.fetchone()[0]
        cursor.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(connections["default"].settings_dict["NAME"])
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="write lock") as caught:
            backend.store([stored, meta()])
        assert isinstance(caught.value.__cause__, DjangoOperationalError)
    finally:
        other.close()
        with connections["default"].cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {patience}")
    backend.store([stored])
    assert kept(backend, stored)[0].status == states.SUCCESS
