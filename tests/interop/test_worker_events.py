"""Celery's own monitor on our worker: its in-memory state shows workers and tasks as it shows Celery's."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from celery import Celery

from django_tasks.result import AsyncResult
from tests.places import Place, on_servers, open_place
from tests.processes import StartWorker, WorkerProcess, wait_until
from tests.sampleapp import tasks

WORKER = "ours@here"
pytestmark = [pytest.mark.interop, pytest.mark.django_db(transaction=True, databases=["default"])]


@pytest.fixture
def place(request: pytest.FixtureRequest, transactional_db: None, settings: Any, child_environment: dict[str, str]) -> Iterator[Place]:
    """A broker that is a server."""
    with open_place(request.param) as place:
        place.use(settings, child_environment)
        yield place


class CelerysMonitor:
    """``celery.events``: a receiver that feeds a State, as Flower and ``celery events`` have it."""

    def __init__(self, place: Place) -> None:
        app = Celery("monitor", broker=place.broker_url, set_as_current=False)
        app.conf.broker_transport_options = place.options.get("BROKER_TRANSPORT_OPTIONS", {})
        self.state = app.events.State()
        self.heard: list[dict[str, Any]] = []
        self._open = ExitStack()
        own = self._open.enter_context(app.connection_for_read())
        receiver = app.events.Receiver(own, handlers={"*": self._hear}, app=app)
        # Celery listens on a connection of its own making.
        self._connection, _, _ = self._open.enter_context(receiver.consumer_context())

    def _hear(self, event: dict[str, Any]) -> None:
        if event["hostname"] == WORKER:
            self.heard.append(event)
            self.state.event(event)

    def until(self, condition: Any, worker: WorkerProcess, what: str) -> None:
        """Listen until the condition holds."""

        def holds() -> bool:
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=0.1)
            return bool(condition())

        try:
            wait_until(holds, what)
        except BaseException:
            print("\n".join(f"{event['type']} {event.get('uuid')} {event['timestamp']}" for event in self.heard), worker.output[-3000:])
            raise

    def close(self) -> None:
        """Stop listening."""
        self._open.close()


@on_servers
def test_celerys_state_of_our_worker(start_worker: StartWorker, place: Place) -> None:
    """Workers are alive until they say that they go; tasks have their states, names, arguments, results and workers."""
    monitor = CelerysMonitor(place)
    try:
        worker = start_worker("-E", "-c", "1", "-n", WORKER)
        good, bad = tasks.add.apply_async([2, 3], shadow="plus"), tasks.fail.delay("on purpose")
        again, long = tasks.flaky.delay("again", 1), tasks.nap.delay(5)
        seen = monitor.state.tasks

        def states(*results: AsyncResult[Any]) -> list[str | None]:
            return [getattr(seen.get(result.id), "state", None) for result in results]

        monitor.until(lambda: states(good, bad, long) == ["SUCCESS", "FAILURE", "STARTED"], worker, "a task that runs behind others")
        node = monitor.state.workers[WORKER]
        assert node.alive
        monitor.until(lambda: states(again, long) == ["SUCCESS", "SUCCESS"], worker, "the end")
        plus = seen[good.id]
        assert (plus.name, plus.args, plus.kwargs, plus.result, plus.worker.hostname) == ("plus", "[2, 3]", "{}", "5", WORKER)
        assert plus.received <= plus.started <= plus.succeeded
        assert plus.runtime < seen[long.id].runtime >= 5
        assert (seen[bad.id].exception, seen[again.id].retries) == ("ValueError('on purpose')", 1)
        assert seen[again.id].retried
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0, worker.output
        # Celery's state takes a worker for dead as well whose heartbeat is late.
        monitor.until(lambda: monitor.heard[-1]["type"] == "worker-offline", worker, "the worker's last word")
        assert not node.alive
        assert (node.sw_ident, node.processed, node.active) == ("django_tasks", 5, 0)
    finally:
        monitor.close()
