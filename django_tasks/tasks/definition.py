"""``Task``: what a task is, and how it is called."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, ParamSpec, TypeVar, cast

from asgiref.sync import sync_to_async

from django_tasks.canvas import Signature, chunks, xmap, xstarmap
from django_tasks.canvas.calls import CallOptions, Expires, build_message
from django_tasks.canvas.dispatch import send_call
from django_tasks.canvas.eager import run_eagerly, travelled
from django_tasks.conf import settings
from django_tasks.context import Request, current_request, enter, leave
from django_tasks.exceptions import OperationalError
from django_tasks.executor import TaskHooks
from django_tasks.messages import TaskMessage
from django_tasks.registry import registry
from django_tasks.result import AsyncResult, EagerResult
from django_tasks.tasks.attributes import refuse_attributes, refuse_limits, refuse_run
from django_tasks.tasks.inside import InsideRun
from django_tasks.tasks.options import CALL_DEFAULTS, Follows, FromSettings, argument_check
from django_tasks.tasks.retries import with_autoretry

if TYPE_CHECKING:
    from typing import Unpack

P = ParamSpec("P")
R = TypeVar("R")


class Task(InsideRun[R], TaskHooks, Generic[P, R]):
    """A task: the function to run, its options, and the ways to call it.

    ``@shared_task`` makes one of a function. For one of your own class, subclass it, write ``run``, and register an
    instance with ``app.register_task(MyTask())``; or give the class to the decorator as ``base=``. Options are
    attributes; those that are None or not set follow the settings.
    """

    OperationalError: ClassVar[type[OperationalError]] = OperationalError

    #: The project's app, ``django_tasks.app``.
    app: ClassVar[Any] = None
    #: Check arguments where the task is called.
    typing: bool = True
    #: Exceptions that mean: try again.
    autoretry_for: Sequence[type[BaseException]] = ()
    #: Exceptions that don't, although ``autoretry_for`` covers them.
    dont_autoretry_for: Sequence[type[BaseException]] = ()
    #: What an automatic retry gives to ``retry``: countdown, max_retries …
    retry_kwargs: Mapping[str, Any] = {}
    #: Wait longer before every automatic retry: True for 1, 2, 4 … seconds, or a factor.
    retry_backoff: bool | float = False
    #: Most seconds that ``retry_backoff`` waits.
    retry_backoff_max: int = 600
    #: Wait a random part of it, so that tasks that failed together don't return together.
    retry_jitter: bool = True
    #: Exceptions that are to be expected: logged without a traceback.
    throws: Sequence[type[BaseException]] = ()
    #: Keep a list of the tasks that this one sends.
    trail: bool = True
    #: Send events about this task, where the worker sends any.
    send_events: bool = True
    #: Longest text of a result in logs and events.
    resultrepr_maxsize: int = 1024

    queue: Any = None
    exchange: Any = None
    routing_key: str | None = None
    #: Larger runs sooner; None is TASK_DEFAULT_PRIORITY.
    priority: int | None = None
    expires: Expires = None
    compression: str | None = None

    serializer = FromSettings[str]("TASK_SERIALIZER")
    rate_limit = FromSettings["str | float | None"]("TASK_DEFAULT_RATE_LIMIT")
    time_limit = FromSettings["float | None"]("TASK_TIME_LIMIT")
    soft_time_limit = FromSettings["float | None"]("TASK_SOFT_TIME_LIMIT")
    track_started = FromSettings[bool]("TASK_TRACK_STARTED")
    acks_late = FromSettings[bool]("TASK_ACKS_LATE")
    acks_on_failure_or_timeout = FromSettings[bool]("TASK_ACKS_ON_FAILURE_OR_TIMEOUT")
    acks_on_failure = Follows("acks_on_failure_or_timeout")
    acks_on_timeout = Follows("acks_on_failure_or_timeout")
    reject_on_worker_lost = FromSettings[bool]("TASK_REJECT_ON_WORKER_LOST")
    ignore_result = FromSettings[bool]("TASK_IGNORE_RESULT")
    store_eager_result = FromSettings[bool]("TASK_STORE_EAGER_RESULT")
    store_errors_even_if_ignored = FromSettings[bool]("TASK_STORE_ERRORS_EVEN_IF_IGNORED")

    #: Whether ``run`` is ``async def``; known once the task is registered.
    is_async: bool = False
    #: Made of a function without ``bind=True``.
    is_plain_function: bool = False

    #: Called with a call's arguments: raises TypeError for those that ``run`` doesn't take.
    check_arguments: Callable[..., None] | None = None
    #: Turns pydantic models among a call's arguments into what messages carry.
    dump_models: Callable[[Any, Any], tuple[Any, Any]] | None = None
    #: The task's own options of calls, and those of its class of which they were made.
    _defaults: tuple[Any, dict[str, Any]] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in list(vars(cls).items()):
            # As in Celery, None means: as the settings say.
            if value is None and isinstance(vars(Task).get(name), FromSettings | Follows):
                delattr(cls, name)

    def __setattr__(self, name: str, value: Any) -> None:
        refuse_attributes(self.name, [(name, value)], Task, outcome="nothing was changed")
        object.__setattr__(self, name, value)
        self._forget(name)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        object.__setattr__(self, "_defaults", None)
        if name == "run" and self.check_arguments is not None:
            # A mock of a test, or its end.
            object.__setattr__(self, "is_async", self._is_coroutine())

    @property
    def call_target(self) -> Callable[..., Any]:
        """What the worker calls: ``run``, or ``__call__`` where a subclass has its own. A mock counts as soon as it is there."""
        return self.run if type(self).__call__ is _PLAIN_CALL else self.__call__

    def _is_coroutine(self) -> bool:
        own_call = type(self).__call__
        return iscoroutinefunction(self.run) or (own_call is not _PLAIN_CALL and iscoroutinefunction(own_call))

    def on_registered(self) -> None:
        """Work out once what every call and every run needs; the registry calls it. An override must call ``super()``."""
        own = [pair for holder in (self, *self._own_classes()) for pair in vars(holder).items()]
        refuse_attributes(self.name, own, Task)
        refuse_limits(self.name, self._own("soft_time_limit"), self._own("time_limit"))
        self.check_arguments = argument_check(self.run, self.name)
        if type(self).__call__ is _PLAIN_CALL:
            # One of a class's own may do without run(), or go through what it yields.
            refuse_run(self.name, self.run, Task)
        self.is_async = self._is_coroutine()
        run = self.run
        retried = with_autoretry(self, run, is_async=self.is_async)
        if retried is not run:
            self.run = retried

    def _own_classes(self) -> list[type[Any]]:
        classes = type(self).__mro__
        return list(classes[: classes.index(Task)])

    # ---- running it here

    if TYPE_CHECKING:
        #: The function that does the work.
        run: Callable[..., Any]
    else:

        def run(self, *args: Any, **kwargs: Any) -> Any:
            """Do the work; every task has its own."""
            raise NotImplementedError(f"task {self.name or type(self).__name__} has no run()")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, as a function. Nothing is sent, and ``self.request`` is no message's."""
        outer = current_request()
        if outer is not None and outer.definition is self:
            # The worker runs an overridden __call__ that came here by super(), or the task calls itself.
            return cast(R, self.run(*args, **kwargs))
        request = self._direct_request(outer, args, kwargs)
        if self.is_async:
            return cast(R, self._acall(request, args, kwargs))
        token = enter(request)
        try:
            return cast(R, self.run(*args, **kwargs))
        finally:
            leave(token)

    async def _acall(self, request: Request, args: Any, kwargs: Any) -> Any:
        token = enter(request)
        try:
            return await self.run(*args, **kwargs)
        finally:
            leave(token)

    def _direct_request(self, outer: Request | None, args: Any, kwargs: Any) -> Request:
        if outer is None:
            return Request(message=TaskMessage(id="", task=self.name, args=args, kwargs=kwargs), called_directly=True, definition=self)
        # What it sends belongs to the task around it.
        parent_id = outer.parent_id if outer.called_directly else outer.id
        message = TaskMessage(id="", task=self.name, args=args, kwargs=kwargs, root_id=outer.root_id, parent_id=parent_id)
        return Request(message=message, called_directly=True, definition=self, children=outer.children)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> EagerResult[R]:
        """Run the task here and wait for it, with its retries and links; what comes back is ready.

        ``throw=True`` (or TASK_EAGER_PROPAGATES) raises its exception.
        """
        throw = options.pop("throw", None)
        logging = {"loglevel": options.pop("loglevel", 0), "logfile": options.pop("logfile", None)}
        message = build_message(self.name, tuple(args or ()), dict(kwargs or {}), self.call_options(args, kwargs, options))
        return run_eagerly(self, message, throw=settings.TASK_EAGER_PROPAGATES if throw is None else throw, **logging)

    # ---- sending it

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task with these arguments. TypeError, here, if the function doesn't take them."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: "Unpack[CallOptions]"
    ) -> AsyncResult[R]:
        """Send the task: ``add.apply_async((2, 3), countdown=10, queue="slow")``.

        Inside a transaction the message leaves when it commits; ``on_commit=False`` sends it at once. Raises
        TypeError for wrong arguments and unknown options, ValueError for ``connection`` or ``producer`` of another broker,
        EncodeError for what a message can't carry, and OperationalError when the broker can't be reached.
        """
        args, kwargs = () if args is None else args, {} if kwargs is None else kwargs
        if self.typing and self.check_arguments is not None:
            self.check_arguments(*args, **kwargs)
        given = self.call_options(args, kwargs, options)
        if self.dump_models is not None:
            args, kwargs = self.dump_models(args, kwargs)
        if settings.TASK_ALWAYS_EAGER:
            args, kwargs = travelled(self, args, kwargs, given.get("serializer"))
            return cast("AsyncResult[R]", self.apply(args, kwargs, **given))
        return send_call(self.name, args, kwargs, given)

    @property
    def calls_are_alike(self) -> bool:
        """Whether calls that are given the same options differ in nothing but their arguments."""
        return self.dump_models is None and type(self).shadow_name is Task.shadow_name and type(self).apply_async is Task.apply_async

    def call_options(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's options: those given, over the task's own."""
        kept, of_class = self._defaults, _class_defaults(type(self))
        if kept is None or kept[0] != of_class:
            kept = of_class, {name: value for name in CALL_DEFAULTS if (value := self._own(name)) is not None}
            object.__setattr__(self, "_defaults", kept)
        defaults = kept[1]
        merged = {**defaults, **options}
        if merged.get("ignore_result") is None:
            merged["ignore_result"] = self.ignore_result
        if "shadow" not in options and type(self).shadow_name is not Task.shadow_name:
            merged["shadow"] = self.shadow_name(args, kwargs, merged)
        return merged

    def _own(self, name: str) -> Any:
        """Return the task's own value of an option: None where it follows the settings."""
        for holder in (self, *type(self).__mro__):
            if name in vars(holder):
                return None if isinstance(vars(holder)[name], FromSettings) else getattr(self, name)
        return None

    def routing_options(self) -> dict[str, Any]:
        """Return where the task wants its messages: queue, exchange, routing key and priority, as far as it says."""
        return {name: value for name in CALL_DEFAULTS[:4] if (value := self._own(name)) is not None}

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task when the current transaction commits; at once where there is none."""
        return self.apply_async(args, kwargs, on_commit=True)

    def apply_async_on_commit(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: "Unpack[CallOptions]"
    ) -> AsyncResult[R]:
        """``apply_async`` when the current transaction commits; at once where there is none."""
        options["on_commit"] = True
        return self.apply_async(args, kwargs, **options)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """``delay`` for async code."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: "Unpack[CallOptions]"
    ) -> AsyncResult[R]:
        """``apply_async`` for async code: it runs in the thread of Django's synchronous code, with its transaction."""
        return await sync_to_async(self.apply_async, thread_sensitive=True)(args, kwargs, **options)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[R]:  # noqa: N802  Celery's name
        """Return what stands for the result of the call with this id."""
        return AsyncResult(task_id, **kwargs)

    def shadow_name(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> str | None:
        """Override to show calls under another name in logs and events."""
        return None

    # ---- signatures

    def signature(self, args: Sequence[Any] | None = None, *starargs: Any, **starkwargs: Any) -> Signature[R]:
        """Return a signature: ``add.signature((2, 3), options={"queue": "slow"})``."""
        return Signature(self, args, *starargs, **starkwargs)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """Return a signature with these arguments; others may follow when it is called."""
        return Signature(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """Return a signature with exactly these arguments: results of earlier tasks are not passed on to it."""
        return Signature(self, args, kwargs, immutable=True)

    def __ror__(self, other: Any) -> Any:
        """``signature | task`` is a mistake for ``signature | task.s()``: TypeError says so."""
        raise TypeError(f"{other!r} | {self!r}: a workflow is made of signatures; did you mean {self.name}.s(...)?")

    def map(self, it: Iterable[Any]) -> xmap:
        """Return a signature that calls the task with each item, in one message."""
        return xmap(self.s(), it)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """Return a signature that calls the task with each item's elements, in one message."""
        return xstarmap(self.s(), it)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """Return a signature that calls the task with each item's elements, in messages of ``n`` items."""
        return chunks(self.s(), it, n)

    # ---- as a value

    if not TYPE_CHECKING:  # type checkers would take it for the name of the class

        @property
        def __name__(self) -> str:
            return type(self).__name__

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)

    def __repr__(self) -> str:
        return f"<@task: {self.name or type(self).__name__}>"


#: As it was written: a test may put a mock in its place.
_PLAIN_CALL: Final = Task.__call__
#: What a class says of where calls go, for the cost of one look. What follows the settings would take ten times as long.
_class_defaults: Final = attrgetter(*(name for name in CALL_DEFAULTS if not isinstance(vars(Task)[name], FromSettings)))


def _by_name(name: str) -> Any:
    """Return the task that a pickled one stands for."""
    return registry[name]
