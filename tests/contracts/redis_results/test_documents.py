"""Results in Redis as Celery's clients and workers find them, and as ours find theirs."""

import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from celery.app.task import Context

from django_tasks import clock, states
from django_tasks.messages import new_id
from django_tasks.result_backends.encoding import decode
from django_tasks.result_backends.merging import KEPT
from django_tasks.testing.result_probes import failure, meta
from tests.contracts.redis_results.opening import opened

pytestmark = [
    pytest.mark.redis,
    # Celery's own.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]


def test_celery_reads_ours(backend, celery):
    """A Celery client must find value, error, names and times where it looks for them."""
    done = datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC)
    good = meta(
        value={"a": [1, "ü"]}, name="shop.add", args="[1,2]", kwargs='{"x":null}', worker="w@h", queue="tea", date_done=done, parent_id="p"
    )
    bad = failure(error=KeyError("no"))
    backend.store([good, bad])
    assert celery.AsyncResult(good.task_id).get(timeout=50) == {"a": [1, "ü"]}
    with pytest.raises(KeyError, match="no"):
        celery.AsyncResult(bad.task_id).get(timeout=50)
    found = celery.AsyncResult(good.task_id)
    assert (found.name, found.args, found.kwargs, found.worker, found.queue, found.retries) == (
        "shop.add",
        [1, 2],
        {"x": None},
        "w@h",
        "tea",
        0,
    )
    assert found.date_done.replace(tzinfo=UTC) == done
    assert celery.AsyncResult(bad.task_id).traceback == bad.traceback


def test_we_read_celerys(backend, celery):
    """What a Celery worker left must be read with all that it says."""
    good, bad = new_id(), new_id()
    request = Context(id=good, task="shop.add", args=[1, 2], kwargs={}, hostname="w@h", group="g", root_id=good, retries=2)
    request.delivery_info = {"routing_key": "tea"}
    celery.backend.store_result(good, {"a": "ü"}, states.SUCCESS, request=request)
    celery.backend.store_result(bad, ValueError("bad", 3), states.FAILURE, traceback="Traceback: ...")
    found = backend.fetch([good, bad, new_id()])
    assert set(found) == {good, bad}
    known = found[good]
    assert (decode(known), known.name, known.args, known.worker, known.queue) == ({"a": "ü"}, "shop.add", "[1,2]", "w@h", "tea")
    assert (known.group_id, known.retries) == ("g", 2)
    error = decode(found[bad])
    assert (type(error), error.args, found[bad].traceback) == (ValueError, ("bad", 3), "Traceback: ...")


def test_celerys_success_is_final(backend, celery):
    """A SUCCESS that a Celery worker stored must stay, and ours must stay when Celery writes."""
    theirs, ours = new_id(), meta()
    celery.backend.store_result(theirs, 1, states.SUCCESS)
    backend.store([failure(theirs), ours])
    assert backend.fetch([theirs])[theirs].status == states.SUCCESS
    celery.backend.store_result(ours.task_id, ValueError(), states.FAILURE)
    assert backend.fetch([ours.task_id])[ours.task_id].status == states.SUCCESS


def test_a_write_over_celerys_loses_nothing(backend, celery, client):
    """What a Celery worker wrote of a task that is revoked later must stay beside the new state."""
    task_id = new_id()
    request = Context(id=task_id, task="shop.add", args=[1], kwargs={}, hostname="w@h", retries=3)
    celery.backend.store_result(task_id, None, states.STARTED, request=request)
    backend.store([meta(task_id, states.REVOKED, {"exc_type": "TaskRevokedError", "exc_message": [], "exc_module": "celery.exceptions"})])
    found = backend.fetch([task_id])[task_id]
    assert (found.status, found.name, found.args, found.worker, found.retries) == (states.REVOKED, "shop.add", "[1]", "w@h", 3)


def test_each_field_that_a_write_does_not_know_stays(backend):
    """Each single thing that is known of a task must outlive a write without it."""
    values = {**dict.fromkeys(KEPT, "1"), "children": [], "runtime": 0.5, "group_index": 3}
    ids = {name: new_id() for name in values}
    backend.store([meta(ids[name], states.RETRY, {}, **{name: value}) for name, value in values.items()])
    backend.store([meta(task_id) for task_id in ids.values()])
    found = backend.fetch(ids.values())
    assert {name: getattr(found[task_id], name) for name, task_id in ids.items()} == values


