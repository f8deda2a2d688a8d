"""``memory://``: results in this process's memory; for tests, and for worker and caller in one process."""

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any, ClassVar, Final, Self

from django_tasks import clock, exceptions, states
from django_tasks.messages import WireSignature
from django_tasks.result_backends.backend import NewChord, OpenChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.chordparts import claim_patience, place
from django_tasks.result_backends.merging import merged
from django_tasks.urls import URL


@dataclass(slots=True)
class _Chord:
    """A chord on its way, or, with ``done``, one whose body has been sent. Who completed it has until ``claimed_until``."""

    size: int
    body: WireSignature
    opened: datetime
    parts: dict[str, ResultMeta] = field(default_factory=dict)
    #: Ids of parts that were added later.
    grown: set[str] = field(default_factory=set)
    done: bool = False
    claimed_until: float = 0.0

    def claim(self, group_id: str, shape: Sequence[Any] | None) -> ReadyChord | None:
        """Give the chord to the caller, unless somebody has it, or it is neither complete nor failed."""
        failed = any(part.status != states.SUCCESS for part in self.parts.values())
        if self.done or clock.monotonic() < self.claimed_until or (len(self.parts) < self.size and not failed):
            return None
        self.claimed_until = clock.monotonic() + claim_patience()
        return ReadyChord(group_id, self.body, sorted(self.parts.values(), key=lambda part: place(part.group_index)), shape)


@dataclass(slots=True)
class _Store:
    """What the backends of one name share. Everything happens under ``changed``, which waiting readers listen to."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    metas: dict[str, ResultMeta] = field(default_factory=dict)
    groups: dict[str, Sequence[Any]] = field(default_factory=dict)
    chords: dict[str, _Chord] = field(default_factory=dict)


class MemoryResultBackend(ResultBackend):
    """Results that live as long as the process. ``memory://NAME`` shares them among all backends of that name.

    A forked child starts with nothing.
    """

    _stores: ClassVar[dict[str, _Store]] = {}

    def __init__(self, name: str = "default") -> None:
        self.name = name
        self._stores.setdefault(name, _Store())

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``memory://NAME``; ``memory://`` is ``memory://default``."""
        return cls(url.alias)

    @property
    def _store(self) -> _Store:
        # Looked up each time: after a fork there is another one.
        return self._stores.setdefault(self.name, _Store())

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Keep all of them, by the rules of ``merging``."""
        store = self._store
        with store.changed:
            for meta in metas:
                kept = merged(store.metas.get(meta.task_id), meta)
                store.metas[meta.task_id] = kept
            store.changed.notify_all()

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what is kept of these tasks."""
        store = self._store
        with store.changed:
            return {task_id: store.metas[task_id] for task_id in task_ids if task_id in store.metas}

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each task's meta once it is ready."""
        left = dict.fromkeys(task_ids)
        end = None if timeout is None else clock.monotonic() + timeout
        while left:
            ready = self._next_ready(left, end)
            if not ready:
                raise exceptions.TimeoutError(f"{len(left)} of {len(task_ids)} results were not there within {timeout:g} seconds")
            for meta in ready:
                left.pop(meta.task_id, None)
                yield meta

    def _next_ready(self, task_ids: Collection[str], end: float | None) -> list[ResultMeta]:
        store = self._store

        def ready() -> list[ResultMeta]:
            known = (store.metas.get(task_id) for task_id in task_ids)
            return [meta for meta in known if meta is not None and meta.status in states.READY_STATES]

        with store.changed:
            return store.changed.wait_for(ready, None if end is None else max(0.0, end - clock.monotonic()))

    def forget(self, task_ids: Collection[str]) -> None:
        """Delete what is kept of these tasks."""
        store = self._store
        with store.changed:
            for task_id in task_ids:
                store.metas.pop(task_id, None)

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Keep a group's result tuples under its id."""
        self._store.groups[group_id] = members

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Read a stored group's result tuples."""
        return self._store.groups.get(group_id)

    def forget_group(self, group_id: str) -> None:
        """Delete a stored group."""
        self._store.groups.pop(group_id, None)

    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Expect the parts of all of them."""
        store, now = self._store, clock.now()
        with store.changed:
            for chord in chords:
                if chord.shape is not None:
                    store.groups[chord.group_id] = chord.shape
                store.chords.setdefault(chord.group_id, _Chord(chord.size, chord.body, now))

    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Expect ``by`` more parts."""
        store = self._store
        with store.changed:
            if (chord := store.chords.get(group_id)) is not None:
                chord.size += len(set(parts) - chord.grown) if parts else by
                chord.grown.update(parts)

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count these parts, each once; return the chords that are complete now, or have failed now."""
        store = self._store
        with store.changed:
            touched: dict[str, _Chord] = {}
            for meta in metas:
                chord = store.chords.get(meta.group_id or "")
                if chord is not None and not chord.done and meta.status in states.READY_STATES:
                    chord.parts[meta.task_id] = merged(chord.parts.get(meta.task_id), meta)
                    touched[meta.group_id or ""] = chord
            claimed = (chord.claim(group_id, store.groups.get(group_id)) for group_id, chord in touched.items())
            return [ready for ready in claimed if ready is not None]

    def close_chords(self, group_ids: Collection[str]) -> None:
        """Note that the bodies of these chords have been sent."""
        store = self._store
        with store.changed:
            for chord in (store.chords[group_id] for group_id in group_ids if group_id in store.chords):
                chord.done, chord.parts = True, {}

    def reclaim_chords(self, limit: int) -> list[ReadyChord]:
        """Claim up to ``limit`` chords anew that somebody completed and did not close in time."""
        store = self._store
        with store.changed:
            lapsed = ((name, chord) for name, chord in store.chords.items() if chord.claimed_until)
            claimed = (chord.claim(group_id, store.groups.get(group_id)) for group_id, chord in lapsed)
            return list(islice((ready for ready in claimed if ready is not None), limit))

    def waiting_chords(self, before: datetime, *, limit: int) -> list[OpenChord]:
        """Return chords that still wait for parts."""
        store = self._store
        with store.changed:
            waiting = (
                OpenChord(group_id, chord.size, len(chord.parts), chord.opened, chord.body)
                for group_id, chord in store.chords.items()
                if not chord.done and not chord.claimed_until and chord.opened < before
            )
            return sorted(waiting, key=attrgetter("opened"))[:limit]

    def recount_chords(self, group_ids: Collection[str]) -> list[ReadyChord]:
        """Count results of these chords' parts that were stored and not counted."""
        store, wanted = self._store, set(group_ids)
        with store.changed:
            waiting = {name for name in wanted if (chord := store.chords.get(name)) is not None and not chord.claimed_until}
            return self.count_chord_parts([meta for meta in store.metas.values() if meta.group_id in waiting])

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete up to ``limit`` old results, and the old groups and chords; parts of an unfinished chord stay with it."""
        store = self._store
        with store.changed:
            old = [meta.task_id for meta in store.metas.values() if meta.date_done is not None and meta.date_done < before][:limit]
            for task_id in old:
                del store.metas[task_id]
            for group_id in [name for name, chord in store.chords.items() if chord.done and chord.opened < before]:
                del store.chords[group_id]
        return len(old)

    def clear(self) -> None:
        """Delete everything; for tests."""
        self._stores[self.name] = _Store()


# The locks may be held by threads that a child doesn't have.
_forget: Final = MemoryResultBackend._stores.clear  # noqa: SLF001  its own module
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
