"""Beat sends periodic tasks when they are due: those of the admin and those of BEAT_SCHEDULE."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from django.db import connections, router

from django_tasks import urls
from django_tasks.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatOptions:
    """How beat is to run. ``max_interval``: most seconds between two looks; None means BEAT_MAX_LOOP_INTERVAL."""

    max_interval: float | None = None


def run_beat(options: BeatOptions, *, say: Callable[[str], Any] = print) -> int:
    """Run beat in this process until SIGTERM or SIGINT; return the exit status."""
    from django_tasks.beat.service import BeatService

    service = BeatService(max_interval=options.max_interval, embedded=False)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    say(banner(options, service.leader.holder))
    try:
        service.run(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def banner(options: BeatOptions, holder: str) -> str:
    """Say what this beat works with."""
    from django_tasks.beat import declared, rows
    from django_tasks.models import BeatRun

    alias = router.db_for_write(BeatRun)
    sources = [f"BEAT_SCHEDULE and add_periodic_task ({len(declared.declarations())})"]
    if rows.installed():
        sources.append("the admin (django-celery-beat)")
    interval = settings.BEAT_MAX_LOOP_INTERVAL if options.max_interval is None else options.max_interval
    lines = {
        "beat": holder,
        "broker": urls.mask(settings.BROKER_URL),
        "records": f"database {alias!r} ({connections[alias].vendor})",
        "schedules": ", ".join(sources),
        "looks": f"at least every {interval:g} s; leads for {settings.BEAT_TERM:g} s at a time",
    }
    return "\n".join(f"{name:>10}: {value}" for name, value in lines.items())
