"""What a running task asks for and can't have: told to the task, where it asks."""

import math

import pytest

from django_tasks.context import running
from django_tasks.exceptions import Retry
from tests.unit.workflow_world import request_for

pytestmark = pytest.mark.usefixtures("own_registry")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"countdown": "x"}, TypeError, "countdown takes"),
        ({"eta": 3}, TypeError, "eta takes"),
        ({"exc": 3}, TypeError, "takes exc as an exception"),
        ({"exc": int}, TypeError, "takes exc as an exception"),
        ({"max_retries": "x"}, TypeError, "takes max_retries as a number"),
        ({"max_retries": math.nan}, TypeError, "takes max_retries as a number"),
        ({"args": 3}, TypeError, "args as a list or tuple"),
        ({"kwargs": 3}, TypeError, "kwargs as a mapping"),
        ({"cuntdown": 3}, TypeError, "did you mean 'countdown'"),
        ({"soft_time_limit": 5, "time_limit": 3}, ValueError, "soft_time_limit=5 must not exceed time_limit=3"),
    ],
)
def test_a_retry_that_can_not_be(add, options, error, words):
    """The task fails with words about the call, and no next try is made."""
    with running(request_for(add, args=(1,))), pytest.raises(error, match=words):
        add.retry(**options)


def test_a_reason_instead_of_an_exception(add):
    """Celery takes a text: it is what the retry says, and what is raised when no try is left."""
    with running(request_for(add, args=(1,))):
        with pytest.raises(Retry, match="the supplier is down"):
            add.retry(exc="the supplier is down")
        with pytest.raises(Exception, match="the supplier is down") as raised:
            add.retry(exc="the supplier is down", max_retries=0)
    assert not isinstance(raised.value, Retry)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": 3}, "needs a state"),
        ({"state": "x" * 51}, "at most 50 characters"),
        ({"state": "half \ud800"}, "needs a state"),
        ({"state": "SEEN", "task_id": 3}, "task_id as text"),
        ({"state": "SEEN", "mta": 3}, "takes task_id, state, meta and traceback, not mta"),
    ],
)
def test_a_state_that_can_not_be(world, add, options, words):
    """Nothing is stored, in a direct call as well as in a worker."""
    with pytest.raises(TypeError, match=words):
        add.update_state(**options)
    with running(request_for(add)), pytest.raises(TypeError, match=words):
        add.update_state(**options)
    assert not world.results.metas


@pytest.mark.parametrize("numbers", [("x",), (-1,), (math.nan,), (math.inf,), (True,), (1, "x"), (1, math.inf)])
def test_a_progress_that_can_not_be(world, add, numbers):
    """What JSON can't carry, and what no bar can show."""
    with running(request_for(add)), pytest.raises(ValueError, match="takes numbers from 0 on"):
        add.progress(*numbers)
    assert not world.results.metas


def test_an_event_is_tried_again_as_can_be(add):
    """A wrong retry_policy is the caller's to see, before anything is sent."""
    with running(request_for(add)), pytest.raises(TypeError, match="retry_policy takes a dictionary"):
        add.send_event("task-halfway", retry_policy=3)


@pytest.mark.parametrize("what", [3, None, "x"])
def test_what_replaces_nothing(add, what):
    """A signature replaces a task."""
    with running(request_for(add)), pytest.raises(TypeError, match="is none"):
        add.replace(what)


def test_a_chord_to_add_to(add):
    """Outside of one there is nothing to add to."""
    with running(request_for(add)), pytest.raises(ValueError, match="no part of a chord"):
        add.add_to_chord(add.s(1))
