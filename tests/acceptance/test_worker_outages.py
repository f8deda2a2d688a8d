"""A worker while its database is away, locked, or its processes are shot: it goes on by itself and loses nothing."""

import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from django.db import connections

from django_tasks import group, states
from django_tasks.result import AsyncResult
from tests.places import Place, on_databases, with_leases
from tests.processes import StartWorker, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]

TASKS = 200
#: Tasks of the drain in which processes are shot; benchmarks/kill.py shoots a hundred during twenty thousand.
SHOT = 2000


@contextmanager
def away(alias: str) -> Iterator[None]:
    """Let nobody use the database inside the block: connections are cut and refused, or the file is locked."""
    settings = connections[alias].settings_dict
    connections[alias].close()
    if alias == "default":
        with closing(sqlite3.connect(settings["NAME"], timeout=30, isolation_level=None)) as locking:
            locking.execute("BEGIN EXCLUSIVE")
            yield
            locking.execute("ROLLBACK")
        return
    import psycopg

    where = {"host": settings["HOST"], "port": settings["PORT"] or 5432, "user": settings["USER"], "password": settings["PASSWORD"]}
    with closing(psycopg.connect(dbname="postgres", autocommit=True, **where)) as server:
        name = settings["NAME"]
        server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        try:
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
        finally:
            server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')


@on_databases
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_database_that_goes_away_for_five_seconds(start_worker: StartWorker, place: Place, pool: str) -> None:
    """In the middle of a drain: no task is lost, none is stuck, and the worker is the same process as before."""
    worker = start_worker("-P", pool, "-c", "2")
    results = [tasks.nap.delay(0.05) for _ in range(TASKS)]
    results[10].get(timeout=50)
    with away(place.alias or "default"):
        time.sleep(5)
    assert [result.get(timeout=60) for result in results] == [0.05] * TASKS
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    assert worker.process.poll() is None, worker.output
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output
    if place.alias != "default":
        assert "can't be reached" in worker.output or "does not answer" in worker.output


def test_processes_that_are_shot_at_random(start_worker: StartWorker, place: Place) -> None:
    """Kill -9 of one child after another during a drain: every effect is seen, every result is there, nothing is left."""
    worker = start_worker("-c", "2")
    results = group(tasks.record.s(f"task {number}") for number in range(SHOT)).apply_async()
    chance = random.Random(7)
    for _ in range(10):
        done = Effect.objects.count()
        children = worker.children()
        if children:
            os.kill(chance.choice(children), signal.SIGKILL)
        wait_until(lambda done=done: Effect.objects.values("key").distinct().count() > done or Effect.objects.count() >= SHOT, "more work")
    assert len(results.get(timeout=80)) == SHOT
    assert Effect.objects.values("key").distinct().count() == SHOT
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    assert worker.process.poll() is None


@with_leases
def test_a_child_and_the_node_that_die_together(start_worker: StartWorker, place: Place) -> None:
    """What the child held comes back at once, although the node that was to see to it died as well; no lease is waited for."""
    worker = start_worker("-c", "1", TEST_WORKER_LEASE="600")
    running = tasks.nap.delay(2.0)
    wait_until(lambda: AsyncResult(running.id).state == states.STARTED, "the task to start")
    children = worker.children()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    assert running.get(timeout=50) == 2.0
    assert worker.process.poll() is None
    wait_until(lambda: place.left() == 0, "the queue to be empty")
