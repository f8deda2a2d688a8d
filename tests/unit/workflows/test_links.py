"""Callbacks and error callbacks: when they are called, where, and with what."""

import pytest

from django_tasks.canvas import chord, group, signature
from django_tasks.registry import registry
from django_tasks.tasks import shared_task
from tests.unit.workflows.flow import add, calls, double, errback, fail, ident, note, same, total


def test_links_get_the_result(world):
    """A callback runs with the result, several run side by side, and groups among them, too."""
    sig = add.s(1, 1)
    sig.link(note.s("one"))
    sig.link(note.s("two"))
    sig.link(group(note.s("three"), note.s("four")))
    sig.apply_async()
    world.run()
    assert sorted(calls, key=repr) == [(2, "four"), (2, "one"), (2, "three"), (2, "two")]


def test_link_of_a_chain_runs_last(world):
    """A callback of the whole chain gets the last step's result."""
    flow = add.s(1, 1) | double.s()
    flow.link(note.s())
    flow.apply_async()
    world.run()
    assert calls == [(4,)]


def test_link_of_a_chord_gets_the_bodys_result(world):
    """A callback given to a chord, in any way, follows its body."""
    chord([ident(1), ident(2)], total.s()).apply_async(link=note.s("option"))
    flow = chord([ident(1), ident(2)], total.s())
    flow.link(note.s("method"))
    flow.apply_async()
    world.run()
    assert sorted(calls) == [(3, "method"), (3, "option")]


def test_groups_take_no_links():
    """A link on a whole group has no meaning, and says so."""
    with pytest.raises(TypeError, match="chord"):
        group(add.s(1, 1)).apply_async(link=note.s())


def test_new_style_errback_is_called_in_process(world):
    """An error callback of three arguments is called where the task failed, and not sent."""
    result = fail.s().on_error(errback.s()).apply_async()
    world.run()
    [(task_id, exc, traceback)] = calls
    assert (task_id, exc.args, len(world.ran)) == (result.id, ("bad", 3), 1)
    assert traceback.startswith("Traceback")
    assert "ValueError: ('bad', 3)" in traceback


def test_old_style_errback_is_sent_with_the_id(world):
    """An error callback of one argument is sent as a task, with the failed task's id."""
    result = fail.s().on_error(same.s()).apply_async()
    world.run()
    assert [message.task for message in world.ran] == ["flow.fail", "flow.same"]
    assert tuple(world.ran[1].args) == (result.id,)
    assert world.ran[1].parent_id == result.id


def test_errback_of_an_unknown_task_is_sent(world):
    """An error callback that this process doesn't know goes to one that does."""
    fail.s().on_error(signature("elsewhere.report", args=("x",))).apply_async()
    world.step()
    assert [message.task for message in world.queue] == ["elsewhere.report"]


def test_errback_with_stored_arguments(world):
    """Stored arguments of an error callback come after the three it is called with."""

    @shared_task(name="flow.errback4")
    def errback4(request, exc, traceback, where):
        calls.append((request.id, where))

    try:
        result = fail.s().on_error(errback4.s("shop")).apply_async()
        world.run()
        assert calls == [(result.id, "shop")]
    finally:
        registry.unregister("flow.errback4")


def test_failing_errback_changes_nothing(world, caplog):
    """An error callback that fails is logged; the task's failure stays what it is."""

    @shared_task(name="flow.badback")
    def badback(request, exc, traceback):
        raise RuntimeError("worse")

    try:
        result = fail.s().on_error(badback.s()).apply_async()
        world.run()
        assert world.state(result) == "FAILURE"
        assert "badback" in caplog.text
    finally:
        registry.unregister("flow.badback")
