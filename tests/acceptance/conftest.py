"""Real workers in processes of their own, on the broker and the results of the test."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.places import EVERYWHERE, Place, open_place
from tests.processes import DEADLINE, ROOT, StartWorker, WorkerProcess, state_of, wait_until

__all__ = ["DEADLINE", "ROOT", "StartWorker", "WorkerProcess", "state_of", "wait_until"]


@pytest.fixture(params=EVERYWHERE)
def place(request: pytest.FixtureRequest, transactional_db: None, settings: Any, child_environment: dict[str, str]) -> Iterator[Place]:
    """Run the test on SQLite, PostgreSQL, Redis and RabbitMQ; ``on_databases`` and its like in tests/places.py choose fewer."""
    with open_place(request.param) as place:
        place.use(settings, child_environment)
        yield place


@pytest.fixture
def start_worker(request: pytest.FixtureRequest, child_environment: dict[str, str]) -> Iterator[StartWorker]:
    """``start_worker("-c", "2")`` starts a worker that ends with the test."""
    # Workers end before their place is tidied, or they would declare its queues anew.
    for name in ("place", "relayed", "on_own_redis", "on_own_rabbitmq"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    started: list[WorkerProcess] = []

    def start(*arguments: str, **environment: str) -> WorkerProcess:
        worker = WorkerProcess({**child_environment, **environment}, *arguments)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop()
