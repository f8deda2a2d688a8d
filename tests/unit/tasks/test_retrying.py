"""Trying again: retry(), and exceptions that are retried by themselves."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from django_tasks.context import running
from django_tasks.exceptions import Ignore, MaxRetriesExceededError, Retry
from django_tasks.messages import shown_arguments
from django_tasks.states import RETRY
from django_tasks.tasks import Task, shared_task
from tests.unit.workflow_world import request_for

pytestmark = pytest.mark.usefixtures("own_registry")


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

    def test_a_cause_that_cannot_be_shown(self, world):
        """An exception whose repr and text raise is a cause like any other: the task is tried again, and fails under its name."""

        class Hidden(Exception):
            def __repr__(self):
                return self.missing

            __str__ = __repr__

        @shared_task(name="t.hidden", bind=True, default_retry_delay=0, max_retries=1)
        def hidden(self):
            raise self.retry(exc=Hidden("x"))

        result = hidden.delay()
        assert world.step().state == RETRY
        world.run()
        assert (world.state(result), type(world.value(result)).__name__) == ("FAILURE", "Hidden")

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
