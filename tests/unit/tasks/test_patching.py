"""What a test patches counts at once, however often the task has run before, and its end counts as well."""

from unittest import mock

import pytest

from django_tasks import Task, conf, routing, shared_task
from django_tasks.executor import TaskHooks
from django_tasks.messages import TaskMessage
from django_tasks.middleware import Middleware, compose

HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")


class Own(Task):
    """A class of a project, with hooks of its own."""

    def on_success(self, *args):
        pass

    def work(self):
        return "worked"


@shared_task(base=Own, bind=True, max_retries=1, retry_backoff=False)
def patched(self, what="return"):
    """Ends as it is told."""
    if what == "retry":
        self.retry(countdown=0)
    if what == "fail":
        raise ValueError(what)
    return self.work()


@shared_task
async def waits():
    """Is a coroutine."""
    return "waited"


@pytest.mark.parametrize("target", [TaskHooks, Task, Own, patched], ids=["hooks", "Task", "class", "task"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_is_patched_after_a_run_is_called(target, hook):
    """On the base class, the project's class, or the task itself."""
    if hook == "on_success" and target in {TaskHooks, Task}:
        target = Own
    what = {"on_failure": "fail", "on_retry": "retry"}.get(hook, "return")
    patched.apply((what,))
    with mock.patch.object(target, hook) as called:
        patched.apply((what,))
    assert called.called
    called.reset_mock()
    patched.apply((what,))
    assert not called.called


def test_what_the_task_does_can_be_patched_after_a_run():
    """``run`` of the task or of its class, ``__call__``, and what its class says of calls."""

    class Written(Task):
        name = "tests.unit.written"

        def run(self):
            return "run"

    written = Written()
    written.on_registered()
    assert written.apply().get() == "run"
    for target, name in ((Written, "run"), (written, "run"), (Written, "__call__"), (Task, "__call__")):
        with mock.patch.object(target, name, return_value="mock"):
            assert (target, name, written.apply().get()) == (target, name, "mock")
        assert written.apply().get() == "run"
    assert written.call_options((), {}, {}).get("queue") is None
    with mock.patch.object(Written, "queue", "other"):
        assert written.call_options((), {}, {})["queue"] == "other"
    assert written.call_options((), {}, {}).get("queue") is None


@pytest.mark.parametrize("new", [mock.AsyncMock(return_value="mock"), mock.Mock(return_value="mock"), lambda: "mock"])
def test_a_coroutine_can_be_replaced_by_anything_callable(new):
    """By a function as well."""
    assert waits.apply().get() == "waited"
    with mock.patch.object(waits, "run", new):
        assert waits.apply().get() == "mock"
    assert waits.apply().get() == "waited"


def route(name, args, kwargs, options, task=None, **more):
    """A router of a project."""
    return {"queue": "routed"}


def test_a_router_can_be_patched_after_it_was_asked(settings):
    """It is named by its path in the settings."""
    settings.DJANGO_TASKS = {"TASK_ROUTES": f"{__name__}.route"}
    conf.settings.reset()
    routing.reset()
    message = TaskMessage(id="x", task="t")
    try:
        assert routing.current().destinations([message])[0].queue == "routed"
        with mock.patch(f"{__name__}.route", return_value="elsewhere"):
            assert routing.current().destinations([message])[0].queue == "elsewhere"
    finally:
        conf.settings.reset()
        routing.reset()


def test_a_middleware_can_be_patched_after_it_was_called():
    """Its class is what a test can reach."""

    class Marks(Middleware):
        def execute(self, request, call_next):
            return call_next(request)

    call = compose([Marks()], "execute", lambda request: "ran")
    assert call(None) == "ran"
    with mock.patch.object(Marks, "execute", return_value="mock"):
        assert call(None) == "mock"
