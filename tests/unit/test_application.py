"""The app: one a project, with Celery's words."""

import subprocess
import sys

import pytest
from django.test import override_settings

import django_tasks
from django_tasks.application import App, Moment, app
from django_tasks.conf import settings
from django_tasks.context import Request, running
from django_tasks.exceptions import AlwaysEagerIgnored, ImproperlyConfigured
from django_tasks.messages import TaskMessage
from django_tasks.registry import periodic_tasks
from django_tasks.tasks import Task


@pytest.fixture(autouse=True)
def _leave_no_trace(own_registry):
    """Forget overrides, tasks and periodic tasks of a test."""
    entries = dict(periodic_tasks)
    yield
    settings.drop_overrides()
    periodic_tasks.clear()
    periodic_tasks.update(entries)


PUBLIC = {
    "app",
    "shared_task",
    "Task",
    "current_task",
    "chain",
    "group",
    "chord",
    "chunks",
    "xmap",
    "xstarmap",
    "signature",
    "maybe_signature",
    "AsyncResult",
    "GroupResult",
    "ResultSet",
    "EagerResult",
}


def test_public_names():
    """What the contract lists can be imported from the package."""
    for name in PUBLIC:
        assert name in django_tasks.__all__
        assert getattr(django_tasks, name) is not None


def test_import_needs_no_settings_and_loads_no_models():
    """Importing the package works without Django settings, and loads neither models nor Celery."""
    code = (
        "import sys, django_tasks;"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('celery', 'django_celery_beat') or m.startswith('django_tasks.models')];"
        "sys.exit(str(bad) if bad else 0)"
    )
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")


class TestTasks:
    def test_task_decorator(self):
        """app.task is shared_task, bare, with options, and bound."""

        @app.task
        def bare():
            return 1

        @app.task(name="a.bound", bind=True)
        def bound(self):
            return self.name

        task = app.task(lambda: None, name="a.of_others", priority=3)

        assert (task.name, task.priority) == ("a.of_others", 3)
        assert app.tasks[f"{__name__}.bare"] is bare
        assert bound() == "a.bound"
        assert app.Task is Task
        assert bare.app is app

    def test_register_task(self):
        """Instances of task classes are registered, with options if given."""

        class Report(Task):
            def run(self):
                return 1

        task = app.register_task(Report(), name="a.report", queue="slow")
        assert app.tasks["a.report"] is task
        assert task.queue == "slow"

    def test_gen_task_name(self):
        """Names are made of module and function; main stands for a script's module."""
        assert app.gen_task_name("f", "json") == "json.f"
        own = App()
        own.main = "shop"
        assert own.gen_task_name("f", "__main__") == "shop.f"

    def test_current_task(self):
        """The task that runs here, or None."""

        @app.task(name="a.current")
        def current():
            pass

        assert app.current_task is None
        with running(Request(message=TaskMessage(id="i", task="a.current"), definition=current)):
            assert app.current_task == current
            assert app.current_worker_task.name == "a.current"


class TestSendTask:
    def test_by_name(self, world):
        """A task that this process doesn't know is sent by its name."""
        result = app.send_task("elsewhere.do", (1,), {"x": 2}, queue="q", task_id="mine")
        [message] = world.messages
        assert (message.task, list(message.args), dict(message.kwargs), message.queue) == ("elsewhere.do", [1], {"x": 2}, "q")
        assert message.id == result.id == "mine"

    def test_known_tasks_bring_their_options(self, world):
        """Sent by name, a known task still goes to its own queue."""

        @app.task(name="a.slow", queue="slow", ignore_result=True)
        def slow(x):
            pass

        app.send_task("a.slow")
        assert (world.messages[0].queue, world.messages[0].ignore_result) == ("slow", True)

    def test_in_eager_mode(self, world):
        """It is sent all the same, with a warning, as in Celery."""
        with override_settings(DJANGO_TASKS={"TASK_ALWAYS_EAGER": True}), pytest.warns(AlwaysEagerIgnored, match="send_task"):
            app.send_task("elsewhere.do")
        assert [message.task for message in world.messages] == ["elsewhere.do"]

    async def _send(self):
        return await app.asend_task("elsewhere.do", (1,))

    def test_from_async_code(self, world):
        """asend_task sends the same message."""
        import asyncio

        assert asyncio.run(self._send()).id == world.messages[0].id

    def test_signature(self):
        """app.signature makes signatures by name."""
        assert app.signature("elsewhere.do", args=(1,)).args == (1,)


