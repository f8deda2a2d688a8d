"""Waiting for results in Redis: told at once, by connections that are given back."""

import json
import threading

import pytest

from django_tasks import clock, states
from django_tasks.exceptions import TimeoutError as TaskTimeoutError
from django_tasks.messages import new_id
from django_tasks.result_backends.encoding import decode
from django_tasks.result_backends.redis import waiting as listening
from django_tasks.testing.result_probes import meta
from tests.processes import SOON, wait_until

pytestmark = [
    pytest.mark.redis,
    # Celery's own.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]


def told(backend, client):
    """Say how many channels somebody listens to."""
    return len(client.pubsub_channels())


def test_waiting_readers_are_told_at_once(backend, monkeypatch):
    """A reader must have a result as soon as it is stored, and not at its next look, which is far away here."""
    monkeypatch.setattr(listening, "_FIRST", 60.0)
    monkeypatch.setattr(listening, "_LONGEST", 60.0)
    late = []
    for _ in range(20):
        stored, stamp = meta(), []

        def store(stored=stored, stamp=stamp):
            wait_until(lambda: told(backend, backend.server.client), "a subscription")
            stamp.append(clock.monotonic())
            backend.store([stored])

        thread = threading.Thread(target=store)
        thread.start()
        assert next(backend.wait([stored.task_id], 90)).task_id == stored.task_id
        late.append(clock.monotonic() - stamp[0])
        thread.join()
    assert sorted(late)[10] < SOON


def test_celerys_clients_are_told(backend, celery):
    """A Celery client that waits must be told of our result, and ours of what a Celery worker stores."""
    stored, theirs = meta(), new_id()
    timer = threading.Timer(0.1, backend.store, [[stored]])
    timer.start()
    assert celery.AsyncResult(stored.task_id).get(timeout=20) == 5
    timer = threading.Timer(0.1, celery.backend.store_result, [theirs, 7, states.SUCCESS])
    timer.start()
    assert decode(next(backend.wait([theirs], 20))) == 7


def test_a_reader_leaves_no_subscription(backend, client):
    """Whether it got what it waited for, gave up, or was left, a reader must not stay subscribed, nor keep connections."""
    for _ in range(10):
        with pytest.raises(TaskTimeoutError):
            next(backend.wait([new_id()], 0.01))
        waiting = backend.wait([new_id(), (stored := meta()).task_id], 20)
        backend.store([stored])
        next(waiting)
        waiting.close()
    wait_until(lambda: not client.pubsub_channels(), "no channels")
    assert client.info("clients")["connected_clients"] < 10


def test_a_connection_is_lent_again(backend, client):
    """What was told to the reader before must not disturb the next one on the same connection."""
    first, second = meta(), meta()
    waiting = backend.wait([first.task_id, second.task_id], 20)
    backend.store([first])
    assert next(waiting).task_id == first.task_id
    waiting.close()
    backend.store([second])
    backend.store([meta(second.task_id, states.STARTED, {})])
    third = meta()
    threading.Timer(0.1, backend.store, [[third]]).start()
    found = [each.task_id for each in backend.wait([third.task_id, first.task_id], 60)]
    assert sorted(found) == sorted([first.task_id, third.task_id])
    opened_before = client.info("stats")["total_connections_received"]
    for _ in range(10):
        with pytest.raises(TaskTimeoutError):
            next(backend.wait([new_id()], 0.01))
    assert client.info("stats")["total_connections_received"] - opened_before <= 2


def test_waiting_for_thousands(backend):
    """Thousands of results must be awaited together, each yielded once."""
    metas = [meta(value=number) for number in range(3000)]
    backend.store(metas[:10])

    def work():
        for start in range(10, 3000, 100):
            backend.store(metas[start : start + 100])

    thread = threading.Thread(target=work)
    thread.start()
    found = [each.task_id for each in backend.wait([each.task_id for each in metas], 60)]
    thread.join()
    assert sorted(found) == sorted(each.task_id for each in metas)


def test_many_threads_wait(backend):
    """Readers in many threads must each get their own result."""
    metas, found = [meta(value=number) for number in range(20)], {}

    def read(stored):
        found[stored.task_id] = decode(next(backend.wait([stored.task_id], 20)))

    threads = [threading.Thread(target=read, args=(stored,)) for stored in metas]
    for thread in threads:
        thread.start()
    for stored in metas:
        backend.store([stored])
    for thread in threads:
        thread.join(20)
    assert found == {stored.task_id: number for number, stored in enumerate(metas)}


def test_a_result_of_which_nobody_is_told(backend, client):
    """A result whose announcement was lost must be found all the same."""
    stored = meta()

    def smuggle():
        wait_until(client.pubsub_channels, "a subscription")
        backend.store([other := meta()])
        client.rename(f"celery-task-meta-{other.task_id}", f"celery-task-meta-{stored.task_id}")
        text = json.loads(client.get(f"celery-task-meta-{stored.task_id}"))
        client.set(f"celery-task-meta-{stored.task_id}", json.dumps({**text, "task_id": stored.task_id}))

    thread = threading.Thread(target=smuggle)
    thread.start()
    assert next(backend.wait([stored.task_id], 20)).task_id == stored.task_id
    thread.join()
