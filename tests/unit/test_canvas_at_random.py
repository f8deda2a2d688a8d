"""Workflows put together at random: over the wire, through JSON, frozen first and in eager mode they come to the same value."""

import json
import random

import pytest

from django_tasks.canvas import Signature, chain, chord, group
from django_tasks.registry import registry
from django_tasks.tasks import shared_task

SEEDS = 150


@pytest.fixture(autouse=True)
def _task():
    """A task whose value tells how it was called; the name of the call comes last, behind the results of earlier ones."""
    import django_tasks.builtins  # noqa: F401

    @shared_task(name="random.told")
    def told(*args):
        *given, name = args
        return f"{name}({', '.join(map(shown, given))})"

    yield
    registry.unregister("random.told")


def shown(value):
    """Return a value as text."""
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, list) else str(value)


class Maker:
    """Makes the workflow of a seed, the same one each time."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.calls = 0

    def made(self, depth=4):
        """Return a signature of any kind."""
        kinds = [self.call] * 3 + ([self.chained, self.piped, self.grouped, self.chorded] * 2 if depth and self.calls < 10 else [])
        return self.random.choice(kinds)(depth - 1)

    def several(self, depth):
        # What matters is the depth; broad ones take long.
        return [self.made(depth) for _ in range(1 + (self.random.random() < 0.6))]

    def call(self, depth):
        self.calls += 1
        return Signature("random.told", (self.calls,), immutable=self.random.random() < 0.15)

    def chained(self, depth):
        return chain(self.several(depth))

    def piped(self, depth):
        flow = group(self.several(depth))
        for step in self.several(depth):
            flow = flow | step
        return flow

    def grouped(self, depth):
        return group(self.several(depth))

    def chorded(self, depth):
        return chord(self.several(depth), self.made(depth))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_workflow_has_one_value(world, seed):
    """However it is run, it comes to the value that it has in eager mode, and no task runs twice."""
    expected = shown(Maker(seed).made().apply(("given",)).get())
    frozen = Maker(seed).made()
    frozen.freeze()
    for flow in (Maker(seed).made(), Signature.from_dict(json.loads(json.dumps(Maker(seed).made()))), frozen):
        result = flow.apply_async(("given",))
        world.run(most=5000)
        assert shown(world.value(result)) == expected, repr(flow)
    ids = [message.id for message in world.ran]
    assert len(ids) == len(set(ids))
