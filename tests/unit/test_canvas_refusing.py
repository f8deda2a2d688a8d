"""What is no part of a workflow and no argument of a signature: told where it is written."""

import pytest

from django_tasks.canvas import chord, group, signature

pytestmark = pytest.mark.usefixtures("own_registry")


@pytest.mark.parametrize("link", [3, "shop.tasks.pack", None, {}, {"task": 3}, []])
@pytest.mark.parametrize("method", ["link", "link_error", "on_error"])
@pytest.mark.parametrize("kind", ["task", "group", "chord"])
def test_what_can_not_follow(add, link, method, kind):
    """A link that is none is refused before anything is sent."""
    sig = {"task": add.s(1), "group": group(add.s(1), add.s(2)), "chord": chord([add.s(1)], add.s())}[kind]
    before = dict(sig)
    with pytest.raises(TypeError, match="what follows a task is a signature"):
        getattr(sig, method)(link)
    assert sig == before


def test_a_task_is_no_link(add):
    """The error says what is meant."""
    with pytest.raises(TypeError, match=r"did you mean t\.add\.s\(\.\.\.\)"):
        add.s(1).link(add)


def test_an_empty_group_has_nothing_to_follow(add):
    """There is no first member."""
    with pytest.raises(ValueError, match="without members"):
        group(()).link(add.s())


@pytest.mark.parametrize("args", [3, "abc", b"abc"])
def test_what_are_no_arguments(add, args):
    """A text would be one argument for each character."""
    for make in (lambda: signature("t.add", args=args), lambda: add.signature(args), lambda: signature({"task": "t.add", "args": args})):
        with pytest.raises(TypeError, match=r"t\.add: a signature takes args"):
            make()


@pytest.mark.parametrize("kwargs", [3, "abc", ["abc"]])
def test_what_are_no_named_arguments(add, kwargs):
    """The error names the task."""
    for make in (lambda: signature("t.add", kwargs=kwargs), lambda: signature({"task": "t.add", "kwargs": kwargs})):
        with pytest.raises(TypeError, match=r"t\.add: a signature takes kwargs"):
            make()


def test_what_are_arguments():
    """As in Celery, whatever can be gone through, and pairs for a dictionary."""
    assert signature("t.add", args=range(2), kwargs=[("y", 1)]) == signature("t.add", args=(0, 1), kwargs={"y": 1})


@pytest.mark.parametrize(
    ("kind", "kwargs", "missing"),
    [
        ("chain", {}, "tasks"),
        ("group", {}, "tasks"),
        ("chord", {"body": None}, "header"),
        ("xmap", {"it": [1]}, "task"),
        ("chunks", {"task": "t", "it": [1]}, "n"),
        ("chain", None, "tasks"),
    ],
)
def test_a_workflow_as_a_dictionary_without_its_parts_is_refused(kind, kwargs, missing):
    """What is missing is named; it was a KeyError from the inside."""
    with pytest.raises(TypeError, match=rf"{kind}.* has '{missing}' among its 'kwargs'; this has none"):
        signature({"task": f"celery.{kind}", "subtask_type": kind, "kwargs": kwargs})
