"""A wall clock that is wrong: for processes that are told so by TEST_CLOCK_FILE, which says by how many seconds.

Preloading libfaketime would be more thorough, but Python's sleeping and waiting hang under it.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path


def install(file: Path) -> None:
    """Shift what Python code reads as the time of day, from now on and whenever the file changes; intervals stay right."""
    from django.utils import timezone

    from django_tasks import clock

    def shift() -> float:
        return float(file.read_text() or 0)

    time.time = _shifted(time.time, shift)

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=shift())

    clock.now = timezone.now = now


def _shifted(real: Callable[[], float], shift: Callable[[], float]) -> Callable[[], float]:
    return lambda: real() + shift()
