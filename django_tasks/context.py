"""What a running task knows of itself: ``Request`` (Celery's ``self.request``), and which one runs here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final, Generic, TypeVar, overload

from django_tasks.clock import parse_iso
from django_tasks.log import set_task_lookup
from django_tasks.messages import NOTHING, Delivery, TaskMessage

V = TypeVar("V")


class Carried(Generic[V]):
    """A field of the request's message. Assigning gives this run another message; what was sent stays as it is."""

    def __init__(self, field: str) -> None:
        self.field = field

    @overload
    def __get__(self, request: None, owner: type[Any]) -> "Carried[V]": ...
    @overload
    def __get__(self, request: "Request", owner: type[Any]) -> V: ...
    def __get__(self, request: "Request | None", owner: type[Any]) -> "Carried[V] | V":
        if request is None:
            return self
        value: V = getattr(request.message, self.field)
        return value

    def __set__(self, request: "Request", value: V) -> None:
        changed: dict[str, Any] = {self.field: value}
        request.message = replace(request.message, **changed)


class Embedded(Generic[V]):
    """What follows the task, as wire signatures; None without any. ``self.request.chain = None`` ends a chain with this step."""

    def __init__(self, key: str) -> None:
        self.key = key

    @overload
    def __get__(self, request: None, owner: type[Any]) -> "Embedded[V]": ...
    @overload
    def __get__(self, request: "Request", owner: type[Any]) -> V | None: ...
    def __get__(self, request: "Request | None", owner: type[Any]) -> "Embedded[V] | V | None":
        return self if request is None else request.message.embed.get(self.key)

    def __set__(self, request: "Request", value: V | None) -> None:
        others = {key: kept for key, kept in request.message.embed.items() if key != self.key}
        request.message = replace(request.message, embed=others if value is None else {**others, self.key: value})


