"""Options of a task that hold what they can't stop its declaration."""

import math
from functools import partial

import pytest

from django_tasks import app
from django_tasks.registry import registry
from django_tasks.tasks import Task, register, shared_task

WRONG = [
    ("time_limit", "10", "number of seconds"),
    ("soft_time_limit", -1, "number of seconds"),
    ("expires", "x", "number of seconds"),
    ("expires", -1, "no call would ever run"),
    ("serializer", 3, "'json'"),
    ("queue", 3, "a queue's name"),
    ("queue", "", "a queue's name"),
    ("queue", [], "a queue's name"),
    ("queue", "half \ud800", "a queue's name"),
    ("priority", "high", "whole number from -100 to 255"),
    ("priority", 1.5, "whole number"),
    ("priority", 1000, "whole number"),
    ("exchange", 3, "an exchange's name"),
    ("routing_key", 3, "text"),
    ("acks_late", "no", "True or False"),
    ("ignore_result", "yes", "True or False"),
    ("retry_jitter", 3, "True or False"),
    ("throws", "KeyError", "a tuple of exception classes"),
    ("throws", 3, "a tuple of exception classes"),
    ("resultrepr_maxsize", "x", "whole number"),
    ("resultrepr_maxsize", 1.5, "whole number"),
    ("max_retries", -1, "None for no end"),
    ("max_retries", math.nan, "None for no end"),
    ("retry_backoff", -1, "0 or more"),
    ("retry_kwargs", {"countdwn": 3}, "what retry() takes"),
    ("retry_kwargs", {"countdown": "x"}, "what retry() takes"),
    ("retry_kwargs", {"max_retries": "x"}, "what retry() takes"),
    ("bind", "yes", "True or False"),
    ("pydantic", "yes", "True or False"),
    ("pydantic_context", 3, "a dictionary"),
    ("base", int, "a subclass of django_tasks.Task"),
    ("base", "shop.tasks.Slow", "a subclass of django_tasks.Task"),
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


@pytest.mark.parametrize("name", ["x" * 256, "half \ud800", "two\nlines", "nul \0", " "])
def test_a_name_is_what_messages_and_columns_can_carry(name):
    """Text that a database or broker would refuse is refused where the task is declared."""
    with pytest.raises(TypeError, match="name takes text of at most 255 printable characters"):
        shared_task(name=name)(lambda: None)
    assert name not in registry


@pytest.mark.parametrize(
    ("option", "value"), [("retry", 3), ("delay", "x"), ("on_failure", 3), ("shadow_name", "x"), ("before_start", "x")]
)
def test_a_method_is_replaced_by_a_function_only(option, value):
    """What is called later must be callable; functions are Celery's way of giving hooks."""
    with pytest.raises(TypeError, match=rf"{option}\(\) is a method of tasks"):
        shared_task(name="attributes.one", **{option: value})(lambda: None)
    shared_task(name="attributes.one", on_failure=lambda *args: None)(lambda: None)


def test_a_run_that_is_no_function():
    """A class whose run can't be called is no task."""

    class Broken(Task):
        name = "attributes.one"
        run = 3

    with pytest.raises(TypeError, match=r"run\(\) is a method"):
        register(Broken())
    assert "attributes.one" not in registry


def test_a_class_without_a_run():
    """There is nothing to do; a class with its own __call__ does it there."""

    class Empty(Task):
        name = "attributes.one"

    class Calling(Empty):
        def __call__(self):
            return 1

    with pytest.raises(TypeError, match=r"needs a method run\(\)"):
        register(Empty())
    register(Calling())


def test_a_soft_limit_comes_before_the_hard_one():
    """A soft limit that never comes is a mistake; 0 is no limit."""
    with pytest.raises(ValueError, match="soft_time_limit=10 must not exceed time_limit=5"):
        shared_task(name="attributes.one", time_limit=5, soft_time_limit=10)(lambda: None)
    assert "attributes.one" not in registry
    shared_task(name="attributes.one", time_limit=0, soft_time_limit=10)(lambda: None)


def test_an_attribute_that_is_assigned_later_is_looked_at():
    """A wrong value leaves the one that was there."""
    task = shared_task(name="attributes.one", rate_limit="5/s")(lambda: None)
    with pytest.raises(TypeError, match=r"rate_limit takes .* not 'fast'; nothing was changed"):
        task.rate_limit = "fast"
    assert task.rate_limit == "5/s"
    task.rate_limit = None
    with pytest.raises(TypeError, match="priority takes"):
        app.register_task(task, priority="high")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (3, "made of a function"),
        (partial(int, "3"), "made of a function"),
        (Task, r"app.register_task\(Task\(\)\)"),
    ],
)
def test_what_no_task_can_be_made_of(function, words):
    """The error says what a task is made of, in place of what Python misses inside."""
    with pytest.raises(TypeError, match=words):
        shared_task(name="attributes.one")(function)


def test_a_task_is_no_function():
    """Decorating twice is a mistake that is named."""
    task = shared_task(name="attributes.one")(lambda: None)
    with pytest.raises(TypeError, match="is a task already"):
        shared_task(name="attributes.two")(task)


def test_a_bound_function_has_a_place_for_its_task():
    """Without one each run would fail in the worker."""
    with pytest.raises(TypeError, match="with bind=True the first parameter"):
        shared_task(name="attributes.one", bind=True)(lambda: None)
    shared_task(name="attributes.one", bind=True)(lambda *args: None)


def test_a_function_that_yields_is_no_task():
    """Calling it would run nothing; a class whose own __call__ goes through it may have one."""

    def several():
        yield 1

    async def later():
        yield 1

    class Exhausting(Task):
        def __call__(self, *args, **kwargs):
            return list(self.run(*args, **kwargs))

    for function in (several, later):
        with pytest.raises(TypeError, match="return a list"):
            shared_task(name="attributes.one")(function)
    assert shared_task(name="attributes.one", base=Exhausting)(several)() == [1]


def test_two_functions_of_one_name_in_one_module():
    """The first one counts, as in Celery, and a warning says where they are."""

    def declare(line):
        function = eval(compile("\n" * line + "lambda: None", "shop/tasks.py", "eval"))
        return shared_task(name="attributes.one")(function)

    first = declare(3)
    with pytest.warns(
        RuntimeWarning, match=r"'attributes.one' is declared twice, at shop/tasks.py:4 and shop/tasks.py:9; the one that came first"
    ):
        assert declare(8) is first
    assert declare(3) is first


def test_a_task_behind_a_bar_is_a_mistake_with_a_hint():
    """``add.s(1) | add`` says what is meant."""
    task = shared_task(name="attributes.one")(lambda: None)
    with pytest.raises(TypeError, match=r"did you mean attributes.one.s\(...\)"):
        task.s() | task


@pytest.mark.parametrize("what", [3, int, lambda: None])
def test_what_is_no_task_is_not_registered(what):
    """The registry takes tasks."""
    with pytest.raises(TypeError, match="is no task"):
        registry.register(what)
