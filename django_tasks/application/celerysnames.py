"""What else ``celery.Celery`` offers, as far as it means something where there is one app a project."""

import os
import platform
import threading
from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

import django
from django.utils import timezone

from django_tasks import brokers, clock, result_backends
from django_tasks.conf import settings
from django_tasks.messages import new_id
from django_tasks.version import __version__


class CelerysNames:
    """Methods and attributes by Celery's names."""

    conf: Any

    # ---- the one app

    def set_current(self) -> None:
        """Accepted from Celery: there is one app, in every thread."""

    def set_default(self) -> None:
        """Accepted from Celery: there is one app, in every thread."""

    @property
    def oid(self) -> str:
        """An id of this process: other processes have others."""
        return _process_id(os.getpid())

    @property
    def thread_oid(self) -> str:
        """An id of this thread."""
        if getattr(_thread, "process", None) != os.getpid():
            _thread.process, _thread.oid = os.getpid(), new_id()
        oid: str = _thread.oid
        return oid

    def close(self) -> None:
        """Close this process's connections to the broker and to the results. What needs one later opens another.

        Also the end of ``with app: ...``.
        """
        for part in (brokers, result_backends):
            part.current().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- time

    @property
    def timezone(self) -> tzinfo:
        """The time zone of schedules: TIMEZONE, else Django's TIME_ZONE. Times in messages are UTC."""
        return ZoneInfo(settings.TIMEZONE) if settings.TIMEZONE else timezone.get_default_timezone()

    def uses_utc_timezone(self) -> bool:
        """Whether that time zone is UTC."""
        return str(self.timezone) == "UTC"

    def now(self) -> datetime:
        """Return the current time in the app's time zone."""
        return clock.now().astimezone(self.timezone)

    # ---- settings

    def either(self, default_key: str, *defaults: Any) -> Any:
        """Return the first of these values that is not None, else the setting of this name. Callables are called."""
        given = (value() if isinstance(value, Callable) else value for value in defaults)  # type: ignore[arg-type]
        found = next((value for value in given if value is not None), None)
        return self.conf.get(default_key) if found is None else found

    def bugreport(self) -> str:
        """Return what a report of a fault should say of versions and addresses; no passwords."""
        broker, results = brokers.current(), result_backends.current()
        programs = f"Django {django.get_version()}, kombu {version('kombu')}, Python {platform.python_version()}"
        return (
            f"django-tasks-engine {__version__}, {programs}\n"
            f"platform: {platform.platform()}\n"
            f"broker: {type(broker).__name__}; results: {type(results).__name__}\n"
        )


@cache
def _process_id(pid: int) -> str:
    return new_id()


_thread: Final = threading.local()
