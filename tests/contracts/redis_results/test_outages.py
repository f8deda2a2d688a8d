"""Results in Redis when the server is in trouble."""

import threading
from contextlib import suppress
from functools import partial

import pytest

from django_tasks import clock
from django_tasks.exceptions import OperationalError
from django_tasks.exceptions import TimeoutError as TaskTimeoutError
from django_tasks.messages import new_id
from django_tasks.result_backends.backend import NewChord
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, meta, part
from tests.contracts.redis_results.opening import opened
from tests.processes import SOON, wait_until

pytestmark = [
    pytest.mark.redis,
    # Celery's own.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]


def test_a_connection_that_is_cut(settings, victim):
    """A reader whose connection is killed must open another one, and miss nothing that was stored meanwhile."""
    with opened(settings, victim.url) as backend:
        client = victim.client()
        metas = [meta() for _ in range(3)]

        def work():
            for stored in metas:
                wait_until(client.pubsub_channels, "a subscription")
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                # The connections of the pool have been cut, too.
                with suppress(OperationalError):
                    backend.store([stored])
                backend.store([stored])

        thread = threading.Thread(target=work)
        thread.start()
        begun = clock.monotonic()
        assert {found.task_id for found in backend.wait([each.task_id for each in metas], 60)} == {each.task_id for each in metas}
        assert clock.monotonic() - begun < SOON
        thread.join()
        client.close()


def test_a_server_that_restarts(settings, victim):
    """A reader must outlive a server that is away for a moment."""
    with opened(settings, victim.url) as backend:
        stored = meta()

        def work():
            client = victim.client()
            wait_until(client.pubsub_channels, "a subscription")
            client.close()
            victim.kill()
            victim.start()
            wait_until(lambda: stores(backend, stored), "a store")

        thread = threading.Thread(target=work)
        thread.start()
        assert next(backend.wait([stored.task_id], 20)).task_id == stored.task_id
        thread.join()


def stores(backend, stored):
    """Store it; say whether that was possible."""
    with suppress(OperationalError):
        backend.store([stored])
        return True
    return False


def test_a_server_that_is_gone(settings, victim):
    """Every call must raise OperationalError, waiting ones too after a while, and none before the server is gone."""
    with opened(settings, victim.url) as backend:
        stored = meta()
        backend.store([stored])
        waiting = backend.wait([stored.task_id, new_id()], 60)
        next(waiting)
        victim.kill()
        calls = [
            lambda: backend.store([stored]),
            lambda: backend.fetch([stored.task_id]),
            lambda: backend.forget([stored.task_id]),
            lambda: backend.fetch_group("g"),
            lambda: backend.open_chords([NewChord("g", 1, BODY)]),
            lambda: backend.count_chord_parts([part("g", 0)]),
            lambda: backend.close_chords(["g"]),
            lambda: backend.reclaim_chords(10),
            partial(next, waiting),
        ]
        for call in calls:
            with pytest.raises(OperationalError, match=str(victim.port)):
                call()


def test_the_deadline_holds_without_a_server(settings, victim):
    """A reader must give up when its time is over, though the server does not answer."""
    with opened(settings, victim.url) as backend:
        backend.store([stored := meta()])
        waiting = backend.wait([stored.task_id, new_id()], 0.5)
        next(waiting)
        victim.kill()
        begun = clock.monotonic()
        with pytest.raises(TaskTimeoutError):
            next(waiting)
        assert clock.monotonic() - begun < SOON


def test_a_server_without_memory(settings, victim):
    """A server that takes nothing more must be named with what to do, and take the same batch once it has room."""
    with opened(settings, victim.url, RESULT_EXPIRES=60) as backend:
        client = victim.client()
        kept = meta()
        backend.store([kept])
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        batch = [meta(value="x" * 1000) for _ in range(10)]
        with pytest.raises(OperationalError, match="memory is full"):
            backend.store(batch)
        with pytest.raises(OperationalError, match="memory is full"):
            backend.open_chords([NewChord(new_id(), 1, BODY)])
        assert decode(backend.fetch([kept.task_id])[kept.task_id]) == 5
        client.config_set("maxmemory", "0")
        backend.store(batch)
        assert len(backend.fetch([each.task_id for each in batch])) == 10
        client.close()


def test_scripts_that_were_flushed(backend, client):
    """A server that has forgotten the scripts (a restart, a fail-over) must be given them again."""
    backend.store([meta()])
    client.script_flush()
    stored = meta()
    backend.store([stored])
    assert backend.fetch([stored.task_id])
