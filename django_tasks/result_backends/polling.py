"""Waiting for results in a store that tells nobody: by looking, often at first, then ever less."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from django_tasks import clock, exceptions, states
from django_tasks.result_backends.backend import ResultMeta

_GROWTH: Final = 1.25


class Pauses:
    """The time between two looks: ``first`` seconds, and each time a quarter more, up to ``longest``."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def before_look(self) -> None:
        """Note what tells later whether another look is worth it."""

    def restart(self) -> None:
        """Something has come: more may come soon."""
        self._next = self._first

    def pause(self, end: float | None) -> None:
        """Wait until it is time to look again, or ``end``."""
        sleep(self.taken(), end)

    def taken(self) -> float:
        """Return how long to wait now; it will be longer the next time."""
        seconds, self._next = self._next, min(self._next * _GROWTH, self._longest)
        return seconds


def polled(
    look: Callable[[Collection[str]], Iterable[ResultMeta]], task_ids: Collection[str], timeout: float | None, pauses: Pauses
) -> Iterator[ResultMeta]:
    """Yield each task's meta once ``look`` says that it is ready; exceptions.TimeoutError after ``timeout`` seconds."""
    left = dict.fromkeys(task_ids)
    end = None if timeout is None else clock.monotonic() + timeout
    while left:
        pauses.before_look()
        ready = [meta for meta in look(left) if meta.status in states.READY_STATES]
        for meta in ready:
            left.pop(meta.task_id, None)
            yield meta
        if not left:
            return
        if end is not None and clock.monotonic() >= end:
            raise exceptions.TimeoutError(f"{len(left)} of {len(task_ids)} results were not there within {timeout:g} seconds")
        if ready:
            pauses.restart()
        pauses.pause(end)


def sleep(seconds: float, end: float | None) -> None:
    """Sleep, but not beyond ``end``."""
    time.sleep(seconds if end is None else max(0.0, min(seconds, end - clock.monotonic())))
