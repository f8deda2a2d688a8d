"""Tasks: declaring them, their options, and how calls become messages."""

import asyncio
import inspect
import pickle
from datetime import UTC, datetime, timedelta
from typing import get_type_hints

import pytest
from django.test import override_settings

from django_tasks.application import app
from django_tasks.context import Request, current_request, running
from django_tasks.exceptions import AlreadyRegistered, ContentDisallowed, EncodeError, Ignore, MaxRetriesExceededError, Retry
from django_tasks.messages import TaskMessage, shown_arguments
from django_tasks.registry import registry
from django_tasks.states import RETRY
from django_tasks.tasks import Task, register, shared_task, task_name
from tests.unit.workflow_world import World


@pytest.fixture(autouse=True)
def _own_registry():
    """Forget the tasks of one test before the next."""
    before = dict(registry)
    yield
    for name in set(registry) - set(before):
        registry.unregister(name)


@pytest.fixture
def world(monkeypatch):
    """A small worker."""
    return World(monkeypatch)


@pytest.fixture
def add():
    """A plain task."""

    @shared_task(name="t.add")
    def add(x, y=0):
        return x + y

    return add


def request_for(task, **fields):
    """Return a request as a worker makes it."""
    return Request(message=TaskMessage(**{"id": "the-id", "task": task.name, "root_id": "the-root", **fields}), definition=task)


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
        """A task class without run() says so when it is called."""

        class Empty(Task):
            name = "t.empty"

        with pytest.raises(NotImplementedError, match=r"t\.empty"):
            register(Empty())()

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

        assert (rows.name, rows.apply().get()) == ("test_tasks:rows", "cached")
        assert register(Other()).name == "test_tasks:Other"
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


