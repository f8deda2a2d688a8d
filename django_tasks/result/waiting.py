"""Asking result backends about many results at once, and waiting for them, in a thread or on an event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from asgiref.sync import sync_to_async

from django_tasks import clock, exceptions, states
from django_tasks.result.arguments import fit_id, fit_timeout, refuse_interval
from django_tasks.result_backends.backend import ResultBackend, ResultMeta

#: Seconds between two looks of ``aarrivals``: at first, and at most.
_FIRST: Final = 0.004
_LONGEST: Final = 0.25
#: Seconds between two looks at the states that a task passes through, while someone wants to hear of them.
OFTEN: Final = 0.1
#: Seconds until a waiting reader first asks after the parents' failure, and at most between two such questions.
_PARENTS_FIRST: Final = 0.5
_PARENTS_LONGEST: Final = 8.0


class Waited(Protocol):
    """A single task's result, as far as waiting is concerned."""

    @property
    def id(self) -> str:
        """The task's id."""

    @property
    def backend(self) -> ResultBackend:
        """Where it is kept."""

    @property
    def ignored(self) -> bool:
        """Whether nothing will ever be kept of it."""

    @property
    def is_settled(self) -> bool:
        """Whether its end is known."""

    @property
    def state(self) -> str:
        """Its state, as far as is known."""

    def settle(self, meta: ResultMeta) -> None:
        """Take over its end."""

    def maybe_throw(self) -> Any:
        """Raise its exception if it has failed."""


W = TypeVar("W", bound=Waited)


def by_backend(results: Iterable[W]) -> list[tuple[ResultBackend, dict[str, list[W]]]]:
    """Sort results by where they are kept, and there by id; several objects may stand for one task."""
    found: dict[int, tuple[ResultBackend, dict[str, list[W]]]] = {}
    for result in results:
        backend = result.backend
        _, named = found.setdefault(id(backend), (backend, {}))
        named.setdefault(fit_id(result.id), []).append(result)
    return list(found.values())


class Unsettled:
    """The results among some whose end isn't known yet. True while there are any."""

    def __init__(self, results: Iterable[Waited]) -> None:
        self._kept = by_backend(result for result in results if not result.is_settled and not result.ignored)

    def __bool__(self) -> bool:
        return any(named for _, named in self._kept)

    def __len__(self) -> int:
        return sum(len(named) for _, named in self._kept)

    def look(self) -> list[Waited]:
        """Ask once for all; settle and return those that are ready."""
        settled: list[Waited] = []
        for backend, named in self._kept:
            if named:
                found = backend.fetch(list(named)).values()
                settled += [result for meta in found if meta.status in states.READY_STATES for result in _settle(named, meta)]
        return settled

    def arriving(self, until: float | None) -> Iterator[Waited]:
        """Settle and yield them as they become ready; exceptions.TimeoutError at the time ``until``."""
        for backend, named in self._kept:
            if named:
                for meta in backend.wait(list(named), None if until is None else max(0.0, until - clock.monotonic())):
                    yield from _settle(named, meta)


class Changes:
    """What ``on_message`` is to hear while a task's result is waited for; to be called every ``OFTEN`` seconds."""

    def __init__(
        self, result: Any, on_message: Callable[[Any], Any], on_interval: Callable[[], Any] | None = None, interval: float = OFTEN
    ) -> None:
        self._result, self._on_message = result, on_message
        self._on_interval, self._interval = on_interval, interval
        self._due = clock.monotonic() + interval
        self._last: Any = (states.PENDING, None)

    def __call__(self) -> None:
        """Tell what has changed since the last time, but for the end, and call the ``on_interval`` of whoever waits when it is due."""
        document = self._result.document()
        found = (document["status"], document["result"])
        if found != self._last and found[0] not in states.READY_STATES:
            self._last = found
            self._on_message(document)
        if self._on_interval is not None and clock.monotonic() >= self._due:
            self._due += self._interval
            self._on_interval()


def _settle(named: dict[str, list[W]], meta: ResultMeta) -> list[W]:
    results = named.pop(meta.task_id, [])
    for result in results:
        result.settle(meta)
    return results


def raise_failures(parents: Sequence[Any]) -> None:
    """Raise the failure of the first of these results, or groups of results, that is known to have failed.

    ``parents`` are the nearest first, as they are found; their failures are asked for in one question.
    """
    leaves = [leaf for node in reversed(parents) for leaf in node.leaves()]
    Unsettled(leaves).look()
    for leaf in leaves:
        if leaf.is_settled:
            leaf.maybe_throw()


def arrivals(
    results: Iterable[Waited],
    timeout: float | None,
    *,
    parents: Sequence[Any] = (),
    interval: float = 0.5,
    on_interval: Callable[[], Any] | None = None,
) -> Iterator[Waited]:
    """Yield the results whose end isn't known yet as it becomes so; exceptions.TimeoutError after ``timeout`` seconds.

    ``on_interval`` is called every ``interval`` seconds. The failure of one of the ``parents`` is raised, since then
    what follows it may never start.
    """
    timeout = fit_timeout(timeout)
    refuse_interval(interval)
    asked = list(results)
    left, many = Unsettled(asked), len(asked)
    end = None if timeout is None else clock.monotonic() + timeout
    # A wait in pieces asks more often, so pieces grow when only parents are to be asked for.
    piece = None if on_interval is None and not parents else max(interval, 0.001) if on_interval is not None else _PARENTS_FIRST
    while left:
        until = _sooner(end, None if piece is None else clock.monotonic() + piece)
        try:
            yield from left.arriving(until)
        except exceptions.TimeoutError:
            raise_failures(parents)
            if on_interval is not None:
                on_interval()
            elif piece is not None:
                piece = min(piece * 2, _PARENTS_LONGEST)
            if end is not None and clock.monotonic() >= end:
                raise late(len(left), many, timeout) from None


async def aarrivals(
    results: Iterable[Waited],
    timeout: float | None,  # noqa: ASYNC109  get()'s argument
    *,
    parents: Sequence[Any] = (),
) -> AsyncIterator[Waited]:
    """``arrivals`` on an event loop: no thread is held between two looks, so thousands may wait."""
    timeout = fit_timeout(timeout)
    asked = list(results)
    left, many = await sync_to_async(Unsettled)(asked), len(asked)
    start = clock.monotonic()
    end = None if timeout is None else start + timeout
    pause, ask = _FIRST, start + _PARENTS_FIRST
    while left:
        settled = await sync_to_async(left.look)()
        for result in settled:
            yield result
        if not left:
            return
        late_now = end is not None and clock.monotonic() >= end
        if parents and (late_now or clock.monotonic() >= ask):
            await sync_to_async(raise_failures)(parents)
            ask = clock.monotonic() + min(clock.monotonic() - start, _PARENTS_LONGEST)
        if late_now:
            raise late(len(left), many, timeout)
        pause = _FIRST if settled else min(pause * 1.25, _LONGEST)
        await asyncio.sleep(pause if end is None else max(0.0, min(pause, end - clock.monotonic())))


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def late(left: int, many: int, timeout: float | None) -> exceptions.TimeoutError:
    """Return the error that says how many results are missing."""
    return exceptions.TimeoutError(f"{left} of {many} results were not there within {timeout or 0:g} seconds")
