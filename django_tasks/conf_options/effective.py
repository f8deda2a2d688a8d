"""The settings that have an effect."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from django_tasks.conf_options.forms import NONE, Option, count, duration, flag, text

EFFECTIVE: Final[Mapping[str, Option]] = MappingProxyType(
    {
        "BROKER_URL": Option(
            default="db://default", types=(str, list, tuple), doc="Where messages wait; several URLs are a fail-over list."
        ),
        "RESULT_BACKEND": Option(default="db://default", types=(str, NONE), doc="Where results are kept."),
        "RESULT_EXPIRES": duration(86400.0, "Seconds after which a result is deleted; None keeps results for ever."),
        "RESULT_FAILURE_EXPIRES": duration(
            30 * 86400.0,
            "Seconds after which a FAILURE is deleted, never sooner than RESULT_EXPIRES; None: as that says; 0 keeps failures for ever.",
        ),
        "DEAD_LETTER_EXPIRES": duration(None, "Seconds after which a dead letter is deleted; None keeps dead letters for ever."),
        "RESULT_EXTENDED": flag(True, "Keep name, arguments, worker and queue with the result."),
        "RESULT_SERIALIZER": text("json", "Serializer of results."),
        "RESULT_ACCEPT_CONTENT": Option(
            default=None, types=(list, tuple, set, NONE), doc="Content types accepted in results; None means ACCEPT_CONTENT."
        ),
        "RESULT_EXCEPTION_MODULES": Option(
            default=(),
            types=(list, tuple, set),
            doc="Modules and packages from which the class of a stored exception may be imported where it isn't yet.",
        ),
        "ACCEPT_CONTENT": Option(default=["json"], types=(list, tuple, set), doc="Content types that are accepted in messages."),
        "TASK_SERIALIZER": text("json", "Serializer of messages."),
        "TASK_COMPRESSION": text(None, "Compression of messages: gzip, bzip2, zstd and what else kombu has."),
        "TASK_DEFAULT_QUEUE": text("default", "The queue of tasks that are routed nowhere else."),
        "TASK_DEFAULT_EXCHANGE": text(None, "Exchange of the default queue; None means its name."),
        "TASK_DEFAULT_EXCHANGE_TYPE": text("direct", "Type of the default exchange."),
        "TASK_DEFAULT_ROUTING_KEY": text(None, "Routing key of the default queue; None means its name."),
        "TASK_DEFAULT_PRIORITY": count(0, "Priority of calls that name none: larger runs sooner.", at_least=-100, at_most=255),
        "TASK_QUEUES": Option(
            default=None, types=(list, tuple, dict, NONE), doc="The queues a worker consumes: names, or kombu Queue objects."
        ),
        "TASK_ROUTES": Option(
            default=None, types=(dict, list, tuple, str, NONE), doc="Name patterns to routes, or functions that choose one."
        ),
        "TASK_CREATE_MISSING_QUEUES": flag(True, "Allow queues that TASK_QUEUES does not list."),
        "TASK_ACKS_LATE": flag(True, "Acknowledge after the run: at least once. False: before it, at most once."),
        "TASK_ACKS_ON_FAILURE_OR_TIMEOUT": flag(True, "Acknowledge tasks that failed or timed out, too."),
        "TASK_REJECT_ON_WORKER_LOST": flag(True, "Give a task back when the process that ran it died."),
        "TASK_MAX_DELIVERIES": count(3, "How often a message whose worker died is handed out before it becomes a dead letter.", at_least=1),
        "UNKNOWN_TASK_GRACE": duration(
            10.0, "Seconds for which a task that no worker knows waits for one that does, before it becomes a dead letter."
        ),
        "TASK_TRACK_STARTED": flag(True, "Record the state STARTED for tasks that run long enough to be seen."),
        "TASK_IGNORE_RESULT": flag(False, "Keep no results, unless a task says otherwise."),
        "TASK_STORE_ERRORS_EVEN_IF_IGNORED": flag(False, "Keep failures of tasks whose results are ignored."),
        "TASK_ALWAYS_EAGER": flag(False, "Run tasks in the caller's process at once, without a broker."),
        "TASK_EAGER_PROPAGATES": flag(False, "Raise a task's exception at the caller in eager mode."),
        "TASK_STORE_EAGER_RESULT": flag(False, "Keep results of eager tasks in the result backend."),
        "TASK_PUBLISH_ON_COMMIT": flag(True, "Inside a transaction, publish when it commits, and never if it rolls back."),
        "TASK_PUBLISH_RETRY": flag(True, "Try again when publishing fails."),
        "TASK_PUBLISH_RETRY_POLICY": Option(
            default={"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
            types=(dict,),
            doc="How publishing is tried again (seconds).",
        ),
        "TASK_TIME_LIMIT": duration(None, "Seconds after which a task's process is killed."),
        "TASK_SOFT_TIME_LIMIT": duration(None, "Seconds after which SoftTimeLimitExceeded is raised in the task."),
        "TASK_DEFAULT_RATE_LIMIT": Option(
            default=None, types=(str, int, float, NONE), doc="Rate limit of tasks that have none: 10/s, 10/m, 10/h."
        ),
        "TASK_MODEL_REFERENCES": flag(
            False, "Let model instances be arguments: a reference travels, and the worker loads the row as it is then."
        ),
        "TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER": flag(False, "Link error callbacks of a chord to the parts of its header, too."),
        "TASK_INHERIT_PARENT_PRIORITY": flag(False, "Give tasks sent from inside a task its priority."),
        "TASK_PROTOCOL": Option(default=2, types=(int,), choices=(2,), doc="Version of Celery's message protocol that is sent."),
        "WORKER_CONCURRENCY": count(None, "How many tasks a worker runs at once; None means one a processor.", at_least=1),
        "WORKER_POOL": text("prefork", "How a worker runs tasks.", choices=("prefork", "threads", "asyncio", "solo")),
        "WORKER_PREFETCH_MULTIPLIER": count(0, "Messages held a slot; 0 holds what can be done in WORKER_PREFETCH_WINDOW."),
        "WORKER_PREFETCH_WINDOW": duration(0.1, "Seconds of work that a worker process claims in advance."),
        "WORKER_LEASE": duration(60.0, "Seconds after which what a silent worker holds is given to others.", at_least=1),
        "WORKER_PROC_ALIVE_TIMEOUT": duration(
            60.0,
            "Seconds that a worker process has, from its start until it asks the broker for the first time; then it is replaced.",
            at_least=1,
        ),
        "WORKER_MAX_TASKS_PER_CHILD": count(None, "Tasks after which a worker process is replaced.", at_least=1),
        "WORKER_MAX_MEMORY_PER_CHILD": count(None, "Resident memory in KiB after which a worker process is replaced.", at_least=1),
        "WORKER_SEND_TASK_EVENTS": flag(False, "Tell monitors what happens to tasks, as -E does."),
        "WORKER_LOG_TASKS": flag(True, "Log one line when a task starts and one when it succeeds, at level INFO (-l INFO)."),
        "TASK_SEND_SENT_EVENT": flag(False, "Tell monitors of every message that is sent, by the event task-sent."),
        "WORKER_SHUTDOWN_TIMEOUT": duration(
            None, "Seconds a warm shutdown waits for running tasks before it turns cold; None waits for ever."
        ),
        "WORKER_HEARTBEAT": duration(5.0, "Seconds between a worker's signs of life.", at_least=0.1),
        "BEAT_SCHEDULE": Option(default={}, types=(dict,), doc="Periodic tasks from the settings, beside those of the admin."),
        "BEAT_MAX_LOOP_INTERVAL": duration(1.0, "Most seconds between two looks at the schedule.", at_least=0.05),
        "BEAT_CRON_STARTING_DEADLINE": duration(
            None, "Seconds for which a missed run of a crontab is made up for, once; None: however long ago it was due."
        ),
        "BEAT_TERM": duration(10.0, "Seconds for which one of several beats leads.", at_least=1),
        "TIMEZONE": text(None, "Time zone of schedules; None means Django's TIME_ZONE."),
        "MIDDLEWARE": Option(default=[], types=(list, tuple), doc="Dotted paths of Middleware classes; the first is the outermost."),
        "IMPORTS": Option(default=(), types=(list, tuple), doc="More modules with tasks to import."),
        "INCLUDE": Option(default=(), types=(list, tuple), doc="Celery's other name of IMPORTS: both count."),
        "SQLITE_TUNING": flag(True, "Give SQLite databases WAL, a busy timeout and immediate transactions, unless the project sets them."),
    }
)