class TestCalling:
    def test_delay_publishes_one_message(self, world, add):
        """delay() builds the message and publishes it; its id is the result's."""
        result = add.delay(2, y=3)
        [[message]] = world.published
        assert (message.id, message.task, list(message.args), dict(message.kwargs)) == (result.id, "t.add", [2], {"y": 3})
        assert (message.root_id, message.parent_id) == (result.id, None)

    def test_all_options_reach_the_message(self, world, add):
        """Every calling option has its place in the message."""
        eta = datetime(2030, 1, 1, tzinfo=UTC)
        add.apply_async(
            (1,),
            task_id="mine",
            eta=eta,
            expires=eta + timedelta(hours=1),
            queue="q",
            exchange="e",
            routing_key="rk",
            priority=5,
            ignore_result=True,
            headers={"x": 1},
            shadow="other",
            time_limit=10,
            soft_time_limit=5,
            reply_to="r",
            group_id="g",
            group_index=2,
            root_id="root",
            parent_id="parent",
            stamped_headers=["tenant"],
            stamps={"tenant": "a"},
            link=add.s(1),
            link_error=[add.s(2), add.s(3)],
            chain=[add.s(4)],
            chord=add.s(5),
        )
        [message] = world.messages
        assert message.id == "mine"
        assert (message.eta, message.expires) == (eta, eta + timedelta(hours=1))
        assert (message.queue, message.exchange, message.routing_key, message.priority) == ("q", "e", "rk", 5)
        assert (message.ignore_result, message.headers, message.shadow) == (True, {"x": 1}, "other")
        assert (message.time_limit, message.soft_time_limit, message.reply_to) == (10, 5, "r")
        assert (message.group, message.group_index, message.root_id, message.parent_id) == ("g", 2, "root", "parent")
        assert (message.stamped_headers, message.stamps) == (["tenant"], {"tenant": "a"})
        assert {key: len(value) for key, value in message.embed.items() if key != "chord"} == {"callbacks": 1, "errbacks": 2, "chain": 1}
        assert message.embed["chord"]["args"] == (5,)

    def test_countdown_and_relative_expiry(self, world, add):
        """Seconds and timedeltas are counted from now."""
        before = datetime.now(UTC)
        add.apply_async((1,), countdown=10, expires=60)
        add.apply_async((1,), countdown=timedelta(minutes=1), expires=timedelta(hours=1))
        first, second = world.messages
        for message, countdown, expires in ((first, 10, 60), (second, 60, 3600)):
            assert timedelta(0) <= message.eta - before - timedelta(seconds=countdown) < timedelta(seconds=5)
            assert timedelta(0) <= message.expires - before - timedelta(seconds=expires) < timedelta(seconds=5)

    def test_tasks_own_options_are_defaults(self, world):
        """What the task says of queue, priority and limits counts unless the call says otherwise."""

        @shared_task(name="t.d", queue="slow", priority=3, time_limit=20, expires=60, ignore_result=True)
        def d():
            pass

        d.delay()
        d.apply_async(queue="fast", ignore_result=False)
        first, second = world.messages
        assert (first.queue, first.priority, first.time_limit, first.ignore_result) == ("slow", 3, 20, True)
        assert first.expires is not None
        assert (second.queue, second.priority, second.ignore_result) == ("fast", 3, False)

    def test_changed_attributes_count_at_once(self, world, add):
        """An attribute set later counts from the next call."""
        add.delay(1)
        add.queue = "later"
        add.delay(1)
        del add.queue
        add.delay(1)
        assert [message.queue for message in world.messages] == ["", "later", ""]

    def test_limits_of_the_settings_stay_with_the_worker(self, world, add):
        """A limit from the settings is no part of the message: the worker's own settings count."""
        with override_settings(DJANGO_TASKS={"TASK_TIME_LIMIT": 9}):
            add.delay(1)
        assert world.messages[0].time_limit is None

    @pytest.mark.parametrize(
        ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})], ids=["few", "many", "unknown", "twice"]
    )
    def test_wrong_arguments_raise_at_the_caller(self, world, add, args, kwargs):
        """A call that the function couldn't take raises TypeError that names the task; nothing is sent."""
        with pytest.raises(TypeError, match=r"t\.add\(\)"):
            add.delay(*args, **kwargs)
        assert not world.messages

    def test_argument_check_knows_every_kind_of_parameter(self):
        """The check takes exactly what the function takes."""

        @shared_task(name="t.kinds")
        def kinds(a, b, /, c, d=(), *rest, e, f="x", **more):
            pass

        kinds.check_arguments(1, 2, 3, e=5)
        kinds.check_arguments(1, 2, 3, 4, 5, 6, e=5, f=6, g=7)
        for args, kwargs in (((1,), {"b": 2, "c": 3, "e": 5}), ((1, 2, 3), {}), ((1, 2), {"e": 5})):
            with pytest.raises(TypeError, match=r"t\.kinds\(\)"):
                kinds.check_arguments(*args, **kwargs)

        @shared_task(name="t.keyword")
        def keyword(*, only):
            pass

        keyword.check_arguments(only=1)
        with pytest.raises(TypeError):
            keyword.check_arguments(1)

    def test_bound_tasks_are_checked_without_self(self):
        """The task itself is no argument of a call."""

        @shared_task(name="t.bound", bind=True)
        def bound(self, x):
            pass

        bound.check_arguments(1)
        with pytest.raises(TypeError):
            bound.check_arguments()

    def test_typing_off(self, world):
        """typing=False leaves wrong arguments to the worker."""

        @shared_task(name="t.untyped", typing=False)
        def untyped(x):
            pass

        untyped.delay()
        assert len(world.messages) == 1

    def test_unknown_option_names_the_nearest(self, world, add):
        """An option that doesn't exist is refused, with the nearest that does."""
        with pytest.raises(TypeError, match="'countdown'"):
            add.apply_async((1,), cuntdown=3)
        assert not world.messages

    def test_soft_limit_above_the_hard_one(self, add):
        """A soft limit that could never be reached is refused."""
        with pytest.raises(ValueError, match="soft_time_limit=10"):
            add.apply_async((1,), time_limit=5, soft_time_limit=10)

    def test_args_must_be_a_sequence(self, add):
        """A lone string as args is a mistake that is explained."""
        with pytest.raises(TypeError, match="list or tuple"):
            add.apply_async("x")

    def test_unserializable_argument_raises_at_the_caller(self, world, add):
        """An argument that no message can carry raises at the caller, naming the task."""
        with pytest.raises(EncodeError, match=r"t\.add"):
            add.delay(object())

    def test_policy_reaches_the_client(self, world, add):
        """on_commit, retry and retry_policy are the client's; the on_commit forms ask for it."""
        add.apply_async((1,), on_commit=False, retry=False, retry_policy={"max_retries": 1})
        add.delay_on_commit(1)
        add.apply_async_on_commit((1,), queue="q")
        assert [policy["on_commit"] for policy in world.policies] == [False, True, True]
        assert world.policies[0]["retry"] is False
        assert world.policies[0]["retry_policy"] == {"max_retries": 1}

    def test_async_forms(self, world, add):
        """Adelay and aapply_async send the same messages."""

        async def send():
            return [await add.adelay(1), await add.aapply_async((2,), queue="q")]

        results = asyncio.run(send())
        assert [message.id for message in world.messages] == [result.id for result in results]

    def test_shadow_name(self, world):
        """A task may show its calls under other names."""

        class Shadowed(Task):
            def shadow_name(self, args, kwargs, options):
                return f"add {args[0]}"

        @shared_task(name="t.shadow", base=Shadowed)
        def shadowed(x):
            pass

        shadowed.delay(4)
        assert world.messages[0].shadow == "add 4"

    def test_sent_from_a_task(self, world, add):
        """What a running task sends is its child: root, parent, and the list of children."""
        request = request_for(add)
        with running(request):
            result = add.delay(1)
            add.apply_async((1,), add_to_parent=False)
        assert [(m.root_id, m.parent_id) for m in world.messages] == [("the-root", "the-id")] * 2
        assert [child[0][0] for child in request.children] == [result.id]

    def test_priority_of_the_parent(self, world, add):
        """TASK_INHERIT_PARENT_PRIORITY gives what a task sends its own priority."""
        with running(request_for(add, priority=7)), override_settings(DJANGO_TASKS={"TASK_INHERIT_PARENT_PRIORITY": True}):
            add.delay(1)
            add.apply_async((1,), priority=1)
        assert [message.priority for message in world.messages] == [7, 1]


