"""Tasks that run where they are called: apply(), and TASK_ALWAYS_EAGER."""

import pytest
from django.test import override_settings

from django_tasks.exceptions import ContentDisallowed, EncodeError
from django_tasks.tasks import Task, shared_task

pytestmark = pytest.mark.usefixtures("own_registry")


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

    def test_raised_replacement(self, add):
        """``raise self.replace(...)`` ends the run with what replaced it, as in a worker, and as ``return`` does."""
        after = []

        @shared_task(name="t.raising", bind=True)
        def raising(self, x):
            raise self.replace(add.s(x, 1) | add.s(10))

        @shared_task(name="t.going_on", bind=True)
        def going_on(self, x):
            self.replace(add.s(x, 1))
            after.append(x)

        @shared_task(name="t.coroutine", bind=True)
        async def coroutine(self, x):
            raise self.replace(add.s(x, 1))

        assert raising.apply((5,)).get() == 16
        assert (going_on.apply((5,)).get(), after) == (6, [])
        assert coroutine.apply((5,)).get() == 6
        with override_settings(DJANGO_TASKS={"TASK_ALWAYS_EAGER": True}):
            assert (raising.s(5) | add.s(100)).delay().get() == 116

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