def test_the_first_start_stays(backend):
    """A second run's start must not replace the first one, also where a value looks like one."""
    task_id, first, later = new_id(), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    value = {"date_started": "2001-01-01", "status": "FAILURE", "retries": 99}
    backend.store([meta(task_id, states.STARTED, value, date_started=first)])
    backend.store([meta(task_id, value=value, date_started=later)])
    found = backend.fetch([task_id])[task_id]
    assert (found.status, found.date_started, decode(found), found.retries) == (states.SUCCESS, first, value, 0)


def test_a_document_that_is_none_is_replaced(backend, client):
    """What somebody else left under a task's key must not keep its result from being stored."""
    one, other = meta(), meta()
    client.set(f"celery-task-meta-{one.task_id}", "no document")
    client.set(f"celery-task-meta-{other.task_id}", "[1]")
    backend.store([one, other])
    assert {found.status for found in backend.fetch([one.task_id, other.task_id]).values()} == {states.SUCCESS}


def test_writers_that_merge_at_once(backend):
    """Of two writes that each know a part, made at the same moment, the result must have both."""
    for _ in range(20):
        task_id = new_id()
        backend.store([meta(task_id, states.RETRY, {}, name="n", retries=1)])
        threads = [
            threading.Thread(target=backend.store, args=([failure(task_id, **known)],))
            for known in ({"queue": "q"}, {"worker": "w"}, {"args": "[1]"})
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = backend.fetch([task_id])[task_id]
        assert (found.name, found.queue, found.worker, found.args) == ("n", "q", "w", "[1]")


def test_keys_and_their_life(settings, shared, client):
    """Keys must have the prefix as Celery writes it, and go when RESULT_EXPIRES has passed; 0 and None keep them. Failures stay longer."""
    for expires, least, most in ((60, 50, 60), (None, -1, -1), (0, -1, -1)):
        with opened(settings, shared.url, RESULT_EXPIRES=expires, RESULT_BACKEND_TRANSPORT_OPTIONS={"global_keyprefix": "shop"}) as backend:
            stored, group_id = meta(), new_id()
            backend.store([stored])
            backend.store_group(group_id, [])
            for key in (f"shop_celery-task-meta-{stored.task_id}", f"shop_celery-taskset-meta-{group_id}"):
                assert least <= client.ttl(key) <= most, key
            assert backend.expire(clock.now(), limit=10) == 0
            assert backend.fetch([stored.task_id])
    days = 86400
    for failed, kept in ((30 * days, 30 * days), (None, 60), (0, -1), (5, 60)):
        with opened(settings, shared.url, RESULT_EXPIRES=60, RESULT_FAILURE_EXPIRES=failed) as backend:
            running, stored = meta(status=states.STARTED, name="n"), meta(status=states.FAILURE)
            backend.store([running, stored])
            # One that is merged with what is kept already, and one that isn't.
            backend.store([replace(stored, task_id=running.task_id)])
            for task_id in (running.task_id, stored.task_id):
                assert kept - 10 <= client.ttl(f"celery-task-meta-{task_id}") <= kept


def test_a_batch_is_one_call(backend, client):
    """A batch must be stored in one round trip, also where STARTED lies there already."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    known = {"name": "n", "args": "[]", "kwargs": "{}", "worker": "w", "queue": "q", "runtime": 0.5, "children": [], "date_started": start}
    ids = [new_id() for _ in range(100)]
    backend.store([meta(task_id, states.STARTED, {"pid": 1}, **known) for task_id in ids])
    before = client.info("stats")["total_net_output_bytes"], client.info("commandstats")["cmdstat_evalsha"]["calls"]
    backend.store([meta(task_id, **known) for task_id in ids])
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before[1] == 1
    assert {found.status for found in backend.fetch(ids).values()} == {states.SUCCESS}


def test_groups_are_celerys(backend, celery):
    """A group must be restored by Celery as we saved it, and the other way round."""
    ours, theirs = new_id(), new_id()
    backend.store_group(ours, [[ours, None], [[["a", None], None], [["b", None], None]]])
    assert [each.id for each in celery.GroupResult.restore(ours).results] == ["a", "b"]
    celery.GroupResult(theirs, [celery.AsyncResult("c")]).save()
    (group_id, _), members = backend.fetch_group(theirs)
    assert (group_id, members) == (theirs, [[["c", None], None]])