class TestRunningHere:
    def test_direct_call_has_no_message(self, add):
        """A direct call is a function call: its request knows so and has no id."""
        seen = []

        @shared_task(name="t.seen", bind=True)
        def look(self):
            seen.append((self.request.called_directly, self.request.id))

        look()
        assert seen == [(True, None)]
        assert current_request() is None

    def test_direct_call_hides_the_outer_request(self, world, add):
        """Called from another task, a function sees itself called directly; what it sends belongs to the outer task."""
        seen = []

        @shared_task(name="t.inner", bind=True)
        def inner(self):
            seen.append((self.request.called_directly, self.request.id))
            add.delay(1)

        request = request_for(add)
        with running(request):
            inner()
        assert seen == [(True, None)]
        assert world.messages[0].parent_id == "the-id"
        assert len(request.children) == 1

    def test_own_call_method_is_what_the_worker_calls(self):
        """A subclass's __call__ wraps the run, and super() leads to it with the request intact."""
        seen = []

        class Wrapped(Task):
            def __call__(self, *args, **kwargs):
                seen.append("before")
                return super().__call__(*args, **kwargs)

        @shared_task(name="t.wrapped", base=Wrapped, bind=True)
        def wrapped(self, x):
            return self.request.id, x

        assert wrapped.apply((3,), task_id="e").get() == ("e", 3)
        assert seen == ["before"]

    def test_async_tasks(self):
        """A coroutine function is a task; awaiting a direct call runs it."""

        @shared_task(name="t.async", bind=True)
        async def waits(self, x):
            await asyncio.sleep(0)
            return self.request.called_directly, x

        assert waits.is_async
        assert asyncio.run(waits(3)) == (True, 3)
        assert waits.apply((4,)).get() == (False, 4)

    def test_request_outside_of_a_run(self, add):
        """Outside of a run the request is an empty one."""
        assert add.request.called_directly
        assert add.request.id is None

    def test_pushed_requests(self, add):
        """A test can make a request the task's, and look at what the function does with it."""

        @shared_task(name="t.shown", bind=True)
        def shown(self):
            return self.request.id, self.request.retries, self.request.foo

        shown.push_request(id="mine", retries=2)
        shown.request.foo = 3
        try:
            assert shown.run() == ("mine", 2, 3)
            assert add.request.id is None
            assert current_request() is None
        finally:
            shown.pop_request()
        assert shown.request.id is None
        with pytest.raises(IndexError, match="shown"):
            shown.pop_request()

    def test_direct_call_knows_its_arguments(self):
        """The request of a direct call has the arguments."""

        @shared_task(name="t.look", bind=True)
        def look(self, x, y=0):
            return self.request.args, self.request.kwargs

        assert look(1, y=2) == ((1,), {"y": 2})


