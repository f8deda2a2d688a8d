"""What a running task knows of itself: ``Request`` (Celery's ``self.request``), and which one runs here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django_tasks.log import set_task_lookup
from django_tasks.messages import Delivery, TaskMessage


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One run of one task: its message, and what only the worker knows.

    Attributes carry Celery's names; every header of the message is an attribute, too. ``children`` gathers
    the wire tuples of what the task sends while it runs.
    """

    message: TaskMessage
    delivery: Delivery | None = None
    hostname: str = ""
    is_eager: bool = False
    called_directly: bool = False
    time_start: float | None = None
    worker_pid: int | None = None
    children: list[Any] = field(default_factory=list)
    #: The task object that runs; set by the executor.
    task: Any = None
    #: Messages that leave with the outcome: ``retry(throw=False)``, ``replace``.
    pending: list[TaskMessage] = field(default_factory=list)
    #: The task has stored a state of its own, which STARTED must not replace.
    stored_own_state: bool = False
    #: When the task last stored its progress (``clock.monotonic``).
    progress_noted: float = float("-inf")

    @property
    def id(self) -> str | None:
        """The task's id; None when the function was called directly."""
        return None if self.called_directly else self.message.id

    task_id = id

    @property
    def args(self) -> Sequence[Any] | None:
        """Positional arguments; None when called directly."""
        return None if self.called_directly else self.message.args

    @property
    def kwargs(self) -> Mapping[str, Any] | None:
        """Keyword arguments; None when called directly."""
        return None if self.called_directly else self.message.kwargs

    @property
    def retries(self) -> int:
        """How often the task was retried so far."""
        return self.message.retries

    @property
    def eta(self) -> str | None:
        """The time before which the task was not to run, as ISO 8601."""
        return _iso(self.message.eta)

    @property
    def expires(self) -> str | None:
        """The time after which the task is not to run, as ISO 8601."""
        return _iso(self.message.expires)

    @property
    def root_id(self) -> str | None:
        """Id of the first task of the workflow that this one belongs to."""
        return self.message.root_id

    @property
    def parent_id(self) -> str | None:
        """Id of the task that sent this one."""
        return self.message.parent_id

    @property
    def group(self) -> str | None:
        """Id of the group this task is a member of."""
        return self.message.group

    @property
    def group_index(self) -> int | None:
        """Position in that group."""
        return self.message.group_index

    @property
    def chord(self) -> Mapping[str, Any] | None:
        """Wire signature of the body of the chord this task is a part of."""
        return self.message.embed.get("chord")

    @property
    def chain(self) -> Sequence[Mapping[str, Any]] | None:
        """Wire signatures of the steps that follow; the next one is the last element."""
        return self.message.embed.get("chain")

    @property
    def callbacks(self) -> Sequence[Mapping[str, Any]] | None:
        """Wire signatures to call with the result."""
        return self.message.embed.get("callbacks")

    @property
    def errbacks(self) -> Sequence[Mapping[str, Any]] | None:
        """Wire signatures to call when the task fails."""
        return self.message.embed.get("errbacks")

    @property
    def timelimit(self) -> list[float | None]:
        """Seconds: ``[hard, soft]``."""
        return [self.message.time_limit, self.message.soft_time_limit]

    @property
    def correlation_id(self) -> str | None:
        """The task's id, under AMQP's name."""
        return self.id

    @property
    def reply_to(self) -> str | None:
        """Where a caller over rpc waits for the result."""
        return self.message.reply_to

    @property
    def ignore_result(self) -> bool:
        """Whether the result is not to be kept."""
        return self.message.ignore_result

    @property
    def replaced_task_nesting(self) -> int:
        """How often the task has replaced itself."""
        return self.message.replaced_task_nesting

    @property
    def origin(self) -> str | None:
        """The process that sent the message: ``gen<pid>@<host>``."""
        return self.message.origin

    @property
    def shadow(self) -> str | None:
        """Another name to show in logs and events."""
        return self.message.shadow

    @property
    def argsrepr(self) -> str | None:
        """The positional arguments as text, for logs and events."""
        return self.message.argsrepr

    @property
    def kwargsrepr(self) -> str | None:
        """The keyword arguments as text, for logs and events."""
        return self.message.kwargsrepr

    @property
    def stamped_headers(self) -> Sequence[str] | None:
        """Names of the headers that are stamps."""
        return self.message.stamped_headers

    @property
    def stamps(self) -> Mapping[str, Any]:
        """The stamps."""
        return self.message.stamps

    @property
    def headers(self) -> Mapping[str, Any] | None:
        """The caller's own headers; None without any."""
        return self.message.headers or None

    @property
    def properties(self) -> Mapping[str, Any]:
        """The envelope's properties, as they came."""
        return self.delivery.envelope.properties if self.delivery else {}

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Exchange, routing key, priority and whether the message was handed out before."""
        message = self.message
        return {
            "exchange": message.exchange or "",
            "routing_key": message.routing_key or message.queue,
            "priority": message.priority,
            "redelivered": bool(self.delivery and self.delivery.deliveries > 1),
        }

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute or header, or ``default``."""
        return getattr(self, name, default)

    def __getattr__(self, name: str) -> Any:
        # Reached for names that are no field or property: the message's other headers.
        if not name.startswith("__"):
            try:
                return self.message.headers[name]
            except KeyError:
                pass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}, and the message no such header")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


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
        return None if request is None else request.task

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
