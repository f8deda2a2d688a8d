"""Workflows in eager mode: what they are called with, their ids, and who hears of a failure, as over the wire."""

import pytest

from django_tasks.canvas import chain, chord, group, signature
from django_tasks.exceptions import AlwaysEagerIgnored
from django_tasks.registry import registry
from django_tasks.tasks import shared_task
from django_tasks.testing import eager, in_memory


@pytest.fixture(autouse=True)
def heard():
    """Tasks to call, and what was told to one of them."""
    told = []

    @shared_task(name="eager.add")
    def add(*args, **kwargs):
        return sum(args) + sum(kwargs.values())

    @shared_task(name="eager.total")
    def total(values):
        return sum(values)

    @shared_task(name="eager.fail")
    def fail():
        raise ValueError("broken")

    @shared_task(name="eager.hear")
    def hear(*args):
        told.append(args)

    @shared_task(name="eager.replace", bind=True)
    def replace(self, name):
        return self.replace(registry[f"eager.{name}"].si())

    yield told
    for name in [name for name in registry if name.startswith("eager.")]:
        registry.unregister(name)


def task(name):
    return registry[f"eager.{name}"]


def test_a_chord_is_called_with_what_it_would_be_called_with_over_the_wire():
    """Its own arguments and those for its header reach the parts."""
    flow = chord([task("add").s(1), task("add").s(2)], task("total").s(), kwargs={"kwargs": {"more": 5}}).clone((10,))
    with in_memory() as queue:
        sent = flow.apply_async((100,))
        queue.run_pending(raise_errors=True)
        assert sent.get(timeout=0) == 233
    with eager():
        assert flow.apply_async((100,)).get() == 233
    assert flow.apply((100,)).get() == 233


def test_a_chords_result_has_the_id_that_was_given_and_follows_its_header():
    """As over the wire: ``task_id`` is the body's, and ``parent`` are the parts."""
    with eager():
        result = chord([task("add").s(1), task("add").s(2)], task("total").s()).apply_async(task_id="mine")
    assert (result.id, result.get(), result.parent.get()) == ("mine", 3, [1, 2])


def test_a_frozen_chord_keeps_its_bodys_id():
    """The id that freezing announced is the result's, and not the header's."""
    flow = chord([task("add").s(1), task("add").s(2)], task("total").s())
    announced = flow.freeze()
    assert flow.apply().id == announced.id


def test_a_chords_own_callbacks_are_called_inside_a_chain_too(heard):
    """They were lost where the chord was a step."""
    flow = chord([task("add").s(1), task("add").s(2)], task("total").s()).set(link=[task("hear").s()])
    chain(task("add").s(0), flow).apply()
    assert heard == [(3,)]


def test_each_step_of_a_chain_has_an_id_of_its_own():
    """``task_id`` is that of the last step; a frozen chain's steps have those that freezing announced."""
    flow = task("add").s(1) | task("add").s(2) | task("add").s(3)
    with eager():
        result = flow.apply_async(task_id="mine")
    assert result.as_list()[0] == "mine"
    assert len(set(result.as_list())) == 3
    announced = flow.freeze().as_list()
    assert flow.apply().as_list() == announced


def test_error_callbacks_of_a_chain_leave_those_of_its_steps_in_force(heard):
    """Both hear of the failure, and each once."""
    flow = chain(task("fail").s().on_error(task("hear").si("step")), task("add").s(2))
    with eager(propagates=False), pytest.raises(ValueError, match="broken"):
        flow.apply_async(link_error=task("hear").si("chain"))
    assert sorted(heard) == [("chain",), ("step",)]


@pytest.mark.parametrize(("name", "expected"), [("add", (0, "well")), ("fail", ("badly",))])
def test_what_follows_a_task_that_replaced_itself_happens_once(heard, name, expected):
    """Its callbacks are the replacement's, and are not called a second time for the task itself."""
    with eager(propagates=False):
        task("replace").apply_async((name,), link=task("hear").s("well"), link_error=task("hear").si("badly"))
    assert heard == [expected]


def test_a_signature_of_an_unknown_task_is_sent_with_a_warning():
    """As send_task() does: a test would not notice otherwise that something left."""
    with in_memory() as queue, eager(), pytest.warns(AlwaysEagerIgnored, match="doesn't know"):
        signature("elsewhere.pack", (1,)).apply_async()
    assert not queue.pending()


FLOWS = {
    "chain": lambda step: step("a") | step("b") | step("c"),
    "chain with a given root": lambda step: (step("a") | step("b")).set(root_id="R", parent_id="P"),
    "chord in a chain": lambda step: chain(step("a"), group(step("b1"), step("b2")), step("c"), step("d")),
    "chord": lambda step: chord([step("a1"), step("a2") | step("a3")], step("b") | step("c")),
    "group": lambda step: group(step("a1"), step("a2") | step("a3")),
    "callback": lambda step: chain(step("a"), step("b")).set(link=[step("heard")]),
    "inside a task": lambda step: step("outer", flow=lambda: step("a") | step("b")),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_steps_have_the_root_and_the_parent_that_they_have_over_the_wire(flow):
    """The root is the first task, the parent is the step before; each was its own root, and had no parent."""
    seen, inner = [], []

    @shared_task(name="eager.note", bind=True)
    def note(self, *args, name):
        seen.append((name, self.request.id, self.request.root_id, self.request.parent_id))
        if name == "outer":
            inner[-1]().apply_async()

    def step(name, flow=None):
        inner.append(flow)
        return note.s(name=name)

    def family():
        names = {task_id: name for name, task_id, _, _ in seen}
        return sorted((name, names.get(root, root), names.get(parent, parent)) for name, _, root, parent in seen)

    with in_memory() as queue:
        FLOWS[flow](step).apply_async()
        queue.run_pending(raise_errors=True)
    expected = family()
    seen.clear()
    with eager():
        FLOWS[flow](step).apply_async()
    assert family() == expected