class TestEager:
    def test_ended_chain(self, world, add):
        """A task ends the chain that it is a step of."""

        @shared_task(name="t.last", bind=True)
        def last(self):
            self.request.chain = None
            return 1

        (last.s() | add.s(2)).apply_async()
        world.run()
        assert [message.task for message in world.ran] == ["t.last"]

    def test_returned_retry(self, world):
        """``return self.retry(throw=False)`` runs the task again, too, and the caller gets what comes of it."""
        tries = []

        @shared_task(name="t.quiet", bind=True)
        def quiet(self):
            tries.append(self.request.retries)
            return "done" if len(tries) == 3 else self.retry(exc=ValueError("x"), throw=False)

        assert quiet.apply().get() == "done"
        assert tries == [0, 1, 2]

    def test_other_serializers(self):
        """Arguments travel in the task's serializer, where the project accepts it."""

        @shared_task(name="t.set", serializer="pickle")
        def kind(value):
            return type(value).__name__

        with override_settings(DJANGO_TASKS={"TASK_ALWAYS_EAGER": True, "ACCEPT_CONTENT": ["json", "pickle"]}):
            assert kind.delay({1}).get() == "set"
        with override_settings(DJANGO_TASKS={"TASK_ALWAYS_EAGER": True}), pytest.raises(ContentDisallowed, match="pickle"):
            kind.delay({1})

    def test_success_handler_that_fails(self):
        """Who runs tasks eagerly sees the handler's error."""

        class Handling(Task):
            def on_success(self, retval, task_id, args, kwargs):
                raise ValueError("handler")

        @shared_task(name="t.handled", base=Handling)
        def handled():
            return 1

        with pytest.raises(ValueError, match="handler"):
            handled.apply(throw=True)

    def test_apply_returns_a_ready_result(self, world, add):
        """apply() runs the task here and returns its result; nothing is sent or stored."""
        result = add.apply((2, 3))
        assert (result.get(), result.state) == (5, "SUCCESS")
        assert not world.messages
        assert not world.results.metas

    def test_any_value_is_returned(self):
        """What is not stored may be any object, and is the very one that the task returned."""
        thing = object()

        @shared_task(name="t.thing")
        def give():
            return thing

        assert give.apply().get() is thing

    def test_failure_is_in_the_result(self):
        """A failure is raised by get(), or at once with throw=True or TASK_EAGER_PROPAGATES."""

        @shared_task(name="t.fails")
        def fails():
            raise KeyError("k")

        result = fails.apply()
        assert result.state == "FAILURE"
        assert "KeyError" in result.traceback
        with pytest.raises(KeyError):
            result.get()
        with pytest.raises(KeyError):
            fails.apply(throw=True)
        with override_settings(DJANGO_TASKS={"TASK_EAGER_PROPAGATES": True}), pytest.raises(KeyError):
            fails.apply()

    def test_always_eager(self, world, add):
        """TASK_ALWAYS_EAGER turns every call into a run here, with arguments as a message would carry them."""
        seen = []

        @shared_task(name="t.eager", bind=True)
        def eager(self, value):
            seen.append((value, self.request.is_eager))
            return add.delay(1, 2).get()

        with override_settings(DJANGO_TASKS={"TASK_ALWAYS_EAGER": True}):
            assert eager.delay((1, 2)).get() == 3
            with pytest.raises(EncodeError, match=r"t\.eager"):
                eager.delay(object())
        assert seen == [([1, 2], True)]
        assert not world.messages

    def test_retries_run_at_once(self):
        """A retry in eager mode runs again at once, up to max_retries."""
        tries = []

        @shared_task(name="t.again", bind=True, max_retries=3)
        def again(self, x):
            tries.append(self.request.retries)
            if len(tries) < 3:
                raise self.retry(args=(x + 1,), countdown=1000)
            return x

        assert again.apply((1,)).get() == 3
        assert tries == [0, 1, 2]

    def test_retries_used_up(self):
        """A task that always retries fails with the exception behind it."""

        @shared_task(name="t.never", bind=True, max_retries=2)
        def never(self):
            try:
                raise OSError("away")
            except OSError as error:
                raise self.retry(exc=error) from error

        result = never.apply()
        assert result.state == "FAILURE"
        with pytest.raises(OSError, match="away"):
            result.get()

    def test_links_run_here(self, world, add):
        """Callbacks and error callbacks of an eager task run here, too."""
        seen = []

        @shared_task(name="t.callback")
        def callback(*args):
            seen.append(args)

        @shared_task(name="t.broken")
        def broken():
            raise ValueError

        add.apply((1, 2), link=callback.s("x"))
        broken.apply(link_error=callback.si("failed"))
        assert seen[0] == (3, "x")
        assert len(seen) == 2
        assert not world.messages

    def test_store_eager_result(self, world, add):
        """TASK_STORE_EAGER_RESULT keeps results of eager tasks."""
        with override_settings(DJANGO_TASKS={"TASK_STORE_EAGER_RESULT": True}):
            result = add.apply((1, 2))
        assert world.value(result) == 3
        assert world.state(result) == "SUCCESS"


