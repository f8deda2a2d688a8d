"""The names that settings had before Celery 4, for the check that says today's."""

from collections.abc import Collection, Mapping
from typing import Final

#: Old Django settings whose new name does not follow from the old one.
_IRREGULAR: Final[Mapping[str, str]] = {
    "CELERYD_TASK_SOFT_TIME_LIMIT": "TASK_SOFT_TIME_LIMIT",
    "CELERYD_TASK_TIME_LIMIT": "TASK_TIME_LIMIT",
    "CELERYD_WORKER_LOST_WAIT": "WORKER_LOST_WAIT",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "TASK_EAGER_PROPAGATES",
    "CELERY_MAX_CACHED_RESULTS": "RESULT_CACHE_MAX",
    "CELERY_MESSAGE_COMPRESSION": "TASK_COMPRESSION",
    "CELERY_RESULT_DBURI": "DATABASE_URL",
    "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS": "DATABASE_SHORT_LIVED_SESSIONS",
    "CELERY_RESULT_DB_TABLENAMES": "DATABASE_TABLE_NAMES",
    "CELERY_RESULT_ENGINE_OPTIONS": "DATABASE_ENGINE_OPTIONS",
    "CELERY_SEND_EVENTS": "WORKER_SEND_TASK_EVENTS",
    "CELERY_SEND_TASK_SENT_EVENT": "TASK_SEND_SENT_EVENT",
    "CELERY_TASK_RESULT_EXPIRES": "RESULT_EXPIRES",
}
#: An old prefix, and the new ones that took its place.
_PREFIXES: Final = (
    ("CELERYBEAT_", ("BEAT_",)),
    ("CELERYD_", ("WORKER_",)),
    ("CELERY_", ("TASK_", "WORKER_", "RESULT_", "BROKER_", "BEAT_")),
)


def current_name(name: str, known: Collection[str]) -> str | None:
    """Return today's name of an old setting, or None: ``CELERYD_CONCURRENCY`` and ``CELERY_ACKS_LATE`` are such names.

    A name without the prefix, as it may stand in ``DJANGO_TASKS`` (``ACKS_LATE``), is understood, too.
    """
    for full in (name, f"CELERY_{name}"):
        if full in _IRREGULAR:
            return _IRREGULAR[full]
        for old, new in _PREFIXES:
            candidates = [prefix + full.removeprefix(old) for prefix in new if full.startswith(old)]
            found = next((candidate for candidate in candidates if candidate in known), None)
            if found is not None:
                return found
    return None
