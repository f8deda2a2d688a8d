"""Celery's workers and ours on one queue, Celery's clients and ours before it; processes of both are shot."""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from django_tasks import app, group
from tests.places import RABBITMQ, REDIS, Place, on_redis, open_place
from tests.processes import ROOT, StartWorker, WorkerProcess, wait_until
from tests.sampleapp import tasks

pytestmark = [pytest.mark.interop, pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default"])]

#: Seconds after which Celery's workers hand out again what nobody has acknowledged.
VISIBILITY = 4
TASKS = 200
CELERYS_PREFETCH = 4


@pytest.fixture
def place(
    request: pytest.FixtureRequest, transactional_db: None, settings: Any, child_environment: dict[str, str], tmp_path: Path
) -> Iterator[Place]:
    """A queue and results that both sides use: Redis for both, or RabbitMQ with its results in Redis."""
    with open_place(getattr(request, "param", "redis")) as place, open_place("redis") as results:
        if place.name == "rabbitmq":
            place.result_backend = results.broker_url
            place.options["RESULT_BACKEND_TRANSPORT_OPTIONS"] = results.options["RESULT_BACKEND_TRANSPORT_OPTIONS"]
        child_environment["EFFECTS"] = str(tmp_path / "effects")
        place.use(settings, child_environment)
        child_environment.update(
            FLEET_BROKER_URL=place.broker_url,
            FLEET_RESULT_BACKEND=place.result_backend,
            FLEET_QUEUE=place.queue,
            FLEET_PREFETCH=str(CELERYS_PREFETCH),
            FLEET_TRANSPORT_OPTIONS=json.dumps(transport_options(place)),
            FLEET_RESULT_OPTIONS=json.dumps(place.options["RESULT_BACKEND_TRANSPORT_OPTIONS"]),
        )
        yield place


def transport_options(place: Place) -> dict[str, Any]:
    """Celery's view of the same broker."""
    options = dict(place.options.get("BROKER_TRANSPORT_OPTIONS", {}))
    if place.name == "redis":
        # It looks for what lies there too long every second, where its default is every hundred.
        options |= {"visibility_timeout": VISIBILITY, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    return options


@pytest.fixture
def client(place: Place) -> Iterator[Celery]:
    """A Celery client; its tasks are called by name."""
    made = Celery("client", broker=place.broker_url, backend=place.result_backend, set_as_current=False)
    made.conf.update(
        task_default_queue=place.queue,
        broker_transport_options=transport_options(place),
        result_backend_transport_options=place.options["RESULT_BACKEND_TRANSPORT_OPTIONS"],
    )
    yield made
    made.close()


@pytest.fixture
def start_celery(child_environment: dict[str, str]) -> Iterator[StartWorker]:
    """``start_celery("-c", "1")`` starts a Celery worker that ends with the test."""
    started: list[WorkerProcess] = []

    def start(*arguments: str) -> WorkerProcess:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        # A name of its own: two workers of one name can't share RabbitMQ's queue for their remote control.
        name = ["-n", f"fleet-{uuid4().hex[:12]}@%h"]
        command = [sys.executable, "-m", "celery", "-A", "tests.interop.celery_fleet", "worker", "-l", "INFO", *name, *quiet]
        environment = {name: value for name, value in child_environment.items() if name != "DJANGO_SETTINGS_MODULE"}
        worker = WorkerProcess({**environment, "PYTHONPATH": str(ROOT)}, *arguments, command=command)
        started.append(worker)
        worker.says(" ready.")
        return worker

    yield start
    for worker in started:
        # A warm shutdown of Celery's takes ten seconds, and is not what is tried here.
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.stop()


def effects(environment: dict[str, str]) -> Counter[str]:
    """How often each key has been left."""
    path = Path(environment["EFFECTS"])
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


def by_whom(environment: dict[str, str]) -> Counter[str]:
    """How many effects each side has left."""
    lines = Path(environment["EFFECTS"]).read_text().splitlines()
    return Counter("celery" if line.endswith(" celery") else "ours" for line in lines)


def let_both_work(environment: dict[str, str]) -> None:
    """Return when each side has run some tasks: a worker that says that it is ready is so a little later."""
    for number in count():
        # Of the length of those that follow, so that ours doesn't claim a hundred, as it would of shorter ones.
        tasks.leave_line.delay(f"warm-{number}", 0.05).get(timeout=50)
        if min(by_whom(environment)[side] for side in ("celery", "ours")) >= 3:
            return


both_brokers = pytest.mark.parametrize("place", [REDIS, RABBITMQ], indirect=True)


@both_brokers
def test_a_celery_client_calls_our_worker(place: Place, client: Celery, start_worker: StartWorker) -> None:
    """It reads the result, the error as its own class, and the state, by its own means."""
    start_worker("-c", "1")
    result = client.send_task("tests.sampleapp.tasks.add", (2, 3))
    assert result.get(timeout=50) == 5
    failed = client.send_task("tests.sampleapp.tasks.fail", kwargs={"text": "on purpose"})
    with pytest.raises(ValueError, match="on purpose"):
        failed.get(timeout=50)
    assert (result.state, failed.state) == ("SUCCESS", "FAILURE")
    wait_until(lambda: place.left() == 0, "the queue to be empty")


@both_brokers
def test_our_client_calls_a_celery_worker(place: Place, start_celery: StartWorker) -> None:
    """Its results and errors come back; groups and links work across."""
    start_celery("-c", "1", "-P", "solo")
    assert tasks.add.delay(2, 3).get(timeout=50) == 5
    assert app.send_task("fleet.who").get(timeout=50) == "celery"
    with pytest.raises(ValueError, match="on purpose"):
        tasks.fail.delay("on purpose").get(timeout=50)
    assert group(tasks.add.s(number, 1) for number in range(10)).apply_async().get(timeout=50) == list(range(1, 11))
    linked = (tasks.add.s(1, 2) | tasks.add.s(10)).apply_async()
    assert linked.get(timeout=50) == 13
    wait_until(lambda: place.left() == 0, "the queue to be empty")


@both_brokers
def test_both_drain_one_queue(
    place: Place, client: Celery, start_worker: StartWorker, start_celery: StartWorker, child_environment: dict[str, str]
) -> None:
    """What both clients send, both workers run, each task once."""
    celery, ours = start_celery("-c", "1", "-P", "solo"), start_worker("-c", "1")
    let_both_work(child_environment)
    mine = [tasks.leave_line.delay(f"mine-{number}", 0.02) for number in range(TASKS // 2)]
    theirs = [client.send_task("tests.sampleapp.tasks.leave_line", (f"theirs-{number}", 0.02)) for number in range(TASKS // 2)]
    assert [result.get(timeout=50) for result in mine] == [f"mine-{number}" for number in range(TASKS // 2)]
    assert [result.get(timeout=50) for result in theirs] == [f"theirs-{number}" for number in range(TASKS // 2)]
    assert set(effects(child_environment).values()) == {1}
    assert celery.process.poll() is ours.process.poll() is None, celery.output + ours.output
    wait_until(lambda: place.left() == 0, "the queue to be empty")


def _shoot(worker: WorkerProcess) -> None:
    os.killpg(worker.pid, signal.SIGKILL)
    worker.process.wait()


@both_brokers
@pytest.mark.parametrize("victim", ["celery", "ours"])
def test_one_side_is_shot_in_the_middle(
    place: Place,
    start_worker: StartWorker,
    start_celery: StartWorker,
    child_environment: dict[str, str],
    victim: str,
) -> None:
    """Kill -9 of all processes of one side: the other side runs what it held, once the broker gives it back."""
    both: dict[str, Callable[[], WorkerProcess]] = {
        "celery": lambda: start_celery("-c", "1", "-P", "solo"),
        "ours": lambda: start_worker("-c", "2", TEST_WORKER_LEASE="2"),
    }
    workers = {name: start() for name, start in both.items()}
    let_both_work(child_environment)
    before = by_whom(child_environment)
    results = [tasks.leave_line.delay(f"key-{number}", 0.05) for number in range(TASKS)]
    wait_until(lambda: (by_whom(child_environment) - before).total() > 20, "some tasks to run")
    _shoot(workers[victim])
    if victim == "celery":
        # Ours leave to Celery's workers what Celery's held, until the visibility timeout says that it is lost.
        both["celery"]()
    assert [result.get(timeout=60) for result in results] == [f"key-{number}" for number in range(TASKS)]
    assert len([key for key in effects(child_environment) if key.startswith("key-")]) == TASKS
    again = [key for key, count in effects(child_environment).items() if count > 1]
    # A few: an outcome waits for the next flush. Celery's worker keeps what it has to acknowledge until it hears of something else.
    most = 10 if victim == "ours" else 3 + CELERYS_PREFETCH
    assert len(again) <= most, f"only what was running, or not acknowledged yet, may run again: {again}"
    wait_until(lambda: place.left() == 0, "the queue to be empty")


@on_redis
def test_celery_leaves_our_long_tasks_alone(
    place: Place, start_worker: StartWorker, start_celery: StartWorker, child_environment: dict[str, str]
) -> None:
    """A task of ours that runs for longer than Celery's visibility timeout is not handed out a second time."""
    start_worker("-c", "1", TEST_WORKER_LEASE="3")
    long = tasks.leave_line.delay("long", 3.0 * VISIBILITY)
    wait_until(lambda: effects(child_environment)["long"], "the task to start")
    start_celery("-c", "1", "-P", "solo")
    assert tasks.add.delay(1, 1).get(timeout=50) == 2
    assert long.get(timeout=50) == "long"
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    assert effects(child_environment)["long"] == 1


@on_redis
def test_what_our_dead_fleet_held_celery_runs(
    place: Place, start_worker: StartWorker, start_celery: StartWorker, child_environment: dict[str, str]
) -> None:
    """All of our workers are shot and none is started again: Celery's restore what they held, as they do for one another."""
    ours = start_worker("-c", "1", TEST_WORKER_LEASE="2")
    held = tasks.leave_line.delay("held", 30)
    wait_until(lambda: effects(child_environment)["held"], "the task to start")
    waiting = tasks.add.delay(1, 2)
    _shoot(ours)
    Path(child_environment["EFFECTS"]).unlink()
    start_celery("-c", "2", "-P", "threads")
    assert waiting.get(timeout=50) == 3
    wait_until(lambda: effects(child_environment)["held"], "Celery to run what was held", 60)
    assert held.state in {"PENDING", "STARTED"}


def put_aside(place: Place) -> int:
    """How many messages lie where ours wait for their time."""
    prefix = place.options["BROKER_TRANSPORT_OPTIONS"]["global_keyprefix"]
    with closing(redis.Redis.from_url(place.broker_url)) as server:
        return int(server.zcard(f"{prefix}_django_tasks.delayed.{place.queue}"))


@on_redis
def test_a_far_eta_of_celery_is_put_aside(place: Place, client: Celery, start_worker: StartWorker) -> None:
    """It is neither held nor handed out again and again: it lies with our delayed messages, until it is due."""
    worker = start_worker("-c", "1")
    begun = time.time()
    client.send_task("tests.sampleapp.tasks.moment", countdown=86_400)
    wait_until(lambda: put_aside(place) == 1, f"the one of tomorrow to be put aside; the worker said:\n{worker.output}")
    assert (place.claimed(), place.left()) == (0, 1)
    soon = client.send_task("tests.sampleapp.tasks.moment", countdown=3)
    assert soon.get(timeout=50) >= begun + 3
    wait_until(lambda: place.left() == 1, "only the one of tomorrow to be left")