class TestRetry:
    def test_message_of_the_next_try(self, add):
        """A retry keeps the message, its parent too, but for one retry more and a later time."""
        request = request_for(
            add,
            args=(1,),
            kwargs={"y": 2},
            queue="q",
            priority=4,
            parent_id="the-parent",
            group="g",
            group_index=1,
            time_limit=9,
            headers={"h": 1},
            embed={"callbacks": [add.s()]},
            expires=datetime(2030, 1, 1, tzinfo=UTC),
            stamped_headers=["s"],
            stamps={"s": 1},
        )
        with running(request), pytest.raises(Retry) as caught:
            add.retry(countdown=30, exc=ValueError("x"))
        message = caught.value.task_message
        assert (message.id, message.retries, message.parent_id, message.root_id) == ("the-id", 1, "the-parent", "the-root")
        for name in ("args", "kwargs", "queue", "priority", "group", "group_index", "time_limit", "headers", "embed", "expires", "stamps"):
            assert getattr(message, name) == getattr(request.message, name)
        assert timedelta(seconds=25) < message.eta - datetime.now(UTC) <= timedelta(seconds=30)
        assert str(caught.value) == "Retry in 30s: ValueError('x')"
        assert caught.value.sig.options["task_id"] == "the-id"

    def test_default_delay(self, add):
        """Without a time the retry comes after default_retry_delay."""
        with running(request_for(add)), pytest.raises(Retry) as caught:
            add.retry()
        assert caught.value.when == 180

    def test_changed_arguments_and_options(self, add):
        """Arguments and options given to retry() replace the old ones; an argument is not given twice."""
        with running(request_for(add, args=(1,), kwargs={"y": 2}, queue="q", routing_key="q")), pytest.raises(Retry) as caught:
            add.retry(args=(5, 6), queue="other", priority=2)
        message = caught.value.task_message
        assert (message.args, dict(message.kwargs)) == ((5, 6), {})
        assert (message.queue, message.routing_key, message.priority) == ("other", None, 2)
        with running(request_for(add, args=(1, 2))), pytest.raises(Retry) as caught:
            add.retry(kwargs={"y": 3})
        assert (caught.value.task_message.args, dict(caught.value.task_message.kwargs)) == ((1, 3), {})

    def test_exception_classes(self, add):
        """``exc`` may be a class, as after ``raise``."""
        with running(request_for(add)), pytest.raises(Retry) as caught:
            add.retry(exc=ConnectionError)
        assert isinstance(caught.value.exc, ConnectionError)
        with running(request_for(add)), pytest.raises(ConnectionError):
            add.retry(exc=ConnectionError, max_retries=0)

    @pytest.mark.parametrize("wrong", [{"args": ValueError("x")}, {"args": "ab"}, {"kwargs": [1]}])
    def test_arguments_of_the_wrong_kind(self, add, wrong):
        """An exception given by position, as if it were ``exc``, is refused where it happens, not where messages are sent."""
        with running(request_for(add)), pytest.raises(TypeError, match="add: retry"):
            add.retry(**wrong)

    def test_what_the_caller_hides_stays_hidden(self, world):
        """Texts given in the place of arguments are what is kept of them: in retries, states and errors."""

        @shared_task(name="t.pay", bind=True, max_retries=1)
        def pay(self, account, card=None):
            self.update_state(state="ASKING")
            raise self.retry(args=("secret 3",), kwargs={"card": "secret 4"}, countdown=0)

        result = pay.apply_async(("secret 1",), {"card": "secret 2"}, argsrepr="('***',)", kwargsrepr="{'card': '***'}")
        world.step()
        assert world.messages[1].argsrepr == "('***',)"
        meta = world.results.metas[result.id]
        assert "secret" not in f"{meta.args}{meta.kwargs}"
        with pytest.raises(MaxRetriesExceededError) as caught:
            raise world.step().value
        assert "secret" not in str(caught.value)
        assert "***" in str(caught.value)

    def test_hidden_arguments_stay_hidden_in_a_signature_of_the_request(self, world, add):
        """What is sent again by ``signature_from_request`` must show no more of its arguments than what came."""
        add.apply_async((1234,), {"y": 5678}, argsrepr="(***,)", kwargsrepr="{***}")
        [came] = world.messages
        with running(request_for(add, **{name: getattr(came, name) for name in ("args", "kwargs", "argsrepr", "kwargsrepr", "headers")})):
            add.signature_from_request().apply_async()
        [_, again] = world.messages
        assert (list(again.args), dict(again.kwargs)) == ([1234], {"y": 5678})
        assert shown_arguments(again) == ("(***,)", "{***}")

    def test_notes_of_dead_lettering_stay_behind(self, add):
        """RabbitMQ would take the next try, sent with them, for a message that goes in circles, and drop it."""
        headers = {"x-death": [{"count": 1}], "x-first-death-queue": "q", "x-last-death-reason": "expired", "mine": 1}
        with running(request_for(add, headers=headers)), pytest.raises(Retry) as caught:
            add.retry()
        assert caught.value.task_message.headers == {"mine": 1}
        with running(request_for(add, headers=headers)), pytest.raises(Retry) as caught:
            add.retry(headers={"more": 2})
        assert caught.value.task_message.headers == {"mine": 1, "more": 2}

    def test_pushed_requests_are_sent_at_once(self, world, add):
        """No run follows that could send the next try."""
        add.push_request(id="pushed", args=(1,), kwargs={}, called_directly=False)
        try:
            add.retry(throw=False, countdown=0)
        finally:
            add.pop_request()
        assert [(message.id, message.retries) for message in world.messages] == [("pushed", 1)]

    def test_unknown_option(self, add):
        """An option that retry() doesn't have is refused."""
        with running(request_for(add)), pytest.raises(TypeError, match="'countdown'"):
            add.retry(count_down=1)

    def test_limit(self, add):
        """Beyond max_retries the exception behind the retry is raised, or MaxRetriesExceededError."""
        with running(request_for(add, retries=3, args=(1,))):
            with pytest.raises(MaxRetriesExceededError) as caught:
                add.retry()
            assert caught.value.task_args == (1,)
            with pytest.raises(ValueError, match="why"):
                add.retry(exc=ValueError("why"))
            with pytest.raises(Retry):
                add.retry(max_retries=4)

    def test_no_limit(self, add):
        """max_retries=None never gives up."""
        add.max_retries = None
        with running(request_for(add, retries=1000)), pytest.raises(Retry):
            add.retry()

    def test_throw_false_goes_on(self, add):
        """throw=False returns the Retry; its message leaves with the outcome."""
        request = request_for(add)
        with running(request):
            retry = add.retry(throw=False)
        assert isinstance(retry, Retry)
        assert request.pending == [retry.task_message]

    def test_called_directly(self, add):
        """Where there is nothing to retry, the exception behind it is raised."""
        with pytest.raises(Retry):
            add.retry()
        with pytest.raises(ValueError):
            add.retry(exc=ValueError())

    def test_retry_over_the_wire(self, world):
        """A retried task runs again under its id, and its RETRY state comes first."""

        @shared_task(name="t.twice", bind=True, default_retry_delay=0)
        def twice(self):
            if self.request.retries == 0:
                raise self.retry(exc=ValueError("first"))
            return "done"

        result = twice.delay()
        assert world.step().state == RETRY
        assert isinstance(world.value(result), ValueError)
        world.run()
        assert world.value(result) == "done"
        assert [message.id for message in world.ran] == [result.id] * 2


