"""Zones of django-celery-beat's crontab rows: one that doesn't exist can be read, and a row made without one gets ours.

Both are properties of one model field of another app, which this module changes in place. Its migrations stay as they are:
the function of the default is replaced where they refer to it, too.
"""

import io
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, ClassVar, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.apps import apps
from django.core.exceptions import ValidationError

from django_tasks.beat.rows import APP
from django_tasks.conf import settings

#: A time zone file of UTC alone: header, one kind of time, its abbreviation.
_UTC_FILE = b"TZif" + bytes(16) + b"".join(number.to_bytes(4, "big") for number in (0, 0, 0, 0, 1, 4)) + bytes(6) + b"UTC\0"


class MissingZone(ZoneInfo):
    """Stands for a zone that this machine doesn't know. It has the name, and raises when it is asked for a time."""

    __slots__: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def named(cls, name: str) -> "MissingZone":
        """Return the stand-in of a name."""
        return cls.from_file(io.BytesIO(_UTC_FILE), key=name)

    def utcoffset(self, moment: datetime | None, /) -> timedelta:
        """Raise ZoneInfoNotFoundError."""
        return self._refuse()

    def dst(self, moment: datetime | None, /) -> timedelta:
        """Raise ZoneInfoNotFoundError."""
        return self._refuse()

    def tzname(self, moment: datetime | None, /) -> str:
        """Raise ZoneInfoNotFoundError."""
        return self._refuse()

    def fromutc(self, moment: datetime, /) -> datetime:
        """Raise ZoneInfoNotFoundError."""
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise ZoneInfoNotFoundError(f"No time zone found with key {self.key}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).named, (self.key,)


def adopt() -> None:
    """Change the field. Doing it again changes nothing."""
    field = apps.get_model(APP, "CrontabSchedule")._meta.get_field("timezone")
    if "from_db_value" in vars(field):
        return
    field.from_db_value = _reading(field.to_python)
    original = field.default
    if callable(original):
        field.default = _default(original)
        field.__dict__.pop("_get_default", None)
        setattr(sys.modules[original.__module__], original.__name__, field.default)


def _reading(convert: Callable[[Any], Any]) -> Callable[..., Any]:
    def from_db_value(value: Any, *_args: Any) -> Any:
        # One row that raises here would hide all the others of its query.
        try:
            return convert(value)
        except (ValidationError, LookupError, OSError, ValueError):
            return MissingZone.named(str(value))

    return from_db_value


def _default(original: Callable[[], str]) -> Callable[[], str]:
    @wraps(original)
    def zone() -> str:
        # django-celery-beat asks Celery's current app for its namespace of settings, and there is none here.
        name = settings.TIMEZONE
        if not isinstance(name, str):
            return original()
        try:
            return str(ZoneInfo(name))
        except (LookupError, OSError, ValueError):
            # A system check says so.
            return original()

    return zone
