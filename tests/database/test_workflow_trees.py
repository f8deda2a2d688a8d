"""Random workflows of the benchmark, in which tasks die before their outcome takes effect: each has the value that it must have."""

import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from django_tasks import brokers, clock, states
from django_tasks.canvas.links import followups
from django_tasks.models import ChordCounter, ChordPart, Message, TaskResult
from django_tasks.operations.resuming import resume
from django_tasks.outcomes import Outcome, failure
from django_tasks.registry import registry
from tests.database.lane import Lane

pytestmark = pytest.mark.django_db(transaction=True)

BENCHMARKS = str(Path(__file__).resolve().parent.parent.parent / "benchmarks")
#: Seconds that one workflow may take.
PATIENCE = 30.0


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The benchmark's module; its tasks take no time and note what they do in a folder of the test."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("EFFECTS", str(tmp_path / "effects"))
    import workflow_trees

    monkeypatch.setattr(workflow_trees, "pause", lambda: None)
    yield workflow_trees
    sys.modules.pop("workflow_trees", None)
    for name in [name for name in registry if name.startswith("workflow_trees.")]:
        registry.unregister(name)


@pytest.mark.parametrize("deaths", [0.0, 0.3, 1.0], ids=["nothing dies", "some die", "everything dies once"])
def test_random_workflows(lane: Lane, trees: Any, tmp_path: Path, deaths: float) -> None:
    """Values and failures are those that Python computes, what has to run does, what comes after a failure doesn't, and nothing is left."""
    chance = random.Random(deaths)
    grower = trees.Grower(20261121, failures=0.01)
    grown = [grower.tree(number) for number in range(25)]
    results = [tree.canvas.apply_async() for tree in grown]
    end = time.monotonic() + PATIENCE
    while Message.objects.exists() and time.monotonic() < end:
        lane.drain(twice=lambda name: chance.random() < deaths)
        brokers.current().promote(clock.now(), limit=1000)
    for tree, result in zip(grown, results, strict=True):
        if tree.failures:
            with pytest.raises(Exception, match="|".join(map(str, tree.failures))):
                result.get(timeout=1)
        else:
            assert trees.leaves(result.get(timeout=1)) == trees.leaves(tree.value)
    ran = {line.split()[0] for line in (tmp_path / "effects").read_text().splitlines()}
    assert ran >= set().union(*(tree.must for tree in grown))
    assert not ran & set().union(*(tree.mustnt for tree in grown))
    assert Message.objects.count() == ChordPart.objects.count() == ChordCounter.objects.filter(date_done=None).count() == 0


class Unlucky(Lane):
    """A lane on which tasks fail by chance, each once at most, and may die before that takes effect."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.met: set[str] = set()

    def run(self, delivery: Any) -> Outcome:
        """Run a delivery, or let it fail."""
        request = self.request(delivery)
        task_id = request.message.id
        if task_id in self.met or self.chance.random() > 0.1:
            return super().run(delivery)
        self.met.add(task_id)
        error = OSError(f"bad luck of {task_id}")
        return failure(request, error, None, followups=followups(request, states.FAILURE, error))


@pytest.mark.parametrize("seed", range(4))
def test_random_workflows_go_on(trees: Any, tmp_path: Path, seed: int) -> None:
    """Whatever fails in them, by going on from there they come to the value that Python computes, and nothing is left."""
    lane = Unlucky(seed)
    grower = trees.Grower(seed, failures=0.0)
    grown = [grower.tree(number) for number in range(12)]
    results = [tree.canvas.apply_async() for tree in grown]
    rounds = 0
    while Message.objects.exists() or (failed := list(TaskResult.objects.filter(status=states.FAILURE, meta__contains="follows"))):
        if not Message.objects.exists():
            resume(failed)
            rounds += 1
            assert rounds < 100, "it does not end"
        lane.drain(twice=lambda name: lane.chance.random() < 0.2)
        brokers.current().promote(clock.now(), limit=1000)
    lane.consumer.close()
    assert rounds > 1
    for tree, result in zip(grown, results, strict=True):
        assert trees.leaves(result.get(timeout=1)) == trees.leaves(tree.value)
    ran = {line.split()[0] for line in (tmp_path / "effects").read_text().splitlines()}
    assert ran >= set().union(*(tree.must for tree in grown))
    assert not TaskResult.objects.filter(status__in=[states.FAILURE, states.PENDING]).exists()
    assert Message.objects.count() == ChordPart.objects.count() == ChordCounter.objects.filter(date_done=None).count() == 0
