"""Steps and parts that fail: what fails with them, and whose error callbacks hear of it."""

import json

import pytest

from django_tasks.canvas import chord, group
from django_tasks.exceptions import ChordError
from django_tasks.registry import registry
from django_tasks.tasks import shared_task
from tests.unit.workflows.flow import calls, double, errback, fail, ident, same, total


def test_failed_chain_fails_its_other_steps(world):
    """When a step fails, those after it fail with the same error, so that nobody waits for ever."""
    flow = ident(1) | fail.s() | double.s() | double.s()
    result = flow.apply_async()
    world.run()
    assert len(world.ran) == 2
    assert [world.state(r) for r in (result, result.parent, result.parent.parent)] == ["FAILURE"] * 3
    assert world.state(result.parent.parent.parent) == "SUCCESS"
    assert isinstance(world.value(result), ValueError)


def test_failed_chain_fails_a_chord_behind_it(world):
    """When a step fails before a chord, the chord's body fails."""
    result = (fail.si() | group(ident(1), ident(2)) | total.s() | double.s()).apply_async()
    world.run()
    assert world.state(result) == "FAILURE"
    assert world.state(result.parent) == "FAILURE"


def test_failed_chain_fails_a_group_behind_it(world):
    """When a step fails before a group, the group's members fail."""
    result = (fail.si() | group(ident(1), ident(2))).apply_async()
    world.run()
    assert [world.state(member) for member in result.results] == ["FAILURE", "FAILURE"]


@pytest.fixture
def deaf():
    """An error callback that takes no id, and so can't be sent."""

    @shared_task(name="flow.deaf")
    def deaf():
        """Take nothing."""

    yield deaf
    registry.unregister("flow.deaf")


def test_an_error_callback_that_cannot_be_sent_is_lost_alone(world, deaf, caplog):
    """Those beside it are sent, once each, what was to come after the task fails, and the chord that waits for that."""
    part = fail.s().on_error(same.s()).on_error(deaf.s()).on_error(double.s()) | double.s()
    result = chord([part, ident(1)], total.s()).apply_async()
    world.run()
    assert isinstance(world.value(result), ChordError)
    assert sorted(message.task for message in world.ran) == ["flow.double", "flow.fail", "flow.same", "flow.same"]
    assert caplog.text.count("The error callback flow.deaf of task") == 1


def test_an_error_callback_of_a_body_that_cannot_be_sent_is_lost_alone(world, deaf, caplog):
    """What was to follow the body fails, too, and the others hear of it."""
    flow = chord([ident(1), fail.si()], total.s()) | double.s()
    for callback in (deaf, same):
        flow.link_error(callback.s())
    result = flow.apply_async()
    world.run()
    assert (world.state(result), world.state(result.parent)) == ("FAILURE", "FAILURE")
    assert world.ran[-1].task == "flow.same"
    assert caplog.text.count("The error callback flow.deaf of task") == 1


def test_error_callback_of_a_chain_hears_every_step(world):
    """An error callback of the whole chain is called for whichever step fails."""
    (ident(1) | fail.s() | double.s()).on_error(errback.s()).apply_async()
    world.run()
    assert [exc.args for _, exc, _ in calls] == [("bad", 3)]


def test_failed_part_fails_the_body(world):
    """When a part of a header fails, the body isn't run: its result is a ChordError that names the part."""
    header = [ident(1), fail.si(), ident(2)]
    result = chord(header, total.s()).apply_async()
    world.run()
    error = world.value(result)
    assert isinstance(error, ChordError)
    failed_id = world.ran[1].id
    assert error.args == (f"Dependency {failed_id} raised ValueError('bad', 3)",)
    assert "flow.total" not in {message.task for message in world.ran}