class _Open:
    """Gives requests a dictionary for whatever else a project assigns to them, and for what few runs ask for."""


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Request(_Open):
    """One run of one task: its message, and what only the worker knows.

    Attributes carry Celery's names; every header of the message is an attribute, too. They may be changed, and more be
    added, for the rest of the run. ``children`` gathers the wire tuples of what the task sends while it runs.
    """

    message: TaskMessage
    delivery: Delivery | None = None
    hostname: str = ""
    is_eager: bool = False
    called_directly: bool = False
    time_start: float | None = None
    worker_pid: int | None = None
    children: list[Any] = field(default_factory=list)
    #: The task object that runs; ``task`` is its name, as in Celery.
    definition: Any = None
    #: Messages that leave with the outcome: ``retry(throw=False)``, ``replace``.
    pending: list[TaskMessage] = field(default_factory=list)
    #: Chords that must be expected before those leave.
    opening: Sequence[Any] = ()
    #: How many workflows this run has sent whose ids follow from its own.
    workflows: int = 0
    #: It was told to end (``revoke(terminate=True)``): what it raises from then on is no failure of its own.
    terminated: bool = False
    #: The signal by which it was told.
    terminated_by: int | None = None
    #: The task has stored a state of its own, which STARTED must not replace.
    stored_own_state: bool = False
    #: When the task last stored its progress (``clock.monotonic``).
    progress_noted: float = float("-inf")

    #: Name of the task.
    task = name = task_name = Carried[str]("task")
    #: How often the task was retried so far.
    retries = Carried[int]("retries")
    #: Id of the first task of the workflow that this one belongs to.
    root_id = Carried["str | None"]("root_id")
    #: Id of the task that sent this one.
    parent_id = Carried["str | None"]("parent_id")
    #: Id of the group this task is a member of.
    group = taskset = Carried["str | None"]("group")
    #: Position in that group.
    group_index = Carried["int | None"]("group_index")
    #: Wire signature of the body of the chord this task is a part of.
    chord = Embedded[Mapping[str, Any]]("chord")
    #: Wire signatures of the steps that follow; the next one is the last element.
    chain = Embedded[Sequence[Mapping[str, Any]]]("chain")
    #: Wire signatures to call with the result.
    callbacks = Embedded[Sequence[Mapping[str, Any]]]("callbacks")
    #: Wire signatures to call when the task fails.
    errbacks = Embedded[Sequence[Mapping[str, Any]]]("errbacks")
    #: Where a caller over rpc waits for the result.
    reply_to = Carried["str | None"]("reply_to")
    #: Whether the result is not to be kept; None leaves it to the task.
    ignore_result = Carried["bool | None"]("ignore_result")
    #: How often the task has replaced itself.
    replaced_task_nesting = Carried[int]("replaced_task_nesting")
    #: The process that sent the message: ``gen<pid>@<host>``.
    origin = Carried["str | None"]("origin")
    #: Another name to show in logs and events.
    shadow = Carried["str | None"]("shadow")
    #: The positional arguments as text, for logs and events.
    argsrepr = Carried["str | None"]("argsrepr")
    #: The keyword arguments as text, for logs and events.
    kwargsrepr = Carried["str | None"]("kwargsrepr")
    #: Names of the headers that are stamps.
    stamped_headers = Carried["Sequence[str] | None"]("stamped_headers")
    #: Times are UTC.
    utc = True
    #: Celery's names for where the worker logs, which it gives to tasks that run eagerly only.
    loglevel: ClassVar[int | None] = None
    logfile: ClassVar[str | None] = None

    @property
    def id(self) -> str | None:
        """The task's id; None when the function was called directly."""
        return self.message.id or None

    @id.setter
    def id(self, value: str | None) -> None:
        self.message = replace(self.message, id=value or "")

    task_id = id

    @property
    def args(self) -> Sequence[Any] | None:
        """Positional arguments; None outside of a run."""
        return None if self._is_empty() else self.message.args

    @args.setter
    def args(self, value: Sequence[Any] | None) -> None:
        self.message = replace(self.message, args=value or ())

    @property
    def kwargs(self) -> Mapping[str, Any] | None:
        """Keyword arguments; None outside of a run."""
        return None if self._is_empty() else self.message.kwargs

    @kwargs.setter
    def kwargs(self, value: Mapping[str, Any] | None) -> None:
        self.message = replace(self.message, kwargs=value or {})

    def _is_empty(self) -> bool:
        # A call has a dictionary of keyword arguments, empty or not.
        return self.called_directly and self.message.kwargs is NOTHING and not self.message.args

    @property
    def eta(self) -> str | None:
        """The time before which the task was not to run, as ISO 8601."""
        return _iso(self.message.eta)

    @eta.setter
    def eta(self, value: datetime | str | None) -> None:
        self.message = replace(self.message, eta=_moment(value))

    @property
    def expires(self) -> str | None:
        """The time after which the task is not to run, as ISO 8601."""
        return _iso(self.message.expires)

    @expires.setter
    def expires(self, value: datetime | str | None) -> None:
        self.message = replace(self.message, expires=_moment(value))

    @property
    def time_limit(self) -> float | None:
        """Seconds after which the task's process is killed: the call's, else the task's or the setting's; None for no limit."""
        return self._limit("time_limit")

    @time_limit.setter
    def time_limit(self, value: float | None) -> None:
        self.message = replace(self.message, time_limit=value)

    @property
    def soft_time_limit(self) -> float | None:
        """Seconds after which SoftTimeLimitExceeded is raised in the task, found like ``time_limit``."""
        return self._limit("soft_time_limit")

    @soft_time_limit.setter
    def soft_time_limit(self, value: float | None) -> None:
        self.message = replace(self.message, soft_time_limit=value)

    def _limit(self, name: str) -> float | None:
        own: float | None = getattr(self.message, name)
        if own is None and not self.called_directly:
            own = getattr(self.definition, name, None)
        return own or None

    @property
    def timelimit(self) -> list[float | None]:
        """Seconds: ``[time_limit, soft_time_limit]``."""
        return [self.time_limit, self.soft_time_limit]

    @timelimit.setter
    def timelimit(self, value: Sequence[float | None] | None) -> None:
        hard, soft = value or (None, None)
        self.message = replace(self.message, time_limit=hard, soft_time_limit=soft)

    @property
    def correlation_id(self) -> str | None:
        """The task's id, under AMQP's name."""
        return self.properties.get("correlation_id") or self.id

    @correlation_id.setter
    def correlation_id(self, value: str | None) -> None:
        self.properties = {**self.properties, "correlation_id": value}

    @property
    def stamps(self) -> Mapping[str, Any] | None:
        """The stamps; None without any."""
        return self.message.stamps or None

    @stamps.setter
    def stamps(self, value: Mapping[str, Any] | None) -> None:
        self.message = replace(self.message, stamps=value or NOTHING)

    @property
    def headers(self) -> Mapping[str, Any] | None:
        """The caller's own headers; None without any."""
        return self.message.headers or None

    @headers.setter
    def headers(self, value: Mapping[str, Any] | None) -> None:
        self.message = replace(self.message, headers=value or NOTHING)

    @property
    def properties(self) -> Mapping[str, Any]:
        """The envelope's properties, as they came."""
        own: Mapping[str, Any] | None = self.__dict__.get("_properties")
        if own is not None:
            return own
        return dict(self.delivery.envelope.properties) if self.delivery else {}

    @properties.setter
    def properties(self, value: Mapping[str, Any] | None) -> None:
        self.__dict__["_properties"] = value

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Exchange, routing key, priority and whether the message was handed out before."""
        info: dict[str, Any] | None = self.__dict__.get("_delivery_info")
        if info is None:
            message = self.message
            info = self.__dict__["_delivery_info"] = {
                "exchange": message.exchange or "",
                "routing_key": message.routing_key or message.queue,
                "priority": message.priority,
                "redelivered": bool(self.delivery and self.delivery.deliveries > 1),
            }
            if self.is_eager:
                info["is_eager"] = True
        return info

    @delivery_info.setter
    def delivery_info(self, value: dict[str, Any] | None) -> None:
        self.__dict__["_delivery_info"] = value

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute or header, or ``default``."""
        return getattr(self, name, default)

    def update(self, *values: Any, **more: Any) -> None:
        """Assign several attributes: ``self.request.update(retries=3)``, or those of a mapping."""
        for name, value in dict(*values, **more).items():
            setattr(self, name, value)

    def clear(self) -> None:
        """Forget all that the message said, as before a call."""
        self.message = TaskMessage(id="", task=self.task)
        self.__dict__.clear()

    def __getattr__(self, name: str) -> Any:
        # Reached for names that are no field or property: the message's other headers.
        if not name.startswith("__"):
            try:
                return self.message.headers[name]
            except KeyError:
                pass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}, and the message no such header")

    def __repr__(self) -> str:
        shown = {name: value for name in _SHOWN if (value := getattr(self, name))}
        # Texts that the caller gave stand for what they hide.
        shown |= {name: text for name, text in (("args", self.argsrepr), ("kwargs", self.kwargsrepr)) if text is not None}
        return f"<Request: {shown!r}>"


