"""How long results are kept, by the settings. Failures are kept longer, since people look at them days later."""

from datetime import datetime, timedelta

from django_tasks.conf import settings


def of_results() -> float | None:
    """Seconds that a result is kept after it was stored; None for ever."""
    return settings.RESULT_EXPIRES or None


def of_failures() -> float | None:
    """Seconds that a FAILURE is kept: RESULT_FAILURE_EXPIRES, and never less than other results; None for ever."""
    kept, failed = settings.RESULT_EXPIRES, settings.RESULT_FAILURE_EXPIRES
    if not kept or failed == 0:
        return None
    return float(kept) if failed is None else float(max(kept, failed))


def failures_before(before: datetime) -> datetime | None:
    """Return the time before which failures are too old when other results are before ``before``; None if they never are."""
    kept, failed = of_results() or 0.0, of_failures()
    return None if failed is None else before - timedelta(seconds=failed - kept)