def test_failed_part_calls_the_bodys_errbacks(world):
    """The error callbacks of the body hear of a failed header, with the body's id."""
    flow = chord([ident(1), fail.si()], total.s())
    flow.link_error(errback.s())
    flow.link_error(same.s())
    result = flow.apply_async()
    world.run()
    [(task_id, exc, _)] = calls
    assert task_id == result.id
    assert isinstance(exc, ChordError)
    assert tuple(world.ran[-1].args) == (result.id,)


@pytest.mark.parametrize(("allowed", "heard"), [(False, [ChordError]), (True, [ValueError, ChordError])])
def test_failed_part_calls_the_chords_errbacks_if_the_setting_says_so(world, settings, allowed, heard):
    """TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER links error callbacks of a chord to the parts of its header, too."""
    settings.DJANGO_TASKS = {"TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER": allowed}
    header = [ident(1), fail.si()]
    flow = chord(header, total.s()).on_error(errback.s())
    flow.apply_async()
    world.run()
    assert [type(exc) for _, exc, _ in calls] == heard
    assert "link_error" not in flow.options


@pytest.mark.parametrize("body", [lambda: chord([same.s()], total.s()), lambda: chord([same.s()], chord([same.s()], total.s()))])
def test_failed_part_calls_the_errbacks_of_a_body_that_is_a_chord(world, body):
    """Error callbacks of a chord whose body is a chord are called once, with the id by which it is waited for."""
    flow = chord([ident(1), fail.si()], body())
    flow.link_error(errback.s())
    result = flow.apply_async()
    world.run()
    assert [(task_id, type(exc)) for task_id, exc, _ in calls] == [(result.id, ChordError)]
    assert world.state(result) == "FAILURE"


def test_failed_part_fails_what_follows_the_body(world):
    """Steps behind a chord whose header failed fail, too."""
    result = (group(ident(1), fail.si()) | total.s() | double.s() | double.s()).apply_async()
    world.run()
    assert [world.state(r) for r in (result, result.parent, result.parent.parent)] == ["FAILURE"] * 3


def test_failed_part_fails_a_group_body(world):
    """Every member of a body that is a group fails with the part's own exception, of which its error callbacks hear."""
    result = chord([ident(1), fail.si()], group(total.s(), total.s().on_error(errback.s()))).apply_async()
    world.run()
    assert [world.state(member) for member in result.results] == ["FAILURE", "FAILURE"]
    assert [type(world.value(member)) for member in result.results] == [ValueError, ValueError]
    assert [type(exc) for _, exc, _ in calls] == [ValueError]


def test_failed_part_fails_a_chord_around(world):
    """A failed inner chord is a failed part of the outer one."""
    result = chord([chord([ident(1), fail.si()], total.s()), ident(4)], total.s()).apply_async()
    world.run()
    assert isinstance(world.value(result), ChordError)


@pytest.mark.parametrize("body", [total.s, lambda: total.s() | same.s(), lambda: group(total.s(), same.s())])
def test_error_callback_of_a_chord_around_is_called_once(world, body):
    """The failure of an inner chord is the outer one's, so an error callback of the outer one hears of it there, once."""
    inner = chord([ident(1), fail.si()], body())
    outer = chord([ident(4), inner], same.s())
    outer.link_error(errback.s())
    # Celery's workers don't fail the outer one, so what they are sent is linked to the inner one, too.
    assert "flow.errback" in json.dumps(outer.header_tasks()[1].body)
    result = outer.apply_async()
    world.run()
    assert [task_id for task_id, _, _ in calls] == [result.id]


def test_failed_chain_in_a_header_counts_as_a_part(world):
    """A chain in a header that fails early is one failed part; the chord doesn't hang."""
    result = chord([fail.si() | double.s() | double.s(), ident(4)], total.s()).apply_async()
    world.run()
    assert isinstance(world.value(result), ChordError)


def test_body_that_fails_is_a_plain_failure(world):
    """An error in the body itself is the body's own."""
    result = chord([ident(1)], fail.s()).apply_async()
    world.run()
    assert isinstance(world.value(result), ValueError)
