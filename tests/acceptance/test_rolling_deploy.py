"""Workers of two releases on one queue, and of machines whose clocks disagree."""

import os
import signal
import time
from pathlib import Path

import pytest

from django_tasks import app, group, states
from django_tasks.models import DeadLetter
from tests.places import Place, on_servers
from tests.processes import StartWorker, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]

#: Delayed tasks that a killed worker must not lose.
DELAYED = 1000


def test_a_task_that_only_new_workers_know(start_worker: StartWorker, place: Place) -> None:
    """Workers of the old release put its messages off; those of the new one run them all, and none becomes a dead letter."""
    old = start_worker("-c", "1", TEST_UNKNOWN_TASK_GRACE="60")
    results = [app.send_task("tests.sampleapp.newer.added", args=[number, 1]) for number in range(20)]
    known = tasks.add.delay(1, 1)
    assert known.get(timeout=50) == 2
    start_worker("-c", "1", TEST_UNKNOWN_TASK_GRACE="60", TEST_IMPORTS='["tests.sampleapp.newer"]')
    old.signal(signal.SIGTERM)
    assert old.ends() == 0, old.output
    assert [result.get(timeout=60) for result in results] == list(range(1, 21))
    assert not DeadLetter.objects.exists()


@on_servers
def test_delayed_tasks_outlive_the_workers_that_know_of_them(start_worker: StartWorker, place: Place) -> None:
    """A thousand that are due later, and kill -9 of the worker before: each runs once, none before its time."""
    environment = {"TEST_WORKER_LEASE": "2"}
    first = start_worker("-c", "2", **environment)
    tasks.add.delay(1, 1).get(timeout=50)
    due = time.time() + 20
    group(tasks.record.s(f"late {number}") for number in range(DELAYED)).apply_async(countdown=20)
    tasks.add.delay(1, 1).get(timeout=50)
    os.killpg(first.pid, signal.SIGKILL)
    first.process.wait()
    assert not Effect.objects.exists()
    assert time.time() < due
    start_worker("-c", "2", **environment)
    wait_until(lambda: Effect.objects.count() >= DELAYED, "all delayed tasks")
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    assert Effect.objects.count() == Effect.objects.values("key").distinct().count() == DELAYED


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """The file that says by how many seconds the clock of some process is wrong."""
    path = tmp_path / "clock"
    path.write_text("0")
    return path


@on_servers
def test_a_worker_whose_clock_is_an_hour_ahead_takes_nothing_from_others(start_worker: StartWorker, place: Place, clock: Path) -> None:
    """Leases that others hold have not lapsed for it: a task that runs longer than its lease runs once."""
    clock.write_text("3600")
    right = start_worker("-c", "1", TEST_WORKER_LEASE="3")
    running = tasks.nap.delay(8.0, "long")
    wait_until(lambda: running.state == states.STARTED, f"the task to start; the worker said:\n{right.output}")
    start_worker("-c", "1", TEST_WORKER_LEASE="3", TEST_CLOCK_FILE=str(clock))
    # Two, so that one of them runs there, in what is an hour later.
    assert [tasks.add.delay(1, 2).get(timeout=50) for _ in range(2)] == [3, 3]
    assert running.get(timeout=50) == 8.0
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    assert Effect.objects.filter(key="long").count() == 1


def test_a_worker_whose_clock_jumps_goes_on(start_worker: StartWorker, place: Place, clock: Path) -> None:
    """Forward and back by an hour, while a task runs that has a time limit and outlives its lease: it runs once, to its end."""
    worker = start_worker("-c", "1", TEST_WORKER_LEASE="3", TEST_CLOCK_FILE=str(clock))
    running = tasks.nap.apply_async((6.0, "long"), time_limit=60, soft_time_limit=50)
    wait_until(lambda: running.state == states.STARTED, f"the task to start; the worker said:\n{worker.output}")
    children = worker.children()
    for shift in ("3600", "-3600", "0"):
        clock.write_text(shift)
        time.sleep(1.5)
    assert running.get(timeout=50) == 6.0, worker.output
    assert worker.children() == children, worker.output
    assert [tasks.add.delay(number, 2).get(timeout=50) for number in range(10)] == list(range(2, 12))
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    if place.alias is None:
        # A database asks nobody for the time but the workers: one that is an hour ahead takes the leases of others for lapsed.
        assert Effect.objects.filter(key="long").count() == 1


@on_servers
def test_delays_of_a_publisher_whose_clock_is_behind(start_worker: StartWorker, place: Place) -> None:
    """A message that is due in the past, as such a machine sends it, runs at once."""
    start_worker("-c", "1")
    begun = time.time()
    assert tasks.moment.apply_async(countdown=-3600).get(timeout=50) >= begun
