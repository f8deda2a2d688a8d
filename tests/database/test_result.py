"""Results wait for rows that others commit, in threads and on event loops, and can be revoked."""

import asyncio
import threading
from contextlib import contextmanager

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction

from django_tasks import AsyncResult, EagerResult, GroupResult, ResultSet, exceptions, states
from django_tasks.models import Revocation
from django_tasks.result import revoke_tasks, waiting
from django_tasks.result_backends.database import DatabaseResultBackend
from django_tasks.testing.result_probes import failure, meta

committed = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


@pytest.fixture
def backend(alias):
    return DatabaseResultBackend(alias)


@contextmanager
def stored_meanwhile(backend, *metas):
    """Commit these in another thread, once the block waits."""
    looked = threading.Event()
    fetch, wait = backend.fetch, backend.wait

    def fetching(task_ids):
        looked.set()
        return fetch(task_ids)

    def waiting_for(task_ids, timeout):
        looked.set()
        return wait(task_ids, timeout)

    def store():
        looked.wait(10)
        backend.store(metas)
        connections.close_all()

    backend.fetch, backend.wait = fetching, waiting_for
    thread = threading.Thread(target=store)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        backend.fetch, backend.wait = fetch, wait


@committed
def test_get_sees_what_others_commit(backend):
    """get() of one and of several returns what another connection commits while it waits."""
    one, two, three = meta(value=1), meta(value=2), meta(value=3)
    with stored_meanwhile(backend, one):
        assert AsyncResult(one.task_id, backend=backend).get(timeout=20) == 1
    results = ResultSet([AsyncResult(each.task_id, backend=backend) for each in (two, three, one)])
    with stored_meanwhile(backend, three, two):
        assert results.get(timeout=20) == [2, 3, 1]


@committed
def test_awaiting_sees_what_others_commit(backend):
    """The same on an event loop, which goes on meanwhile."""
    metas = [meta(value=number) for number in range(20)]
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    async def wait():
        ticking = asyncio.ensure_future(tick())
        try:
            return await asyncio.gather(*(AsyncResult(each.task_id, backend=backend).aget(timeout=20) for each in metas))
        finally:
            ticking.cancel()

    with stored_meanwhile(backend, *metas):
        assert async_to_sync(wait)() == list(range(20))
    assert ticks
    group = GroupResult("g", [AsyncResult(each.task_id, backend=backend) for each in metas])
    assert async_to_sync(group.aget)(timeout=20) == list(range(20))


@committed
def test_a_parents_failure_ends_the_wait(backend, monkeypatch):
    """A parent that fails while its follower is waited for is raised, though nothing is ever kept of the follower."""
    monkeypatch.setattr(waiting, "_PARENTS_FIRST", 0.02)
    failed = failure()
    follower = AsyncResult("never-sent", backend=backend, parent=AsyncResult(failed.task_id, backend=backend))
    with stored_meanwhile(backend, failed), pytest.raises(ValueError):
        follower.get(timeout=20)


@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
@pytest.mark.postgres
def test_waiting_inside_a_transaction_that_sees_others():
    """Under PostgreSQL's READ COMMITTED a wait inside atomic() ends when another connection commits."""
    backend = DatabaseResultBackend("postgres")
    one, two = meta(value=1), meta(value=2)
    with transaction.atomic(using="postgres"):
        with stored_meanwhile(backend, one):
            assert AsyncResult(one.task_id, backend=backend).get(timeout=20) == 1
        with stored_meanwhile(backend, two):
            assert ResultSet([AsyncResult(two.task_id, backend=backend)]).get(timeout=20) == [2]


@pytest.mark.django_db
def test_revoke():
    """What has not begun becomes REVOKED at once, what runs or has ended keeps its state; all are recorded for the workers."""
    backend = DatabaseResultBackend("default")
    running, ended = meta(status=states.STARTED, value={}), meta(value=5)
    backend.store([running, ended])
    results = ResultSet([AsyncResult(name, backend=backend) for name in ("new", running.task_id, ended.task_id)])
    eager = EagerResult("e", 1, states.SUCCESS)
    ResultSet([GroupResult("g", results), eager]).revoke(terminate=True, signal="SIGKILL")
    assert [result.state for result in results] == [states.REVOKED, states.STARTED, states.SUCCESS]
    assert eager.state == states.REVOKED
    rows = Revocation.objects.values_list("task_id", "terminate", "signal")
    assert set(rows) == {(result.id, True, "SIGKILL") for result in results}
    with pytest.raises(exceptions.TaskRevokedError, match="revoked"):
        results[0].get(timeout=1)
    revoke_tasks([])
    assert Revocation.objects.count() == 3


@committed
def test_revoke_can_wait():
    """wait=True returns when the task is ready, and after ``timeout`` seconds at the latest."""
    backend = DatabaseResultBackend("default")
    AsyncResult("new", backend=backend).revoke(wait=True)
    running = meta(status=states.STARTED, value={})
    backend.store([running])
    result = AsyncResult(running.task_id, backend=backend)
    result.revoke(wait=True, timeout=0.01)
    ResultSet([result]).revoke(wait=True, timeout=0.01)
    assert result.state == states.STARTED