class TestConf:
    @override_settings(DJANGO_TASKS={"TASK_DEFAULT_QUEUE": "mine"})
    def test_reading(self):
        """Settings can be read by lower-case and upper-case names, as attributes and items."""
        assert app.conf.task_default_queue == "mine"
        assert app.conf.TASK_DEFAULT_QUEUE == "mine"
        assert app.conf["task_default_queue"] == "mine"
        assert app.conf["CELERY_TASK_DEFAULT_QUEUE"] == "mine"
        assert app.conf.get("task_default_queue") == "mine"
        assert app.conf.get("no_such", 3) == 3
        assert "task_routes" in app.conf
        assert "task_default_queue" in list(app.conf)

    def test_unknown_names(self):
        """An unknown name is refused, with the nearest one."""
        with pytest.raises(AttributeError, match="'task_routes'"):
            app.conf.task_route  # noqa: B018
        with pytest.raises(KeyError):
            app.conf["task_route"]
        with pytest.raises(KeyError):
            app.conf.update(task_route={})
        assert not hasattr(app.conf, "_private")

    def test_assignments_win(self):
        """What is assigned counts at once, wins over Django's settings, and survives their changes."""
        app.conf.task_acks_late = False
        app.conf["task_ignore_result"] = True
        app.conf.update({"task_time_limit": 5}, task_soft_time_limit=3)
        with override_settings(DJANGO_TASKS={"TASK_ACKS_LATE": True, "TASK_TIME_LIMIT": 9}):
            assert (settings.TASK_ACKS_LATE, settings.TASK_IGNORE_RESULT) == (False, True)
            assert (settings.TASK_TIME_LIMIT, settings.TASK_SOFT_TIME_LIMIT) == (5, 3)


class TestPeriodicTasks:
    def test_entries_are_kept_for_beat(self):
        """An added entry is what beat needs: task, schedule, arguments, options."""
        sig = app.signature("a.report", args=(1,)).set(queue="slow")
        assert app.add_periodic_task(30.0, sig, name="reports", expires=10) == "reports"
        assert periodic_tasks["reports"] == {
            "task": "a.report",
            "schedule": 30.0,
            "args": (1,),
            "kwargs": {},
            "options": {"queue": "slow", "expires": 10},
        }

    def test_without_a_name(self):
        """Without a name the call itself is the name; tasks and more arguments are taken, too."""

        @app.task(name="a.tick")
        def tick(x, y=0):
            pass

        key = app.add_periodic_task(5, tick, (1,))
        assert key == "a.tick(1)"
        assert periodic_tasks[key]["args"] == (1,)
        assert periodic_tasks[app.add_periodic_task(5, tick.s(2), (1,))]["args"] == (1, 2)


class TestStarting:
    def test_finalize_sends_once(self):
        """Receivers are called once, configure before finalize, with the app as the sender."""
        own, heard = App(), []

        @own.on_after_configure.connect
        def configured(sender, source, **kwargs):
            heard.append(("configure", sender, source))

        @own.on_after_finalize.connect(weak=False)
        def finalized(sender, **kwargs):
            heard.append(("finalize", sender))

        own.finalize()
        own.finalize()
        assert heard == [("configure", own, own.conf), ("finalize", own)]

    def test_late_receivers_are_called_at_once(self):
        """Who connects when the moment has passed is called right away."""
        moment, heard = Moment("m"), []
        moment.send(sender=1)
        moment.connect(lambda sender, **kwargs: heard.append(sender))
        assert heard == [1]

    def test_disconnect(self):
        """A disconnected receiver hears nothing."""
        moment, heard = Moment("m"), []
        receiver = moment.connect(lambda **kwargs: heard.append(1))
        assert moment.disconnect(receiver)
        assert not moment.disconnect(receiver)
        moment.send()
        assert not heard


class TestLater:
    @pytest.mark.parametrize("ask", [lambda: app.control.inspect, lambda: app.control.ping])
    def test_what_is_not_there_says_so(self, ask):
        """What comes in a later release raises NotImplementedError that says so."""
        with pytest.raises(NotImplementedError, match="later release"):
            ask()

    def test_unknown_control_command(self):
        """A command that doesn't exist is an AttributeError."""
        with pytest.raises(AttributeError):
            app.control.dance  # noqa: B018


class TestControl:
    def test_purge(self, monkeypatch):
        """purge() empties every queue that the settings or the broker know, each once; none where one of the names is refused."""
        purged = []

        class Broker:
            def queues(self):
                return ["default", "left"]

            def refusal(self, name):
                return refused.get(name)

            def purge(self, name):
                purged.append(name)
                return 2

        refused = {}
        monkeypatch.setattr("django_tasks.brokers.current", Broker)
        assert app.control.purge() == 4
        assert purged == ["default", "left"]
        refused["left"] = "'left' is no name for a queue"
        with pytest.raises(ImproperlyConfigured, match=r"no name for a queue\. Nothing was deleted"):
            app.control.purge()
        assert purged == ["default", "left"]


@pytest.mark.parametrize("name", [None, "", 3, object()])
def test_send_task_takes_a_name(name):
    """What is no task's name is refused, and nothing is sent."""
    with pytest.raises(TypeError, match="a task's name"):
        app.send_task(name)