class TestAutoretry:
    def run_once(self, task, **fields):
        """Run the task's function as a worker does."""
        with running(request_for(task, **fields)):
            return task.run()

    def test_chosen_exceptions_are_retried(self):
        """Exceptions of autoretry_for become retries, with retry_kwargs; others don't."""

        @shared_task(name="t.auto", autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,), retry_kwargs={"countdown": 5})
        def auto():
            raise error

        for error in (OSError("x"), ConnectionError("x")):
            with pytest.raises(Retry) as caught:
                self.run_once(auto)
            assert caught.value.exc is error
            assert caught.value.when == 5
        for error in (FileNotFoundError("x"), ValueError("x"), Ignore(), Retry()):
            with pytest.raises(type(error)) as kept:
                self.run_once(auto)
            assert kept.value is error

    def test_backoff_doubles_up_to_a_limit(self):
        """Waiting times double from the factor up to retry_backoff_max."""

        @shared_task(
            name="t.backoff", autoretry_for=(OSError,), retry_backoff=3, retry_backoff_max=20, retry_jitter=False, max_retries=None
        )
        def backoff():
            raise OSError

        waits = []
        for retries in (0, 1, 2, 3, 10_000):
            with pytest.raises(Retry) as caught:
                self.run_once(backoff, retries=retries)
            waits.append(caught.value.when)
        assert waits == [3, 6, 12, 20, 20]

    def test_jitter_stays_below(self):
        """With jitter the waiting time is anything up to the backoff."""

        @shared_task(name="t.jitter", autoretry_for=(OSError,), retry_backoff=True, max_retries=None)
        def jitter():
            raise OSError

        waits = set()
        for _ in range(50):
            with pytest.raises(Retry) as caught:
                self.run_once(jitter, retries=4)
            waits.add(caught.value.task_message.eta is not None and caught.value.when)
        assert waits <= set(range(17)) | {None, False}
        assert len(waits) > 3

    def test_limit_raises_the_exception(self):
        """When retries are used up the task fails with the exception itself."""

        @shared_task(name="t.limit", autoretry_for=(Exception,), max_retries=1)
        def limit():
            raise OSError("away")

        with pytest.raises(OSError, match="away"):
            self.run_once(limit, retries=1)

    def test_own_retry_that_gives_up_is_final(self):
        """When the function's own retry gives up, autoretry doesn't start again."""

        @shared_task(name="t.final", bind=True, autoretry_for=(Exception,), max_retries=5)
        def final(self):
            raise self.retry(exc=OSError("away"), max_retries=0)

        with pytest.raises(OSError, match="away"):
            self.run_once(final)

    def test_async_functions(self):
        """Coroutines are retried the same way."""

        @shared_task(name="t.aauto", autoretry_for=(OSError,), default_retry_delay=1)
        async def aauto():
            raise OSError

        with running(request_for(aauto)), pytest.raises(Retry):
            asyncio.run(aauto.run())

    def test_base_class_options(self):
        """A base class may choose the exceptions."""

        class Base(Task):
            autoretry_for = (OSError,)

        @shared_task(name="t.autobase", base=Base)
        def auto():
            raise OSError

        with pytest.raises(Retry):
            self.run_once(auto)


