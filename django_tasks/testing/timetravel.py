"""Another time for a while: what ``django_tasks.clock`` and Django's ``timezone.now`` say."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import ClassVar, TypeAlias
from unittest import mock

from django.utils import timezone

from django_tasks import clock
from django_tasks.testing.overriding import scope

#: A time, or how far from now.
Target: TypeAlias = datetime | timedelta


class Journey:
    """The time inside a ``travel`` block."""

    def __init__(self, elsewhere: Callable[[], datetime], start: datetime, *, tick: bool) -> None:
        self._elsewhere = elsewhere
        self._ticks = tick
        self._set(start)

    def _set(self, moment: datetime) -> None:
        self._start, self._since = moment, self._elsewhere()

    def now(self) -> datetime:
        """Return the time here, in UTC."""
        return self._start + (self._elsewhere() - self._since) if self._ticks else self._start

    def to(self, target: Target) -> None:
        """Go to another time (naive means UTC), or that far from the present one."""
        self._set(arrival(target, self.now()))

    def by(self, **delta: float) -> None:
        """Go on by that much: ``by(hours=2)``. The names are timedelta's."""
        self.to(timedelta(**delta))


def arrival(target: Target, present: datetime) -> datetime:
    """Return the time that a target names."""
    return present + target if isinstance(target, timedelta) else clock.as_utc(target)


@scope
def travel(to: Target | None = None, *, tick: bool = True, **delta: float) -> Iterator[Journey]:
    """Let it be another time inside the block: ``travel(hours=2)``, ``travel(to=datetime(2030, 1, 1))``.

    ``clock.now()`` and Django's ``timezone.now()`` say that time, in every thread: delays, expiry, schedules, ``auto_now``.
    Time goes on from there; ``tick=False`` stops it. What asks the operating system by itself (``time.time()``, the
    database's NOW()) isn't moved, nor are timeouts. Yields a ``Journey``, to go on from there.
    """
    if to is not None and delta:
        raise TypeError(f"travel() goes to a time or by a difference, not both: to={to!r} and {delta}")
    # What the clock reads now may be another journey, or a library that moves time.
    outer = vars(clock)["datetime"]
    present = clock.now()
    journey = Journey(lambda: outer.now(UTC), arrival(timedelta(**delta) if to is None else to, present), tick=tick)
    calendar = type("Calendar", (_Calendar,), {"journey": journey})
    with ExitStack() as patches:
        # The functions stay the same, since many modules hold them; only what they look up is another.
        for module in (clock, timezone):
            patches.enter_context(mock.patch.object(module, "datetime", calendar))
        seconds = SimpleNamespace(**{**vars(time), "time": lambda: journey.now().timestamp()})
        patches.enter_context(mock.patch.object(clock, "time", seconds))
        yield journey


def is_travelling() -> bool:
    """Whether the clock says another time than the real one."""
    return vars(clock)["datetime"] is not datetime


@contextmanager
def at_home() -> Iterator[None]:
    """Let ``clock`` say the real time inside the block, whatever journey it is in: to talk to servers, which stayed behind."""
    with mock.patch.object(clock, "datetime", datetime), mock.patch.object(clock, "time", time):
        yield


class _AnyDatetime(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, datetime)


class _Calendar(datetime, metaclass=_AnyDatetime):
    """Stands for ``datetime`` in a module: its ``now`` is the journey's, everything else is real."""

    journey: ClassVar[Journey]

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        here = cls.journey.now().astimezone(tz)
        return here if tz is not None else here.replace(tzinfo=None)

    @classmethod
    def fromisoformat(cls, text: str, /) -> datetime:  # type: ignore[override]
        return datetime.fromisoformat(text)
