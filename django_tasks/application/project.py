"""``app``: the one task app of a Django project."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from asgiref.sync import sync_to_async

from django_tasks import result, result_backends
from django_tasks.application.celerysnames import CelerysNames
from django_tasks.application.commanding import Control
from django_tasks.application.configuration import Conf
from django_tasks.application.moments import Moment
from django_tasks.canvas import Signature, signature
from django_tasks.canvas.calls import warn_of_sending
from django_tasks.canvas.dispatch import send_call
from django_tasks.canvas.optionvalues import refuse_call
from django_tasks.context import CurrentTask, current_task
from django_tasks.events.monitoring import Events
from django_tasks.registry import TaskRegistry, periodic_tasks, registry
from django_tasks.result_backends.backend import ResultBackend
from django_tasks.tasks import Task as AnyTask
from django_tasks.tasks import register, shared_task, task_name
from django_tasks.tasks.periodic import periodic_entry

if TYPE_CHECKING:
    from typing import Unpack

    from django_tasks.canvas.calls import CallOptions
    from django_tasks.tasks.declaring import BindingDecorator, Decorator
    from django_tasks.tasks.options import TaskOptions

P = ParamSpec("P")
R = TypeVar("R")


class App(CelerysNames):
    """The task app of the Django project. There is one, ``django_tasks.app``; it needs no configuration of its own."""

    #: Module part of the names of tasks in a script that is run directly.
    main = "__main__"
    Task = AnyTask
    AsyncResult = result.AsyncResult
    GroupResult = result.GroupResult
    ResultSet = result.ResultSet
    EagerResult = result.EagerResult

    def __init__(self) -> None:
        self.conf = Conf()
        self.control = Control()
        #: Monitoring events: ``Receiver``, ``Dispatcher``, ``State``.
        self.events = Events()
        #: Sent once when the apps are ready, before ``on_after_finalize``.
        self.on_after_configure = Moment("on_after_configure")
        #: Sent once when every app's tasks are known: the place for ``add_periodic_task``.
        self.on_after_finalize = Moment("on_after_finalize")

    # ---- declaring

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /, **options: "Unpack[TaskOptions]") -> AnyTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /, **options: "Unpack[TaskOptions]") -> AnyTask[P, R]: ...
    @overload
    def task(self, /, *, bind: Literal[True], **options: "Unpack[TaskOptions]") -> "BindingDecorator": ...
    @overload
    def task(self, /, *, bind: Literal[False] = False, **options: "Unpack[TaskOptions]") -> "Decorator": ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a task of a function: the same as ``shared_task``, as there is one app.

        ``app.task(function, name="shop.pack")`` makes one of a function that is somebody else's.
        """
        return shared_task(function, **options)

    def register_task(self, task: Any, **options: Any) -> AnyTask[Any, Any]:
        """Register an instance of a task class; returns the task that holds the name."""
        for name, value in options.items():
            setattr(task, name, value)
        return register(task)

    @property
    def tasks(self) -> TaskRegistry:
        """Name → task, for every task that this process knows."""
        return registry

    def gen_task_name(self, name: str, module: str | None) -> str:
        """Return the name that a function of a module gets as a task.

        Assign a function to name tasks otherwise, before they are imported: ``app.gen_task_name = my_names``.
        """
        return task_name(name, module, self.main)

    @property
    def current_task(self) -> CurrentTask | None:
        """The task that runs here, or None."""
        return current_task or None

    current_worker_task = current_task

    # ---- calling

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: "Unpack[CallOptions]",
    ) -> result.AsyncResult[Any]:
        """Send a task by its name, which this process need not know. Arguments are not checked.

        It is sent in eager mode, too; AlwaysEagerIgnored, a warning, says so.
        """
        warn_of_sending("send_task()")
        refuse_call("send_task()", name, args, kwargs)
        args, kwargs, call_options = tuple(args or ()), dict(kwargs or {}), dict(options)
        known = registry.find(name)
        if known is not None:
            call_options = known.call_options(args, kwargs, call_options)
        return send_call(name, args, kwargs, call_options)

    async def asend_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: "Unpack[CallOptions]",
    ) -> result.AsyncResult[Any]:
        """``send_task`` for async code."""
        return await sync_to_async(self.send_task, thread_sensitive=True)(name, args, kwargs, **options)

    def signature(self, varies: Any, *args: Any, **kwargs: Any) -> Signature[Any]:
        """Make a signature of a task, a task's name, or a wire form."""
        return signature(varies, *args, **kwargs)

    @property
    def backend(self) -> ResultBackend:
        """The result backend."""
        return result_backends.current()

    # ---- periodic tasks

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Let beat send a task by a schedule: ``app.add_periodic_task(crontab(hour=4), report.s())``.

        Call it in a receiver of ``on_after_finalize``. Returns the entry's name; the same name replaces the entry. Raises TypeError and
        ValueError for what beat could not schedule, and for arguments that the task doesn't take.
        """
        key, entry = periodic_entry(schedule, sig, args, kwargs, name, opts)
        periodic_tasks[key] = entry
        return key

    # ---- starting

    def finalize(self) -> None:
        """Say that the apps are ready and every task is known: sends ``on_after_configure`` and ``on_after_finalize``.

        ``AppConfig.ready`` calls it; later calls do nothing.
        """
        self.on_after_configure.send(sender=self, source=self.conf)
        self.on_after_finalize.send(sender=self)

    # ---- reaching the broker

    def connection(self, url: str | Sequence[str] | None = None, **options: Any) -> Any:
        """Make a connection to the broker, or to that of another URL: ``with app.connection() as connection: ...``.

        For a message broker it is a ``kombu.Connection`` by the settings, to which ``options`` are added (``heartbeat``,
        ``transport_options`` ...); it connects when it is used. For ``db://`` and ``memory://`` it is a stand-in that
        ``app.events`` takes, and that has no channels.
        """
        from django_tasks.kombuaccess import open_connection

        return open_connection(url, **options)

    def connection_for_read(self, url: str | Sequence[str] | None = None, **options: Any) -> Any:
        """``connection``: there is one broker for reading and writing."""
        return self.connection(url, **options)

    def connection_for_write(self, url: str | Sequence[str] | None = None, **options: Any) -> Any:
        """``connection``: there is one broker for reading and writing."""
        return self.connection(url, **options)

    broker_connection = connection

    # ---- accepted from Celery

    def autodiscover_tasks(self, packages: Any = None, related_name: str = "tasks", force: bool = False) -> None:
        """Accepted from Celery: every installed app's ``tasks`` module is imported anyway."""

    def config_from_object(self, *args: Any, **kwargs: Any) -> None:
        """Accepted from Celery: settings come from Django's ``DJANGO_TASKS``, or ``CELERY_*``."""

    def __repr__(self) -> str:
        return f"<app: {len(registry)} tasks>"
