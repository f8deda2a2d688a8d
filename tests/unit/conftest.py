"""What unit tests share: a small worker, a consumer thread to be turned by hand, a task to call, a registry that forgets."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from django_tasks.registry import registry
from django_tasks.tasks import Task, shared_task
from tests.unit.worker_rig import Pushing, Rig
from tests.unit.workflow_world import World


@pytest.fixture
def own_registry() -> Iterator[None]:
    """Forget the tasks of one test before the next."""
    before = set(registry)
    yield
    for name in set(registry) - before:
        registry.unregister(name)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A small worker."""
    return World(monkeypatch)


@pytest.fixture
def add(own_registry: None) -> Task:
    """A plain task, ``t.add``."""

    @shared_task(name="t.add")
    def add(x, y=0):
        return x + y

    return add


@pytest.fixture
def url(settings: Any) -> str:
    """A broker, results and events in memory, of this test alone."""
    url = f"memory://{uuid4().hex}"
    settings.DJANGO_TASKS = {"BROKER_URL": url, "RESULT_BACKEND": url}
    return url


@pytest.fixture
def rig(url: str) -> Rig:
    """A consumer thread on a broker that does not recover."""
    return Rig(Pushing(url))
