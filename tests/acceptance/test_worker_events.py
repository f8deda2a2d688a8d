"""What monitors hear of a real worker: its tasks in order, itself, and nothing that could hold up its work."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from django_tasks import brokers, events, states
from django_tasks.exceptions import OperationalError
from tests.places import RABBITMQ, REDIS, SQLITE, Place, on_redis
from tests.privateservers import PrivateRedis, need_redis_server
from tests.processes import StartWorker, WorkerProcess, state_of, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default"])]

on_every_channel = pytest.mark.parametrize("place", [SQLITE, REDIS, RABBITMQ], indirect=True)
A_RUN = ["task-received", "task-started", "task-succeeded"]


class Monitor:
    """Hears what one worker says, and what clients say; others that use the same server are passed over."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.heard: list[events.Event] = []
        self.receiver = events.current().listen()

    def look(self) -> None:
        """Take in what has come."""
        with suppress(OperationalError):
            self.heard += [event for event in self.receiver.receive(0.05) if event["hostname"] == self.worker]

    def of(self, task_id: str) -> list[str]:
        """Types of what was heard of a task, in the order in which it was said: what two processes say is heard in either order.

        A task that was given back before it ran, and taken again, was received once here.
        """
        types = [event["type"] for event in self._about(task_id)]
        return [type_ for before, type_ in zip(["", *types], types, strict=False) if not type_ == before == "task-received"]

    def own(self) -> list[str]:
        """Types of what the worker said of itself."""
        return [event["type"] for event in self.heard if event["type"].startswith("worker-")]

    def hears(self, task_id: str, types: list[str], worker: WorkerProcess) -> None:
        """Wait until exactly this was heard of a task."""
        self.wait(lambda: len(self.of(task_id)) >= len(types), worker, f"{types} of {task_id}")
        assert self.of(task_id) == types

    def wait(self, condition: Any, worker: WorkerProcess, what: str) -> None:
        """Listen until the condition holds."""

        def holds() -> bool:
            self.look()
            return bool(condition())

        try:
            wait_until(holds, what)
        except BaseException:
            print(f"heard: {self.heard}\n{worker.output[-5000:]}")
            raise

    def last(self, task_id: str) -> events.Event:
        """The newest event of a task."""
        return self._about(task_id)[-1]

    def _about(self, task_id: str) -> list[events.Event]:
        return sorted((event for event in self.heard if event.get("uuid") == task_id), key=lambda event: event["timestamp"])


@pytest.fixture
def monitor(place: Place) -> Iterator[Monitor]:
    """A monitor that listens before the worker starts."""
    monitor = Monitor("watched@here")
    yield monitor
    monitor.receiver.close()


@on_every_channel
def test_what_a_worker_says_of_its_tasks(start_worker: StartWorker, place: Place, monitor: Monitor) -> None:
    """Every run from its receipt to its end; own events in between; the worker itself from online to offline."""
    worker = start_worker("-E", "-c", "2", "-n", monitor.worker)
    sums = [tasks.add.delay(number, 1) for number in range(20)]
    said = tasks.halfway.delay(500)
    failed = tasks.fail.delay("on purpose")
    retried = tasks.flaky.delay("again", 1)
    expired = tasks.add.apply_async([1, 1], expires=datetime(2001, 1, 1, tzinfo=UTC))
    for result in sums:
        monitor.hears(result.id, A_RUN, worker)
    assert monitor.last(sums[-1].id)["result"] == "20"
    monitor.hears(said.id, ["task-received", "task-started", "task-halfway", "task-succeeded"], worker)
    monitor.hears(failed.id, ["task-received", "task-started", "task-failed"], worker)
    assert monitor.last(failed.id)["exception"] == "ValueError('on purpose')"
    monitor.hears(retried.id, ["task-received", "task-started", "task-retried", *A_RUN], worker)
    monitor.hears(expired.id, ["task-revoked"], worker)
    assert monitor.last(expired.id)["expired"] is True
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output
    monitor.wait(lambda: "worker-offline" in monitor.own(), worker, "the last word")
    assert monitor.own()[0] == "worker-online"
    assert set(monitor.own()[1:-1]) <= {"worker-heartbeat"}
    offline = next(event for event in monitor.heard if event["type"] == "worker-offline")
    assert offline["active"] == 0
    assert offline["processed"] >= len(sums) + 4


@on_redis
@pytest.mark.parametrize("pool", ["threads", "asyncio", "solo"])
def test_every_pool_says_it(start_worker: StartWorker, place: Place, monitor: Monitor, pool: str) -> None:
    """Functions and coroutines, with events of their own."""
    worker = start_worker("-E", "-P", pool, "-n", monitor.worker)
    results = [tasks.halfway.delay(1), tasks.nap_async.delay(0.01)]
    monitor.hears(results[0].id, ["task-received", "task-started", "task-halfway", "task-succeeded"], worker)
    monitor.hears(results[1].id, A_RUN, worker)
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output
    monitor.wait(lambda: "worker-offline" in monitor.own(), worker, "the last word")


@on_every_channel
def test_a_long_task_is_heard_of_while_it_runs(start_worker: StartWorker, place: Place, monitor: Monitor) -> None:
    """Received and started come at once; its process is killed, and the node says what becomes of it."""
    worker = start_worker("-E", "-c", "1", "-n", monitor.worker)
    result = tasks.nap.apply_async([60], time_limit=8)
    monitor.hears(result.id, ["task-received", "task-started"], worker)
    assert state_of(result.id) in {states.PENDING, states.STARTED}
    monitor.hears(result.id, ["task-received", "task-started", "task-failed"], worker)
    assert monitor.last(result.id)["exception"].startswith("TimeLimitExceeded(8")


