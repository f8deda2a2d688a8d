"""Every setting: its default, its type, its range, and what it does. Source of the checks and of the reference page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final


def as_is(value: Any) -> Any:
    """Keep a value unchanged."""
    return value


def seconds(value: Any) -> Any:
    """Turn a timedelta into seconds; keep numbers and None."""
    return value.total_seconds() if isinstance(value, timedelta) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting.

    ``types`` are what a project may write; ``choices``, ``at_least`` and ``at_most`` narrow it. ``clean`` turns it
    into what the code uses. ``effective=False`` marks a Celery setting that is accepted and changes nothing here.
    """

    default: Any
    types: tuple[type, ...]
    doc: str
    choices: tuple[Any, ...] | None = None
    at_least: float | None = None
    at_most: float | None = None
    clean: Callable[[Any], Any] = as_is
    effective: bool = True


NONE: Final = type(None)
NUMBER: Final = (int, float)
DURATION: Final = (int, float, timedelta, NONE)


def _text(default: str | None, doc: str, **more: Any) -> Option:
    return Option(default=default, types=(str,) if default is not None else (str, NONE), doc=doc, **more)


def _flag(default: bool, doc: str) -> Option:  # noqa: FBT001  a flag's default is a flag
    return Option(default=default, types=(bool,), doc=doc)


def _count(default: int | None, doc: str, *, at_least: float = 0, **more: Any) -> Option:
    return Option(default=default, types=(int,) if default is not None else (int, NONE), doc=doc, at_least=at_least, **more)


def _time(default: float | None, doc: str, *, at_least: float = 0) -> Option:
    return Option(default=default, types=DURATION, doc=doc, at_least=at_least, clean=seconds)