#: What a request's repr shows, as far as there is something.
_SHOWN: Final = (
    "id", "task", "args", "kwargs", "retries", "eta", "expires", "root_id", "parent_id", "group", "group_index", "chord", "chain",
    "callbacks", "errbacks", "reply_to", "origin", "hostname", "headers", "delivery_info", "is_eager", "called_directly",
)  # fmt: skip


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(value: datetime | str | None) -> datetime | None:
    return parse_iso(value) if isinstance(value, str) else value


_running: ContextVar[Request | None] = ContextVar("django_tasks_request", default=None)

#: The request that runs in this thread or coroutine, or None.
current_request = _running.get
#: ``token = enter(request)`` … ``leave(token)``: the executor's way in and out, without a context manager's cost.
enter = _running.set
leave = _running.reset


@contextmanager
def running(request: Request | None) -> Iterator[None]:
    """Make ``request`` the current one inside the block; None hides the one outside."""
    token = enter(request)
    try:
        yield
    finally:
        leave(token)


class CurrentTask:
    """``current_task``: stands for the task that runs here; false, and without attributes, when none does."""

    def _task(self) -> Any:
        request = current_request()
        return None if request is None else request.definition

    def __bool__(self) -> bool:
        return self._task() is not None

    def __getattr__(self, name: str) -> Any:
        task = self._task()
        if task is None:
            raise AttributeError(f"no task runs here, so current_task has no {name!r}")
        return getattr(task, name)

    def __eq__(self, other: object) -> bool:
        return self._task() is other or self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<current task: {self._task()!r}>"


current_task = CurrentTask()


def _named_for_logs() -> tuple[str, str] | None:
    request = current_request()
    return None if request is None or request.called_directly else (request.message.id, request.message.task)


set_task_lookup(_named_for_logs)