@on_every_channel
def test_a_task_that_is_terminated(start_worker: StartWorker, place: Place, monitor: Monitor) -> None:
    """Monitors hear that it was revoked, by which signal, and nothing of a failure."""
    worker = start_worker("-E", "-c", "1", "-n", monitor.worker)
    result = tasks.nap.delay(60)
    monitor.hears(result.id, ["task-received", "task-started"], worker)
    result.revoke(terminate=True)
    monitor.hears(result.id, ["task-received", "task-started", "task-revoked"], worker)
    revoked = monitor.last(result.id)
    assert (revoked["terminated"], revoked["signum"], revoked["expired"]) == (True, signal.SIGTERM, False)


@pytest.mark.parametrize("place", [SQLITE, REDIS], indirect=True)
def test_a_task_whose_process_is_killed(start_worker: StartWorker, place: Place, monitor: Monitor) -> None:
    """Each time it goes back it is rejected; when that has happened too often, it has failed."""
    worker = start_worker("-E", "-c", "1", "-n", monitor.worker)
    result = tasks.die.delay("killed")
    monitor.wait(lambda: "task-failed" in monitor.of(result.id), worker, "the end of the task")
    assert "WorkerLostError" in monitor.last(result.id)["exception"]
    # What a process said in the moment of its death may be lost with it; what the node says is not.
    assert [type_ for type_ in monitor.of(result.id) if type_ not in {"task-received", "task-started"}] == [
        "task-rejected",
        "task-rejected",
        "task-failed",
    ]
    assert Effect.objects.filter(key="killed").count() == 3


@on_every_channel
def test_without_events(start_worker: StartWorker, place: Place, monitor: Monitor) -> None:
    """Nothing is said of tasks; of itself a worker speaks where the broker is no database, whose rows show it anyway."""
    worker = start_worker("-c", "1", "-n", monitor.worker)
    result, said = tasks.add.delay(1, 2), tasks.halfway.delay(7)
    assert result.get(timeout=50) == 3
    monitor.hears(said.id, ["task-halfway"], worker)
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output
    if place.name != "sqlite":
        monitor.wait(lambda: "worker-offline" in monitor.own(), worker, "the last word")
    monitor.look()
    assert {event["type"] for event in monitor.heard if event["type"].startswith("task-")} == {"task-halfway"}
    assert bool(monitor.own()) is (place.name != "sqlite")


@on_every_channel
def test_what_a_worker_sends_is_announced(start_worker: StartWorker, place: Place, monitor: Monitor) -> None:
    """TASK_SEND_SENT_EVENT counts for retries, too: a client's event each, in the name of the process that sent it."""
    worker = start_worker("-c", "1", TEST_TASK_SEND_SENT_EVENT="true")
    monitor.worker = ""
    heard: list[events.Event] = []
    result = tasks.flaky.delay("again", 2)

    def sent_twice() -> bool:
        heard.extend(event for event in monitor.receiver.receive(0.05) if event.get("uuid") == result.id)
        return len(heard) >= 2

    wait_until(sent_twice, f"two events; the worker said:\n{worker.output}")
    assert [(event["type"], event["retries"]) for event in heard] == [("task-sent", 1), ("task-sent", 2)]
    assert all(event["hostname"].startswith("gen") for event in heard)
    assert result.get(timeout=50) == 2


@pytest.fixture
def own_redis(transactional_db: None, tmp_path: Path, settings: Any, child_environment: dict[str, str]) -> Iterator[PrivateRedis]:
    """Messages and events on a Redis that this test may kill, results on SQLite."""
    need_redis_server()
    server = PrivateRedis(tmp_path / "redis", durable=True)
    server.start()
    Place("redis", server.url, "db://default").use(settings, child_environment)
    yield server
    brokers.reset()
    server.kill()


@pytest.mark.redis
def test_events_over_an_outage(start_worker: StartWorker, own_redis: PrivateRedis) -> None:
    """Redis is killed in the middle of a drain: all tasks run, each process warns once, and monitors hear again what comes after it."""
    monitor = Monitor("watched@here")
    worker = start_worker("-E", "-c", "1", "-n", monitor.worker, TEST_WORKER_HEARTBEAT="0.2")
    naps = [tasks.nap.delay(0.05) for _ in range(60)]
    monitor.hears(naps[0].id, A_RUN, worker)
    own_redis.kill()
    worker.says("Monitors can't be told that this worker lives")
    own_redis.start()
    assert [nap.get(timeout=60) for nap in naps] == [0.05] * 60
    worker.says("Monitors hear of this worker again")
    monitor.receiver.close()
    monitor.receiver = events.current().listen()
    after = tasks.add.delay(1, 2)
    monitor.hears(after.id, A_RUN, worker)
    monitor.heard.clear()
    monitor.wait(lambda: "worker-heartbeat" in monitor.own(), worker, "a heartbeat")
    assert worker.output.count("Monitors can't be told") == 1
    assert worker.output.count("Events can't be sent") <= 1
    assert worker.output.count("All events are sent again") == worker.output.count("Events can't be sent")
    monitor.receiver.close()
