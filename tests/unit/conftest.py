"""What tests of tasks and workflows share: a small worker, a task to call, and a registry that forgets."""

from collections.abc import Iterator

import pytest

from django_tasks.registry import registry
from django_tasks.tasks import Task, shared_task
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
