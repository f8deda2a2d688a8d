"""Periodic tasks over a span of time that passes in a moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django_tasks import clock, signals
from django_tasks.testing.timetravel import Journey, Target, arrival, travel

if TYPE_CHECKING:
    from django_tasks.beat.entries import Entry

#: The shortest step: what is due now is sent now, and the next look is later.
_STEP: Final = timedelta(milliseconds=1)
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True, order=True)
class Occasion:
    """One time at which a periodic task is due. ``name`` is the entry's; ``task_id`` is None before it was sent."""

    at: datetime
    name: str
    task: str
    task_id: str | None = None


def due(until: Target, *, since: datetime | None = None) -> list[Occasion]:
    """Return when periodic tasks are due from now (or ``since``) until a time, or for that long; in order. Sends nothing.

    Knows the rows of the admin, BEAT_SCHEDULE and ``add_periodic_task``. Raises RuntimeError for more than 100,000.
    """
    from django_tasks.beat.agenda import Agenda
    from django_tasks.beat.changes import Reader
    from django_tasks.beat.reports import Reports

    start = clock.now() if since is None else clock.as_utc(since)
    end, agenda = arrival(until, start), Agenda()
    Reader(agenda, Reports(), interval=timedelta(seconds=1)).load(start, since=start)
    found: list[Occasion] = []
    for entry in agenda:
        for at in _times(entry, start, end):
            found.append(Occasion(at, entry.name, entry.task))
            if len(found) > _MOST:
                raise RuntimeError(f"{entry.name!r} and others are due more than {_MOST} times until {end}: ask for a shorter span")
    return sorted(found, key=lambda one: (one.at, one.name))


def _times(entry: "Entry", start: datetime, end: datetime) -> Iterator[datetime]:
    at = entry.next_run(max(start, entry.since or start))
    while at is not None and at <= end:
        yield at
        if entry.one_off:
            return
        at = entry.next_run(at)


def run_beat(until: Target, *, since: datetime | None = None) -> list[Occasion]:
    """Let beat schedule from now (or ``since``) until a time, or for that long, and publish at each due time what is due then.

    Returns what was sent, in order; what was due before the span is not made up for. Afterwards it is as late as before.
    Runs are on record (``BeatRun``) as always: a second beat over the same span sends nothing again.
    """
    from django_tasks.beat.entries import NAME_HEADER
    from django_tasks.testing.beatspan import SpanScheduler

    start = clock.now() if since is None else clock.as_utc(since)
    end = arrival(until, start)
    sent: list[Occasion] = []

    def note(sender: Any, *, headers: Any, **_kwargs: Any) -> None:
        if name := headers.get(NAME_HEADER):
            sent.append(Occasion(clock.now(), name, headers["task"], headers["id"]))

    signals.after_task_publish.connect(note, weak=False)
    try:
        with travel(to=start, tick=False) as journey:
            _beat_on(SpanScheduler(start), journey, end)
    finally:
        signals.after_task_publish.disconnect(note)
    return sent


def _beat_on(scheduler: Any, journey: Journey, end: datetime) -> None:
    while True:
        pause = timedelta(seconds=scheduler.tick(journey.now()))
        if journey.now() >= end:
            return
        journey.to(min(end, journey.now() + max(pause, _STEP)))
