"""Times to and from rows, whatever USE_TZ says. Inside beat every time is aware and in UTC."""

from datetime import datetime

from django.conf import settings
from django.utils import timezone

from django_tasks.clock import as_utc


def local(moment: datetime) -> datetime:
    """Return a time as the project's rows keep it: naive local time where USE_TZ is off."""
    return as_utc(moment) if settings.USE_TZ else timezone.make_naive(moment, timezone.get_default_timezone())


def from_local(moment: datetime | None) -> datetime | None:
    """Read a time of the project's rows."""
    if moment is None:
        return None
    return as_utc(timezone.make_aware(moment, timezone.get_default_timezone()) if timezone.is_naive(moment) else moment)
