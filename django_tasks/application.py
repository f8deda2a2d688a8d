"""``app``: the one task app of a Django project."""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, overload

from asgiref.sync import sync_to_async
from django.core.signals import setting_changed

from django_tasks import brokers, result, result_backends, routing
from django_tasks.canvas import Signature, signature
from django_tasks.canvas.calls import warn_of_sending
from django_tasks.canvas.dispatch import send_call
from django_tasks.canvas.givenconnections import refuse_other_brokers
from django_tasks.canvas.optionvalues import refuse_call
from django_tasks.conf import settings
from django_tasks.conf_options import OPTIONS
from django_tasks.context import CurrentTask, current_task
from django_tasks.events.monitoring import Events
from django_tasks.registry import TaskRegistry, periodic_tasks, registry
from django_tasks.result.revocation import revoke_stamped, revoke_tasks
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


class Conf:
    """The settings under Celery's names: ``app.conf.task_routes``, ``app.conf["TASK_ROUTES"]``.

    What is assigned here holds in this process only, and wins over ``DJANGO_TASKS``. An unknown name raises
    AttributeError (KeyError for items), naming the nearest one.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(settings, _setting(name, AttributeError))

    def __setattr__(self, name: str, value: Any) -> None:
        self.update({_setting(name, AttributeError): value})

    def __getitem__(self, name: str) -> Any:
        return getattr(settings, _setting(name, KeyError))

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _upper(name) in OPTIONS

    def __iter__(self) -> Iterator[str]:
        return (name.lower() for name in OPTIONS)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting, or ``default`` if there is none of this name."""
        return getattr(settings, _upper(name)) if name in self else default

    def update(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Override settings in this process. Connections that were made with the old ones are forgotten."""
        # All names first: an unknown one leaves every setting as it is.
        for name, value in {_setting(name, KeyError): value for name, value in {**(values or {}), **more}.items()}.items():
            settings.override(name, value)
        # Whatever was made from the settings listens to this, as in tests.
        setting_changed.send(sender=type(self), setting="DJANGO_TASKS", value=None, enter=True)

    def __repr__(self) -> str:
        return "<conf: the settings of DJANGO_TASKS>"


def _upper(name: str) -> str:
    name = name.upper()
    return name.removeprefix("CELERY_") if name.startswith("CELERY_") else name


def _setting(name: str, error: type[Exception]) -> str:
    upper = _upper(name)
    if upper not in OPTIONS:
        near = get_close_matches(upper, OPTIONS, n=1)
        raise error(f"there is no setting {name!r}" + (f"; did you mean {near[0].lower()!r}?" if near else ""))
    return upper


class Moment:
    """A point in an app's start: ``@app.on_after_finalize.connect``. Who connects later is called at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._receivers: list[Callable[..., Any]] = []
        self._sent: dict[str, Any] | None = None

    def connect(self, receiver: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Call ``receiver(sender=app, **kwargs)`` when the moment has come; also a decorator, with or without options."""
        if receiver is None:
            return self.connect
        self._receivers.append(receiver)
        if self._sent is not None:
            receiver(**self._sent)
        return receiver

    def disconnect(self, receiver: Callable[..., Any]) -> bool:
        """Forget a receiver; says whether it was connected."""
        known = receiver in self._receivers
        if known:
            self._receivers.remove(receiver)
        return known

    def send(self, **kwargs: Any) -> None:
        """Call the receivers, once in the life of the process; what they raise is the project's to see."""
        if self._sent is None:
            self._sent = kwargs
            for receiver in list(self._receivers):
                receiver(**kwargs)


#: Celery's control commands that need a conversation with the workers.
COMMANDS_TO_COME: Final = frozenset(
    {
        "add_consumer",
        "autoscale",
        "broadcast",
        "cancel_consumer",
        "disable_events",
        "election",
        "enable_events",
        "heartbeat",
        "inspect",
        "ping",
        "pool_grow",
        "pool_restart",
        "pool_shrink",
        "rate_limit",
        "shutdown",
        "time_limit",
    }
)


class Control:
    """Commands to the workers. What works now goes by way of the database; the rest raises NotImplementedError."""

    def revoke(
        self, task_id: str | Iterable[str], destination: Any = None, terminate: bool = False, signal: str | int = "SIGTERM", **kwargs: Any
    ) -> None:
        """Let no worker start these tasks; with ``terminate`` stop them where they run. Takes effect within seconds.

        Raises TypeError for what is no task id and ValueError for what is no signal; nothing is revoked then.
        """
        if destination is not None:
            raise NotImplementedError(
                "revoke(destination=...) comes in a later release; without it every worker is told. Nothing was revoked"
            )
        given: Any = task_id
        several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
        revoke_tasks(list(given) if several else [given], terminate=terminate, signal=signal)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | Iterable[str],
        destination: Any = None,
        terminate: bool = False,
        signal: str | int = "SIGTERM",
        **kwargs: Any,
    ) -> None:
        """Let no worker start tasks with one of these stamps; with ``terminate`` stop those that run. Takes effect within seconds.

        ``{"tenant": "acme", "order": [17, 18]}``, or ``["tenant=acme"]``. A stamp matches if it is one of the values, or is a list with
        one of them. Tasks that are sent later are meant, too, as long as the row (``RevokedStamp``) is kept: for RESULT_EXPIRES, a day at
        least; delete it, in the admin, to let them run again.
        """
        if destination is not None:
            raise NotImplementedError(
                "revoke_by_stamped_headers(destination=...) comes in a later release; without it every worker is told. Nothing was revoked"
            )
        revoke_stamped(headers, terminate=terminate, signal=signal)

    def terminate(self, task_id: str | Iterable[str], destination: Any = None, signal: str | int = "SIGTERM", **kwargs: Any) -> None:
        """``revoke`` with ``terminate=True``."""
        self.revoke(task_id, destination, terminate=True, signal=signal)

    def purge(self, connection: Any = None) -> int:
        """Delete all messages that wait in this project's queues; returns how many. ValueError for a connection to another broker."""
        if connection is not None:
            refuse_other_brokers({"connection": connection}, "purge", "Nothing was deleted; `celery -b URL purge` reaches that one")
        broker = brokers.current()
        names = dict.fromkeys([*routing.current().queue_names, *broker.queues()])
        return sum(broker.purge(name) for name in names)

    discard_all = purge

    def __getattr__(self, name: str) -> Any:
        if name in COMMANDS_TO_COME:
            raise NotImplementedError(f"app.control.{name} comes in a later release; purge, terminate and the two ways to revoke work now")
        raise AttributeError(f"app.control has no command {name!r}")


class App:
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

    # ---- accepted from Celery

    def autodiscover_tasks(self, packages: Any = None, related_name: str = "tasks", force: bool = False) -> None:
        """Accepted from Celery: every installed app's ``tasks`` module is imported anyway."""

    def config_from_object(self, *args: Any, **kwargs: Any) -> None:
        """Accepted from Celery: settings come from Django's ``DJANGO_TASKS``, or ``CELERY_*``."""

    def __repr__(self) -> str:
        return f"<app: {len(registry)} tasks>"


#: The one app of the project.
app = App()
# Tasks offer it as ``self.app``, results as ``result.app``, signatures as ``sig.app``; they lie below this room and can't import it.
AnyTask.app = app
result.ResultBase.app = app
Signature.app = app


def finalize() -> None:
    """Send the app's start-up signals, once; called when Django's apps are ready."""
    app.finalize()


__all__ = ["App", "Conf", "Moment", "app", "finalize"]
