"""How calls become messages, and what a task's function may be called with here."""

import asyncio
import functools
from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings

from django_tasks.context import current_request, running
from django_tasks.exceptions import EncodeError
from django_tasks.tasks import Task, shared_task
from tests.unit.workflow_world import request_for

pytestmark = pytest.mark.usefixtures("own_registry")


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

    @pytest.mark.parametrize("more", [{}, {"pydantic": True}, {"autoretry_for": (OSError,)}], ids=str)
    def test_the_outermost_signature_counts(self, world, more):
        """A decorator may give the function arguments, or take some: calls are checked against what it takes, as in Celery."""

        def store(session, pk):
            return session, pk

        @functools.wraps(store)
        def injecting(pk, *, tries=1):
            return store("the session", pk)

        @functools.wraps(store)
        def anything(*args, **kwargs):
            return store("the session", *args)

        named, any_ = (shared_task(name=name, **more)(made) for name, made in (("t.named", injecting), ("t.any", anything)))
        results = [named.delay(7), named.delay(pk=7, tries=2)]
        if "pydantic" not in more:
            # As in Celery, models are sought in the function's own signature.
            results.append(any_.delay(7))
        world.run()
        assert [world.value(result) for result in results] == [["the session", 7]] * len(results)
        for wrong in ((), (7, 8)):
            with pytest.raises(TypeError, match=r"t\.named"):
                named.delay(*wrong)

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
