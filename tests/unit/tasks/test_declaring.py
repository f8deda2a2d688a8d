"""Declaring tasks: names, options, classes, attributes that follow the settings, and arguments that are models."""

import inspect
import pickle
from typing import get_type_hints

import pytest
from django.test import override_settings

from django_tasks.application import app
from django_tasks.exceptions import AlreadyRegistered
from django_tasks.registry import registry
from django_tasks.tasks import Task, register, shared_task, task_name

pytestmark = pytest.mark.usefixtures("own_registry")


class TestDeclaring:
    def test_bare_decorator(self):
        """A bare decorator names the task after module and function."""

        @shared_task
        def plain():
            return 1

        assert plain.name == f"{__name__}.plain"
        assert registry[plain.name] is plain
        assert plain() == 1

    def test_options_become_attributes(self):
        """Options are attributes of the task; any further ones, too, as in Celery."""

        @shared_task(name="t.o", max_retries=7, queue="slow", acks_late=False, team="blue")
        def o():
            pass

        assert (o.max_retries, o.queue, o.acks_late, o.team) == (7, "slow", False, "blue")

    def test_misspelt_option_names_the_right_one(self):
        """An option that looks like a known one is refused, with the known one."""
        with pytest.raises(TypeError, match="'max_retries'"):

            @shared_task(name="t.m", max_retrys=3)
            def m():
                pass

        assert "t.m" not in registry

    def test_bind_passes_the_task(self):
        """With bind=True the function's first argument is the task."""

        @shared_task(name="t.b", bind=True)
        def b(self, x):
            return self.name, x

        assert b(3) == ("t.b", 3)

    def test_docstring_and_function_are_kept(self):
        """A task shows its function's documentation, module and signature."""

        @shared_task(name="t.doc")
        def doc(x: int, *, y: str = "") -> None:
            """Say so."""

        assert doc.__doc__ == "Say so."
        assert doc.__module__ == __name__
        assert doc.__name__ == "doc"
        assert list(inspect.signature(doc).parameters) == ["x", "y"]

    def test_base_class(self):
        """The class given as base brings its attributes and methods."""

        class Base(Task):
            queue = "base"

            def on_success(self, *args):
                pass

        @shared_task(name="t.base", base=Base)
        def based():
            pass

        assert isinstance(based, Base)
        assert based.queue == "base"

    def test_class_based_task(self):
        """An instance of a task class is registered by its class's name."""

        class Report(Task):
            def run(self, x):
                return self.name, x

        task = register(Report())
        assert task.name == f"{__name__}.Report"
        assert registry[task.name] is task
        assert task(1) == (task.name, 1)

    def test_registering_something_else_is_refused(self):
        """Only tasks can be registered."""
        with pytest.raises(TypeError, match="no task"):
            register(print)

    def test_task_without_run_says_so(self):
        """A task class without run() says so when it is called; and it can't be registered."""

        class Empty(Task):
            name = "t.empty"

        with pytest.raises(NotImplementedError, match=r"t\.empty"):
            Empty()()
        with pytest.raises(TypeError, match=r"t\.empty"):
            register(Empty())

    def test_name_taken_by_another_function(self, add):
        """Two functions can't have one name."""
        with pytest.raises(AlreadyRegistered):

            @shared_task(name="t.add")
            def other():
                pass

    def test_module_imported_twice_keeps_its_task(self):
        """The same function registered again is the first task."""

        def declare():
            @shared_task(name="t.twice")
            def twice():
                pass

            return twice

        assert declare() is declare()

    def test_names_in_scripts(self):
        """A function of a script that runs directly is named after __main__."""
        assert task_name("f", "__main__") == "__main__.f"
        assert task_name("f", "no.such.module") == "no.such.module.f"

    def test_tasks_are_pickled_by_name(self, add):
        """A pickled task is the task of that name where it is read."""
        assert pickle.loads(pickle.dumps(add)) is add

    def test_decorator_given_a_name_by_position(self):
        """A name by position is a mistake that is explained."""
        with pytest.raises(TypeError, match="by name"):
            shared_task("t.x")

    def test_registering_by_the_registry(self):
        """``app.tasks.register`` makes a class's instance complete: its arguments are checked, its errors retried."""

        class Failing(Task):
            name = "t.failing"
            autoretry_for = (ZeroDivisionError,)
            max_retries = 2
            tries = 0

            def run(self, x):
                self.tries += 1
                return x / 0

        task = registry.register(Failing)
        assert registry["t.failing"] is task
        assert registry.register(task) is task
        assert task.apply((1,)).state == "FAILURE"
        assert task.tries == 3
        with pytest.raises(TypeError, match="failing"):
            task.delay()

    def test_names_and_class_of_the_project(self, monkeypatch):
        """The app's own task class and way of naming count for tasks that give none."""

        class Ours(Task):
            db = "cached"

        monkeypatch.setattr(Task.app, "Task", Ours)
        monkeypatch.setattr(Task.app, "gen_task_name", lambda name, module: f"{module.removeprefix('tests.unit.')}:{name}")

        @shared_task(bind=True)
        def rows(self):
            return self.db

        class Other(Task):
            def run(self):
                return 1

        assert (rows.name, rows.apply().get()) == ("tasks.test_declaring:rows", "cached")
        assert register(Other()).name == "tasks.test_declaring:Other"
        assert not isinstance(shared_task(base=Task)(lambda: 1), Ours)

    def test_annotations_are_the_functions(self):
        """What reads annotations reads those of the function."""

        @shared_task
        def typed(x: int, y: str = "") -> float:
            return 1.0

        assert get_type_hints(typed) == {"x": int, "y": str, "return": float}

    def test_no_backend_of_its_own(self):
        """There is one result backend, so a task that asks for another is not accepted silently."""
        with pytest.raises(TypeError, match="RESULT_BACKEND"):
            shared_task(name="t.elsewhere", backend="redis://")(lambda: 1)
        shared_task(name="t.here", backend=None)(lambda: 1)


