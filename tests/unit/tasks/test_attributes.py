"""Options of a task that hold what they can't stop its declaration."""

import math

import pytest

from django_tasks.registry import registry
from django_tasks.tasks import Task, shared_task

WRONG = [
    ("time_limit", "10", "number of seconds"),
    ("soft_time_limit", -1, "number of seconds"),
    ("expires", "x", "number of seconds"),
    ("serializer", 3, "'json'"),
    ("rate_limit", "fast", "'10/m'"),
    ("rate_limit", "10/d", "'10/m'"),
    ("max_retries", "x", "a number"),
    ("default_retry_delay", "x", "number of seconds"),
    ("retry_backoff", "x", "True, False"),
    ("retry_backoff_max", "x", "number of seconds"),
    ("retry_kwargs", 3, "a dictionary"),
    ("autoretry_for", ValueError, "a tuple of exception classes"),
    ("autoretry_for", ("ValueError",), "a tuple of exception classes"),
    ("dont_autoretry_for", 3, "a tuple of exception classes"),
]


@pytest.fixture(autouse=True)
def forgotten():
    """What a test declared is gone afterwards."""
    yield
    if "attributes.one" in registry:
        registry.unregister("attributes.one")


@pytest.mark.parametrize(("option", "value", "words"), WRONG)
def test_a_wrong_option_is_refused_where_the_task_is_declared(option, value, words):
    """TypeError names the task and what the option takes, and no half-made task stays registered."""
    with pytest.raises(TypeError) as raised:
        shared_task(name="attributes.one", **{option: value})(lambda: None)
    said = str(raised.value)
    assert said.startswith(f"task attributes.one: {option} takes ")
    assert words in said
    assert "attributes.one" not in registry


def test_a_base_class_is_looked_at_too():
    """Attributes of a class of one's own are options."""

    class Slow(Task):
        time_limit = "x"

    with pytest.raises(TypeError, match="time_limit takes"):
        shared_task(name="attributes.one", base=Slow)(lambda: None)


def test_what_options_may_hold():
    """Celery's forms, None and properties are taken."""

    class Slow(Task):
        @property
        def time_limit(self):
            return 5

    task = shared_task(
        name="attributes.one", base=Slow, max_retries=math.inf, retry_backoff=2, rate_limit="2.5/m", autoretry_for=[OSError], expires=None
    )(lambda: None)
    assert task.time_limit == 5


@pytest.mark.parametrize("name", [3, b"x"])
def test_a_name_is_text(name):
    """A name of another kind is refused with words of ours."""
    with pytest.raises(TypeError, match="a task's name must be text"):
        shared_task(name=name)(lambda: None)
