"""Time: the only module that asks for it, and the few conversions that messages need."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

#: Seconds that only ever grow; for intervals inside one process.
monotonic = time.monotonic


def awake_or_not() -> float:
    """Return seconds that only ever grow, also while the machine is suspended, where the system counts those."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if _COUNTS_SUSPENSION else monotonic()


_COUNTS_SUSPENSION: Final = hasattr(time, "CLOCK_BOOTTIME")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def timestamp() -> float:
    """Return the current time as seconds since 1970 (UTC)."""
    return time.time()


def after(seconds: float) -> datetime:
    """Return the time ``seconds`` from now."""
    return now() + timedelta(seconds=seconds)


def as_utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC; a naive one counts as UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_iso(text: str | None) -> datetime | None:
    """Read an ISO 8601 time of any offset (naive means UTC).

    Raises ValueError for text that is no time.
    """
    return None if text is None else as_utc(datetime.fromisoformat(text))


def expiry(expires: float | datetime | timedelta | str | None) -> datetime | None:
    """Turn Celery's ``expires`` (seconds from now, or a time) into a time in UTC."""
    if expires is None:
        return None
    if isinstance(expires, datetime):
        return as_utc(expires)
    if isinstance(expires, str):
        return parse_iso(expires)
    if isinstance(expires, timedelta):
        return now() + expires
    return after(expires)