class TestAttributesFromSettings:
    def test_follow_the_settings(self, add):
        """Attributes without a value of their own follow the settings at every access."""
        assert add.acks_late is True
        with override_settings(DJANGO_TASKS={"TASK_ACKS_LATE": False, "TASK_TIME_LIMIT": 9}):
            assert add.acks_late is False
            assert add.time_limit == 9

    @override_settings(DJANGO_TASKS={"TASK_ACKS_LATE": False})
    def test_own_values_win(self):
        """A value of the task, its class or the instance wins over the settings; None doesn't."""

        class Base(Task):
            acks_late = True
            track_started = None

        @shared_task(name="t.own", base=Base)
        def own():
            pass

        assert own.acks_late is True
        assert own.track_started is True
        own.ignore_result = True
        assert own.ignore_result is True

    def test_acks_on_failure_follows_its_elder(self, add):
        """acks_on_failure and acks_on_timeout are what acks_on_failure_or_timeout is, unless they are set."""
        assert (add.acks_on_failure, add.acks_on_timeout) == (True, True)
        add.acks_on_failure_or_timeout = False
        add.acks_on_timeout = True
        assert (add.acks_on_failure, add.acks_on_timeout) == (False, True)

    def test_none_as_an_option_means_the_setting(self):
        """An option given as None is the same as one not given."""

        @shared_task(name="t.none", time_limit=None)
        def none():
            pass

        with override_settings(DJANGO_TASKS={"TASK_TIME_LIMIT": 5}):
            assert none.time_limit == 5


class TestPydantic:
    def test_models_travel_as_data(self, world):
        """Models among the arguments travel as data, arrive as models, and a returned one leaves as data."""
        pydantic = pytest.importorskip("pydantic")

        class Order(pydantic.BaseModel):
            number: int
            note: str | None = None

        def order(order: Order, other: Order | None = None) -> Order:
            assert isinstance(order, Order)
            assert other is None or isinstance(other, Order)
            return Order(number=order.number + (other.number if other else 0))

        order.__annotations__.update(order=Order, other=Order | None, **{"return": Order})
        task = shared_task(name="t.order", pydantic=True)(order)
        assert get_type_hints(task)["order"] is Order
        result = task.delay(Order(number=1), other=Order(number=2, note="x"))
        assert list(world.messages[0].args) == [{"number": 1, "note": None}]
        world.run()
        assert world.value(result) == {"number": 3, "note": None}
        assert task.apply(({"number": "7"},)).get() == {"number": 7, "note": None}
        assert task.apply(({"number": "x"},)).state == "FAILURE"

    def test_options(self):
        """Strict validation, a context for validators, with the app and the task's name in it, and options of the dump."""
        pydantic = pytest.importorskip("pydantic")
        contexts = []

        class Number(pydantic.BaseModel):
            value: int
            note: str | None = None

            @pydantic.model_validator(mode="after")
            def _look(self, info: pydantic.ValidationInfo):
                contexts.append(dict(info.context))
                info.context["changed"] = True
                return self

        def number(given):
            return given

        number.__annotations__.update(given=Number, **{"return": Number})
        own = {"mine": 1}
        options = {"pydantic": True, "pydantic_context": own, "pydantic_dump_kwargs": {"exclude_none": True}}
        task = shared_task(name="t.number", **options)(number)
        for _ in range(2):
            assert task.apply(({"value": "3"},)).get() == {"value": 3}
        assert contexts == [{"mine": 1, "celery_app": app, "celery_task_name": "t.number"}] * 2
        assert own == {"mine": 1}
        strict = shared_task(name="t.strict", pydantic_strict=True, **options)(number)
        assert strict.apply(({"value": "3"},)).state == "FAILURE"
        assert strict.apply(({"value": 3},)).state == "SUCCESS"
