"""Workflows of every shape give the right results, sent over the wire and in eager mode."""

import pytest

from django_tasks.canvas import chain, chord, group, signature
from django_tasks.result_backends.memory import MemoryResultBackend
from tests.unit.workflow_world import World
from tests.unit.workflows.flow import add, double, ident, same, total

WORKFLOWS = {
    "a call": (lambda: add.s(2, 3), 5),
    "a chain": (lambda: add.s(2, 3) | add.s(10) | double.s(), 30),
    "a chain with an immutable step": (lambda: add.s(2, 3) | add.si(1, 1) | double.s(), 4),
    "a chain of one": (lambda: chain(add.s(1, 2)), 3),
    "nested chains": (lambda: chain(add.s(1, 1), chain(double.s(), chain(double.s(), add.s(1)))), 9),
    "a group": (lambda: group(add.s(i, i) for i in range(4)), [0, 2, 4, 6]),
    "a group of one": (lambda: group(add.s(1, 1)), [2]),
    "nested groups": (lambda: group(add.s(1, 1), group(add.s(2, 2), add.s(3, 3))), [2, 4, 6]),
    "a group of chains": (lambda: group(add.s(1, 1) | double.s(), add.s(2, 2) | double.s()), [4, 8]),
    "a chain that ends in a group": (lambda: add.s(1, 1) | group(add.s(1), add.s(2)), [3, 4]),
    "a group of one chain that ends in a group": (lambda: group(add.s(1, 1) | group(add.s(1), add.s(2))), [3, 4]),
    "a chord": (lambda: chord([add.s(1, 1), add.s(2, 2)], total.s()), 6),
    "a chord of one": (lambda: chord([add.s(1, 1)], total.s()), 2),
    "an empty chord": (lambda: chord([], total.s()), 0),
    "a group upgraded": (lambda: group(add.s(1, 1), add.s(2, 2)) | total.s(), 6),
    "a step before a group before a step": (lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | total.s(), 7),
    "steps after a chord": (lambda: group(add.s(1, 1), add.s(2, 2)) | total.s() | double.s() | add.s(1), 13),
    "two groups in a row": (lambda: group(ident(1), ident(2)) | group(total.s(), total.s()) | total.s(), 6),
    "fan out, in, out, in": (
        lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | group(add.s(1), add.s(2)) | total.s() | double.s(),
        34,
    ),
    "a chord that ends in a group": (lambda: group(ident(1), ident(2)) | group(total.s(), total.s()), [3, 3]),
    "a chord of chains": (lambda: chord([add.s(1, 1) | double.s(), ident(3)], total.s()), 7),
    "a chord of a chain alone": (lambda: chord(chain(add.s(1, 1), double.s()), total.s()), 4),
    "a chord in a chord": (lambda: chord([chord([ident(1), ident(2)], total.s()), ident(4)], total.s()), 7),
    "a chord in a chord in a chord": (
        lambda: chord([chord([chord([ident(1), ident(2)], total.s()), ident(4)], total.s()), ident(8)], total.s()),
        15,
    ),
    "chords one after the other": (
        lambda: chord([ident(1), ident(2)], total.s()) | chord([ident(4), ident(8)], total.s()),
        12,
    ),
    "a chord whose body is a chord": (lambda: chord([ident(1), ident(2)], chord([total.s(), total.s()], total.s())), 6),
    "a chord whose body is a chain": (lambda: chord([ident(1), ident(2)], chain(total.s(), double.s(), add.s(1))), 7),
    "a chain with a chord whose body is a chain with a chord": (
        lambda: (
            ident(1) | chord([add.s(1), add.s(2)], chain(total.s(), chord([add.s(1), add.s(2)], chain(total.s(), double.s())))) | add.s(100)
        ),
        126,
    ),
    "a header with a chain that ends in a group": (
        lambda: chord([ident(1) | group(add.s(1), add.s(2)), ident(7)], same.s()),
        [[2, 3], 7],
    ),
    "a header with a chord that ends in a group": (
        lambda: chord([chord([ident(1), ident(2)], group(total.s(), total.s())), ident(7)], same.s()),
        [[3, 3], 7],
    ),
    "a header with a chain through a group": (
        lambda: chord([ident(1) | group(add.s(1), add.s(2)) | total.s(), ident(7)], same.s()),
        [5, 7],
    ),
    "a chord that ends in a group, before a chain": (
        lambda: chord([ident(1), ident(2)], group(total.s(), total.s())) | chain(total.s(), double.s()),
        12,
    ),
    "a group, a group of one, a chain": (lambda: group(ident(1), ident(2)) | group([same.s()]) | chain(total.s(), double.s()), 6),
    "a chord that ends in a chord that ends in a group, before a chain": (
        lambda: chord([ident(1)], chord([same.s(), same.s()], group(total.s(), total.s()))) | chain(total.s(), double.s()),
        8,
    ),
    "a header of one chord that ends in a group of one": (lambda: chord([chord([ident(1)], group([same.s()]))], same.s()), [[[1]]]),
    "a header with a chain that ends in a group with a chord": (
        lambda: chord([ident(1) | group(add.s(1), chord([add.s(1), add.s(2)], total.s())), ident(7)], same.s()),
        [[2, 5], 7],
    ),
    "a header with a chord that ends in a group with a chord": (
        lambda: chord([chord([ident(1)], group(total.s(), chord([same.s(), same.s()], total.s())))], same.s()),
        [[1, 2]],
    ),
    "a chord that ends in a group of one chord that ends in a group": (
        lambda: chord([ident(1)], group([chord([same.s(), same.s()], group([total.s()]))])),
        [[2]],
    ),
    "map": (lambda: double.map([1, 2, 3]), [2, 4, 6]),
    "starmap": (lambda: add.starmap([(1, 2), (3, 4)]), [3, 7]),
    "chunks": (lambda: add.chunks([(i, i) for i in range(5)], 2), [[0, 2], [4, 6], [8]]),
    "the group of chunks, then a step": (lambda: add.chunks([(i, i) for i in range(5)], 2).group() | total.s(), 20),
    "a chain over an empty group": (lambda: chain(add.s(1, 1), group([]), double.s()), 4),
    "a group with an empty chain": (lambda: group(ident(1), chain(), ident(2)), [1, 2]),
    "an empty group": (lambda: group([]), []),
}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_over_the_wire(world, name):
    """Sent as messages, a workflow of this shape ends with the right value under the id that the caller holds."""
    make, expected = WORKFLOWS[name]
    result = make().apply_async()
    world.run()
    assert world.value(result) == expected


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_in_a_real_backend(monkeypatch, name):
    """The same with chords counted by a result backend that is one, and read by the results themselves."""
    world = World(monkeypatch, MemoryResultBackend())
    make, expected = WORKFLOWS[name]
    result = make().apply_async()
    world.run()
    assert result.get(timeout=1) == expected


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_eagerly(world, name):
    """Run in the caller's process, the same workflow has the same value, and nothing is sent."""
    make, expected = WORKFLOWS[name]
    assert make().apply().get() == expected
    assert not world.messages


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_when_read_from_json(world, name):
    """A workflow that came as JSON from elsewhere runs the same."""
    import json

    make, expected = WORKFLOWS[name]
    result = signature(json.loads(json.dumps(make()))).apply_async()
    world.run()
    assert world.value(result) == expected or name in {"map", "starmap", "chunks"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_when_frozen_first(world, name):
    """The result that freezing announces is the one that running fills."""
    make, expected = WORKFLOWS[name]
    sig = make()
    if sig["task"] == "celery.chunks":
        sig = sig.group()
    frozen = sig.freeze()
    sig.apply_async()
    world.run()
    # Freezing tells of the group as it was written, also where a lone member stands for it once it is sent.
    assert world.value(frozen) == ([expected] if name == "a group of one chain that ends in a group" else expected)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_in_a_workflow(world, name):
    """As a step between two others, the workflow still takes and gives the right values."""
    make, expected = WORKFLOWS[name]
    if name in {"an empty group", "chunks"}:
        pytest.skip("has no result of its own")
    if name == "a group of one":
        expected = expected[0]  # in a chain it stands for its only member, as in Celery
    result = (ident(None) | immutable(make()) | same.s()).apply_async()
    world.run()
    assert world.value(result) == expected


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_as_a_part_of_a_chord(world, name):
    """In a chord's header, the workflow contributes its result in its place."""
    make, expected = WORKFLOWS[name]
    if name in {"an empty group", "chunks", "a group", "a group of one", "nested groups", "a group of chains"}:
        pytest.skip("groups in a header are flattened")
    if name in {"a group with an empty chain", "a group of one chain that ends in a group"}:
        pytest.skip("groups in a header are flattened")
    result = chord([ident("before"), make(), ident("after")], same.s()).apply_async()
    world.run()
    assert world.value(result) == ["before", expected, "after"]


def immutable(sig):
    """Return the workflow such that its first tasks take nothing from the step before."""
    kind = sig.subtask_type
    if kind == "chain":
        if sig.tasks:
            immutable(sig.tasks[0])
    elif kind == "group":
        for task in sig.tasks:
            immutable(task)
    elif kind == "chord":
        for task in sig.header_tasks():
            immutable(task)
    else:
        sig.set_immutable(True)
    return sig