OPTIONS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        "BROKER_URL": Option(default="db://default", types=(str, list, tuple), doc="Where messages wait; several URLs are a fail-over list."),
        "BROKER_TRANSPORT_OPTIONS": Option(default={}, types=(dict,), doc="Options of the broker's transport."),
        "RESULT_BACKEND": Option(default="db://default", types=(str, NONE), doc="Where results are kept."),
        "RESULT_EXPIRES": _time(86400.0, "Seconds after which a result is deleted; None keeps results for ever."),
        "RESULT_EXTENDED": _flag(True, "Keep name, arguments, worker and queue with the result."),
        "RESULT_SERIALIZER": _text("json", "Serializer of results."),
        "RESULT_COMPRESSION": _text(None, "Compression of results."),
        "RESULT_ACCEPT_CONTENT": Option(default=None, types=(list, tuple, set, NONE), doc="Content types accepted in results; None means ACCEPT_CONTENT."),
        "ACCEPT_CONTENT": Option(default=["json"], types=(list, tuple, set), doc="Content types that are accepted in messages."),
        "TASK_SERIALIZER": _text("json", "Serializer of messages."),
        "TASK_COMPRESSION": _text(None, "Compression of messages: gzip, bzip2, zstd and what else kombu has."),
        "TASK_DEFAULT_QUEUE": _text("default", "The queue of tasks that are routed nowhere else."),
        "TASK_DEFAULT_EXCHANGE": _text(None, "Exchange of the default queue; None means its name."),
        "TASK_DEFAULT_EXCHANGE_TYPE": _text("direct", "Type of the default exchange."),
        "TASK_DEFAULT_ROUTING_KEY": _text(None, "Routing key of the default queue; None means its name."),
        "TASK_DEFAULT_PRIORITY": _count(0, "Priority of calls that name none: larger runs sooner.", at_least=-100, at_most=255),
        "TASK_QUEUES": Option(default=None, types=(list, tuple, dict, NONE), doc="The queues a worker consumes: names, or kombu Queue objects."),
        "TASK_ROUTES": Option(default=None, types=(dict, list, tuple, str, NONE), doc="Name patterns to routes, or functions that choose one."),
        "TASK_CREATE_MISSING_QUEUES": _flag(True, "Allow queues that TASK_QUEUES does not list."),
        "TASK_ACKS_LATE": _flag(True, "Acknowledge after the run: at least once. False: before it, at most once."),
        "TASK_ACKS_ON_FAILURE_OR_TIMEOUT": _flag(True, "Acknowledge tasks that failed or timed out, too."),
        "TASK_REJECT_ON_WORKER_LOST": _flag(True, "Give a task back when the process that ran it died."),
        "TASK_MAX_DELIVERIES": _count(3, "How often a message whose worker died is handed out before it becomes a dead letter.", at_least=1),
        "UNKNOWN_TASK_GRACE": _time(0.0, "Seconds for which a task that no worker knows waits for one that does, before it becomes a dead letter."),
        "TASK_TRACK_STARTED": _flag(True, "Record the state STARTED for tasks that run long enough to be seen."),
        "TASK_IGNORE_RESULT": _flag(False, "Keep no results, unless a task says otherwise."),
        "TASK_STORE_ERRORS_EVEN_IF_IGNORED": _flag(False, "Keep failures of tasks whose results are ignored."),
        "TASK_ALWAYS_EAGER": _flag(False, "Run tasks in the caller's process at once, without a broker."),
        "TASK_EAGER_PROPAGATES": _flag(False, "Raise a task's exception at the caller in eager mode."),
        "TASK_STORE_EAGER_RESULT": _flag(False, "Keep results of eager tasks in the result backend."),
        "TASK_PUBLISH_ON_COMMIT": _flag(True, "Inside a transaction, publish when it commits, and never if it rolls back."),
        "TASK_PUBLISH_RETRY": _flag(True, "Try again when publishing fails."),
        "TASK_PUBLISH_RETRY_POLICY": Option(
            default={"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
            types=(dict,),
            doc="How publishing is tried again (seconds).",
        ),
        "TASK_TIME_LIMIT": _time(None, "Seconds after which a task's process is killed."),
        "TASK_SOFT_TIME_LIMIT": _time(None, "Seconds after which SoftTimeLimitExceeded is raised in the task."),
        "TASK_DEFAULT_RATE_LIMIT": Option(default=None, types=(str, int, float, NONE), doc="Rate limit of tasks that have none: 10/s, 10/m, 10/h."),
        "TASK_SEND_SENT_EVENT": _flag(False, "Send a task-sent event for every published task."),
        "TASK_INHERIT_PARENT_PRIORITY": _flag(False, "Give tasks sent from inside a task its priority."),
        "TASK_PROTOCOL": Option(default=2, types=(int,), choices=(2,), doc="Version of Celery's message protocol that is sent."),
        "WORKER_CONCURRENCY": _count(None, "How many tasks a worker runs at once; None means one a processor.", at_least=1),
        "WORKER_POOL": _text("prefork", "How a worker runs tasks.", choices=("prefork", "threads", "asyncio", "solo")),
        "WORKER_PREFETCH_MULTIPLIER": _count(0, "Messages held a slot; 0 holds what can be done in WORKER_PREFETCH_WINDOW."),
        "WORKER_PREFETCH_WINDOW": _time(0.1, "Seconds of work that a worker process claims in advance."),
        "WORKER_LEASE": _time(60.0, "Seconds after which what a silent worker holds is given to others.", at_least=1),
        "WORKER_MAX_TASKS_PER_CHILD": _count(None, "Tasks after which a worker process is replaced.", at_least=1),
        "WORKER_MAX_MEMORY_PER_CHILD": _count(None, "Resident memory in KiB after which a worker process is replaced.", at_least=1),
        "WORKER_SEND_TASK_EVENTS": _flag(False, "Send task events, as -E does."),
        "WORKER_SHUTDOWN_TIMEOUT": _time(None, "Seconds a warm shutdown waits for running tasks before it turns cold; None waits for ever."),
        "WORKER_HEARTBEAT": _time(5.0, "Seconds between a worker's signs of life.", at_least=0.1),
        "WORKER_HIJACK_ROOT_LOGGER": _flag(False, "Accepted from Celery; Django's LOGGING is left alone."),
        "BEAT_SCHEDULE": Option(default={}, types=(dict,), doc="Periodic tasks from the settings, beside those of the admin."),
        "BEAT_MAX_LOOP_INTERVAL": _time(1.0, "Most seconds between two looks at the schedule.", at_least=0.05),
        "BEAT_TERM": _time(10.0, "Seconds for which one of several beats leads.", at_least=1),
        "TIMEZONE": _text(None, "Time zone of schedules; None means Django's TIME_ZONE."),
        "ENABLE_UTC": _flag(True, "Times in messages are UTC, always."),
        "MIDDLEWARE": Option(default=[], types=(list, tuple), doc="Dotted paths of Middleware classes; the first is the outermost."),
        "IMPORTS": Option(default=(), types=(list, tuple), doc="More modules with tasks to import."),
        "SQLITE_TUNING": _flag(True, "Give SQLite databases WAL, a busy timeout and immediate transactions, unless the project sets them."),
    }
)
