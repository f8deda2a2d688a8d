"""Celery's settings that are accepted and change nothing here, each with what takes its place.

They are known so that a project moves over with its settings as they are, and the system checks say which of them it
can drop.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from django_tasks.conf_options.forms import Option

_TRANSPORT: Final = "Of Celery's consumer; ours renews leases, keeps connections alive and counts prefetched messages by itself."
_REMOTE: Final = "Of remote control and events over a message broker, which this release does not have yet."
_LOGGING: Final = "Django's LOGGING says how records look; every record has task_id and task_name."
_CHILDREN: Final = "Of Celery's process pool; workers here are built in another way."

#: What to say of a setting, and Celery's default of each setting of which it is to be said.
_GROUPS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    (
        _TRANSPORT,
        {
            "BROKER_CHANNEL_ERROR_RETRY": False,
            "BROKER_HEARTBEAT_CHECKRATE": 3.0,
            "WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS": False,
            "WORKER_DETECT_QUORUM_QUEUES": True,
            "WORKER_ENABLE_PREFETCH_COUNT_REDUCTION": True,
        },
    ),
    (
        "Put it into BROKER_URL.",
        dict.fromkeys(("BROKER_HOST", "BROKER_PASSWORD", "BROKER_PORT", "BROKER_TRANSPORT", "BROKER_USER", "BROKER_VHOST")),
    ),
    ("Use BROKER_URL: there is one broker for reading and writing.", dict.fromkeys(("BROKER_READ_URL", "BROKER_WRITE_URL"))),
    (
        "Put it into RESULT_BACKEND, a URL.",
        dict.fromkeys(
            ("CACHE_BACKEND", "DATABASE_URL", "REDIS_DB", "REDIS_HOST", "REDIS_PASSWORD", "REDIS_PORT", "REDIS_USERNAME"),
        ),
    ),
    ("Celery itself reads CASSANDRA_SECURE_BUNDLE_PATH.", {"CASSANDRA_BUNDLE_PATH": None}),
    ("A read from Redis that timed out is tried again by what waits for it.", {"REDIS_RETRY_ON_TIMEOUT": False}),
    (
        "Results of rpc:// go straight to the caller's queue, as Celery sends them.",
        {"RESULT_EXCHANGE": "celeryresults", "RESULT_EXCHANGE_TYPE": "direct"},
    ),
    (
        "A backend that can't be reached is tried again by what waits for it; there is nothing to set.",
        {
            "RESULT_BACKEND_ALWAYS_RETRY": False,
            "RESULT_BACKEND_BASE_SLEEP_BETWEEN_RETRIES_MS": 10,
            "RESULT_BACKEND_MAX_RETRIES": float("inf"),
            "RESULT_BACKEND_MAX_SLEEP_BETWEEN_RETRIES_MS": 10000,
        },
    ),
    ("Results are kept as they are, so that they can be looked at.", {"RESULT_COMPRESSION": None}),
    ("Results are not cached in the client.", {"RESULT_CACHE_MAX": -1}),
    ("RESULT_EXPIRES counts for chords, too.", {"RESULT_CHORD_EXPIRES": None}),
    ("Chords are counted by the result backend: nothing polls.", {"RESULT_CHORD_RETRY_INTERVAL": 1.0}),
    (
        _REMOTE,
        {
            "BEAT_ENABLE_REMOTE_CONTROL": False,
            "BEAT_REMOTE_CONTROL_MAX_TICK_AGE": None,
            "CONTROL_EXCHANGE": "celery",
            "CONTROL_QUEUE_DURABLE": False,
            "CONTROL_QUEUE_EXCLUSIVE": True,
            "CONTROL_QUEUE_EXPIRES": 10.0,
            "CONTROL_QUEUE_TTL": 300.0,
            "WORKER_ENABLE_REMOTE_CONTROL": True,
            "WORKER_POOL_RESTARTS": False,
        },
    ),
    (
        "Messages are not signed; ACCEPT_CONTENT = ['json'] can't run code, whoever sends it.",
        {
            "SECURITY_CERTIFICATE": None,
            "SECURITY_CERT_STORE": None,
            "SECURITY_DIGEST": "sha256",
            "SECURITY_KEY": None,
            "SECURITY_KEY_PASSWORD": None,
        },
    ),
    (
        "Schedules and their last runs are rows of the Django database; any number of beats share them.",
        {"BEAT_SCHEDULER": None, "BEAT_SCHEDULE_FILENAME": "celerybeat-schedule", "BEAT_SYNC_EVERY": 0},
    ),
    ("TASK_ACKS_ON_FAILURE_OR_TIMEOUT counts for both.", {"TASK_ACKS_ON_FAILURE": None, "TASK_ACKS_ON_TIMEOUT": None}),
    ("Set the options at the task, or change calls and runs in a MIDDLEWARE.", {"TASK_ANNOTATIONS": None}),
    ("TASK_REJECT_ON_WORKER_LOST and TASK_MAX_DELIVERIES say what becomes of it.", {"TASK_RETRY_ON_WORKER_LOST": False}),
    ("Tracebacks are kept as text with the result.", {"TASK_REMOTE_TRACEBACKS": False}),
    ("The text of arguments is cut at 1,024 characters.", {"TASK_REPR_MAXLEVELS": 3}),
    ("Times in messages are UTC, always.", {"ENABLE_UTC": True}),
    (
        "WORKER_SHUTDOWN_TIMEOUT bounds a warm shutdown.",
        {"WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE": False, "WORKER_SOFT_SHUTDOWN_TIMEOUT": 0.0},
    ),
    ("WORKER_PREFETCH_WINDOW = 0 claims nothing in advance.", {"WORKER_DISABLE_PREFETCH": False}),
    (
        "Delayed tasks wait in the broker, not in the worker.",
        {"WORKER_ETA_TASK_LIMIT": None, "WORKER_TIMER": None, "WORKER_TIMER_PRECISION": 1.0},
    ),
    ("Remove the rate limits from the tasks.", {"WORKER_DISABLE_RATE_LIMITS": False}),
    ("Claims are leases, so a finished message isn't handed out again.", {"WORKER_DEDUPLICATE_SUCCESSFUL_TASKS": False}),
    ("Name the queues with -Q.", {"WORKER_DIRECT": False}),
    ("Revoked tasks are rows of the Django database.", {"WORKER_STATE_DB": None}),
    (
        _LOGGING,
        {
            "WORKER_HIJACK_ROOT_LOGGER": False,
            "WORKER_LOG_COLOR": None,
            "WORKER_LOG_DATEFMT": None,
            "WORKER_LOG_FORMAT": None,
            "WORKER_REDIRECT_STDOUTS": False,
            "WORKER_REDIRECT_STDOUTS_LEVEL": "WARNING",
            "WORKER_TASK_LOG_DATEFMT": None,
            "WORKER_TASK_LOG_FORMAT": None,
        },
    ),
    (
        _CHILDREN,
        {
            "WORKER_AGENT": None,
            "WORKER_AUTOSCALER": None,
            "WORKER_CONSUMER": None,
            "WORKER_LOST_WAIT": 10.0,
            "WORKER_POOL_PUTLOCKS": True,
            "WORKER_POOL_START_METHOD": "fork",
        },
    ),
)


def _options() -> Iterator[tuple[str, Option]]:
    for instead, defaults in _GROUPS:
        for name, default in defaults.items():
            yield name, Option(default=default, types=(object,), doc=f"No effect. {instead}", effective=False)


INEFFECTIVE: Final[Mapping[str, Option]] = MappingProxyType(dict(sorted(_options())))