class TestFromInside:
    def test_update_state_stores_at_once(self, world):
        """A state of one's own is stored with its details, at once."""

        @shared_task(name="t.progress", bind=True)
        def progress(self):
            self.update_state(state="PROGRESS", meta={"done": 3})
            self.update_state("other-id", "SEEN")
            return world.state(self.request), world.results.metas["other-id"].status

        request = request_for(progress, args=(1,))
        with running(request):
            assert progress.run() == ("PROGRESS", "SEEN")
        meta = world.results.metas["the-id"]
        assert (meta.result, meta.name, meta.args) == ('{"done":3}', "t.progress", "[1]")

    def test_update_state_without_a_task(self, world, add):
        """In a direct call there is no state to update."""
        add.update_state(state="PROGRESS")
        assert not world.results.metas

    def test_update_state_with_a_traceback(self, world, add):
        """A task that stores its own failure says where it happened."""
        add.update_state("other", "FAILURE", {"exc_type": "ValueError", "exc_message": ["x"]}, traceback="line 1")
        assert (world.results.metas["other"].status, world.results.metas["other"].traceback) == ("FAILURE", "line 1")

    def test_update_state_of_a_pushed_request(self, world, add):
        """What counts is the id."""
        add.push_request(id="pushed")
        try:
            add.update_state(state="CUSTOM")
        finally:
            add.pop_request()
        assert world.results.metas["pushed"].status == "CUSTOM"

    def test_update_state_needs_a_state(self, world, add):
        """A state is what update_state is for."""
        with running(request_for(add)), pytest.raises(TypeError, match="needs a state"):
            add.update_state(meta=1)

    def test_progress_is_throttled(self, world):
        """Of calls within a quarter of a second the first is stored, and the one that reaches the end."""
        stored = []

        @shared_task(name="t.loop", bind=True)
        def loop(self):
            for done in range(1000):
                self.progress(done, 1000, f"row {done}")
                stored.append(world.results.metas["the-id"].result)
            self.progress(1000, 1000)
            return world.state(self.request)

        request = request_for(loop)
        with running(request):
            assert loop.run() == "PROGRESS"
        assert len(set(stored)) < 10
        assert stored[0] == '{"done":0,"total":1000,"message":"row 0"}'
        assert world.results.metas["the-id"].result == '{"done":1000,"total":1000,"message":""}'
        assert request.stored_own_state

    def test_progress_without_a_total(self, world):
        """How much there is to do need not be known."""

        @shared_task(name="t.endless", bind=True)
        def endless(self):
            self.progress(7)

        with running(request_for(endless)):
            endless.run()
        assert world.results.metas["the-id"].result == '{"done":7,"total":null,"message":""}'

    @pytest.mark.parametrize("numbers", [(-1, 5), ("3", 5), (float("nan"), None), (1, -5)])
    def test_progress_of_no_numbers(self, world, add, numbers):
        """What is no progress is said at once."""
        with running(request_for(add)), pytest.raises(ValueError, match="progress"):
            add.progress(*numbers)
        assert not world.results.metas

    def test_progress_of_a_direct_call(self, world, add):
        """In a direct call nobody watches."""
        add.progress(1, 2)
        assert not world.results.metas

    def test_replace(self, world, add):
        """Another workflow runs under the task's id, with its callbacks, and before its following steps."""

        @shared_task(name="t.replaced", bind=True)
        def replaced(self, x):
            return self.replace(add.s(x, 10) | add.s(100))

        seen = []

        @shared_task(name="t.after")
        def after(value):
            seen.append(value)
            return value

        first = replaced.s(1)
        first.link(after.s())
        result = (first | add.s(1000)).apply_async()
        world.run()
        assert world.value(result) == 1111
        assert world.value(result.parent) == 111
        assert seen == [111]
        assert [m.replaced_task_nesting for m in world.ran if m.task == "t.add"] == [1, 1, 1]

    def test_replace_in_a_chord(self, world, add):
        """A part of a chord may replace itself; the chord waits for what runs instead."""

        @shared_task(name="t.part", bind=True)
        def part(self, x):
            return self.replace(add.s(x, 1) | add.s(1))

        from django_tasks.canvas import chord

        @shared_task(name="t.sum")
        def total(values):
            return sum(values)

        result = chord([part.s(1), add.s(10, 10)], total.s()).apply_async()
        world.run()
        assert world.value(result) == 23

    def test_replace_with_a_group(self, world, add):
        """A group in the task's place gives the list of its results."""
        import django_tasks.builtins  # noqa: F401
        from django_tasks.canvas import group

        @shared_task(name="t.fan", bind=True)
        def fan(self):
            return self.replace(group(add.s(1, 1), add.s(2, 2)))

        result = fan.delay()
        world.run()
        assert world.value(result) == [2, 4]
        assert fan.apply().get() == [2, 4]

    def test_add_to_chord(self, world, add):
        """A part of a chord may add parts to it; their results are among the body's."""

        @shared_task(name="t.grow", bind=True)
        def grow(self, x):
            self.add_to_chord(add.s(x, 5))
            return x

        from django_tasks.canvas import chord

        @shared_task(name="t.list")
        def listed(values):
            return sorted(values)

        result = chord([grow.s(1), add.s(10, 10)], listed.s()).apply_async()
        world.run()
        assert world.value(result) == [1, 6, 20]

    def test_add_to_chord_outside_of_one(self, world, add):
        """Without a chord nothing can be added to it."""
        with running(request_for(add)), pytest.raises(ValueError, match="no part of a chord"):
            add.add_to_chord(add.s(1, 1))

    def test_signature_from_request(self, add):
        """A request can be made into a signature that calls the task in the same way."""
        sig = add.signature_from_request(request_for(add, args=(1,), queue="q", priority=2), kwargs={"y": 3}, countdown=5)
        assert (sig.args, sig.kwargs) == ((1,), {"y": 3})
        assert sig.options["queue"] == "q"
        assert sig.options["priority"] == 2
        assert sig.options["countdown"] == 5
        assert sig.options["task_id"] == "the-id"


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
