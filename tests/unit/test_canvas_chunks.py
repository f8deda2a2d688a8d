"""Chunks inside of workflows: a group, whose values are there when the next step runs."""

import json

import pytest

from django_tasks.canvas import chain, chord, group, signature
from django_tasks.registry import registry
from django_tasks.tasks import shared_task
from django_tasks.testing import eager, in_memory

VALUES = [[0, 2], [4, 6], [8]]


@pytest.fixture(autouse=True)
def _tasks():
    import django_tasks.builtins  # noqa: F401

    @shared_task(name="chunked.add")
    def add(x, y):
        return x + y

    @shared_task(name="chunked.same")
    def same(value):
        return value

    @shared_task(name="chunked.replace", bind=True)
    def replace(self):
        return self.replace(chunks())

    yield
    for name in ("chunked.add", "chunked.same", "chunked.replace"):
        registry.unregister(name)


def chunks():
    return registry["chunked.add"].chunks([(number, number) for number in range(5)], 2)


def same():
    return registry["chunked.same"].s()


def one():
    return registry["chunked.same"].si(1)


FLOWS = {
    "piped": (lambda: chunks() | same(), VALUES),
    "a chain": (lambda: chain(chunks(), same()), VALUES),
    "later in a chain": (lambda: chain(one(), chunks(), same()), VALUES),
    "behind a chain": (lambda: (one() | one()) | chunks() | same(), VALUES),
    "behind a chord": (lambda: chord([one(), one()], same()) | chunks() | same(), VALUES),
    "in a header": (lambda: chord([chunks(), one()], same()), [*VALUES, 1]),
    "a body": (lambda: chord([one(), one()], chunks()), VALUES),
    "in a group": (lambda: group(chunks(), one()), [*VALUES, 1]),
    "the only member of a group": (lambda: group(chunks()) | same(), VALUES),
    "instead of a task": (lambda: registry["chunked.replace"].si() | same(), VALUES),
    "through JSON": (lambda: signature(json.loads(json.dumps(chunks() | same()))), VALUES),
}


@pytest.mark.parametrize("name", FLOWS)
def test_the_next_step_gets_the_values(name):
    """It was given the ids of tasks that had only just been sent."""
    make, expected = FLOWS[name]
    with in_memory() as queue:
        result = make().apply_async()
        queue.run_pending(raise_errors=True)
        assert result.get(timeout=0) == expected
    with eager():
        assert make().apply_async().get() == expected


def test_options_of_chunks_are_those_of_each_part():
    """Also where they lie in a chain: their queue, and not their id."""
    with in_memory() as queue:
        (chunks().set(queue="slow", task_id="mine") | same()).apply_async()
        assert [(one.task, one.queue) for one in queue.published()] == [("celery.starmap", "slow")] * 3
        assert len({one.id for one in queue.published()}) == 3


def test_chunks_have_no_result_of_their_own():
    """Freezing them would announce a result that never comes."""
    with pytest.raises(ValueError, match=r"chunks\.group\(\)"):
        chunks().freeze()


def test_an_option_that_is_none_leaves_a_map_where_its_task_belongs():
    """``queue=None`` means: as if it were not given."""
    registry["chunked.same"].queue = "slow"
    with in_memory() as queue:
        registry["chunked.same"].map([1, 2]).apply_async(queue=None)
        assert [one.queue for one in queue.published()] == ["slow"]


@pytest.mark.parametrize("make", [lambda: registry["chunked.same"].map([1, 2]), lambda: registry["chunked.add"].starmap([(1, 2)]), chunks])
def test_a_copy_is_of_the_same_kind(make):
    """With its own options and links, so that a map goes where its task belongs inside of a workflow, too."""
    sig = make()
    copy = sig.clone(queue="slow")
    copy.link(same())
    copy.kwargs["task"].set(queue="other")
    assert type(copy) is type(sig)
    assert (sig.options, sig.kwargs["task"]["options"]) == ({}, {})
    assert (copy.options["queue"], copy["immutable"], copy["task"]) == ("slow", True, sig["task"])


def test_a_map_in_a_chain_goes_where_its_task_belongs():
    """As it does by itself."""
    registry["chunked.same"].queue = "slow"
    with in_memory() as queue:
        (one().set(queue="first") | registry["chunked.same"].map([1, 2])).apply_async()
        registry["chunked.same"].map([1, 2]).apply_async(link=same())
        group(registry["chunked.same"].map([1, 2]), one()).apply_async()
        assert {one.queue for one in queue.published("celery.map")} == {"slow"}
        queue.run_pending(raise_errors=True)
        assert {one.queue for one in queue.published("celery.map")} == {"slow"}
