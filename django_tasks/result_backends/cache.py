"""``cache://ALIAS``: results in a Django cache, in Celery's form. They go when RESULT_EXPIRES has passed, or when the cache is full."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Self

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache, InvalidCacheBackendError

from django_tasks import states
from django_tasks.exceptions import ImproperlyConfigured, OperationalError, SoftTimeLimitExceeded, TaskError
from django_tasks.result_backends import bodies, lifetimes
from django_tasks.result_backends.backend import NewChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.chordparts import claim_patience, collected
from django_tasks.result_backends.documents import from_document, to_document
from django_tasks.result_backends.merging import folded, merged
from django_tasks.result_backends.polling import Pauses, polled
from django_tasks.serializers import dumps_json, loads_json
from django_tasks.urls import URL, mask_alias

_TASK: Final = "celery-task-meta-"
_GROUP: Final = "celery-taskset-meta-"
#: Seconds between two looks of a waiting reader: at first, and at most.
_FIRST: Final = 0.002
_LONGEST: Final = 0.25


class CacheResultBackend(ResultBackend):
    """Results as entries of the Django cache ``alias``.

    A cache may forget anything at any time, and has no transactions: of two writes about one task at the same moment
    the later one wins, even over SUCCESS. Chords need a cache that counts in one step (Redis, Memcached, local memory).
    """

    def __init__(self, alias: str = "default") -> None:
        if alias not in caches:
            said = mask_alias(alias)
            raise ImproperlyConfigured(f"RESULT_BACKEND cache://{said}: CACHES has no {said!r}; there are {', '.join(caches)}")
        self.cache_alias = alias

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``cache://ALIAS``; ``cache://`` is ``cache://default``."""
        return cls(url.alias)

    @contextmanager
    def _reaching(self, doing: str) -> Iterator[BaseCache]:
        try:
            yield caches[self.cache_alias]
        except (TaskError, SoftTimeLimitExceeded):
            raise
        except InvalidCacheBackendError as error:
            raise ImproperlyConfigured(f"RESULT_BACKEND cache://{self.cache_alias}: {error}") from error
        except Exception as error:
            # Each client library has errors of its own.
            raise OperationalError(f"{doing} failed on the cache {self.cache_alias!r}: {error!r}") from error

    @property
    def _timeout(self) -> float | None:
        # To Django 0 means «at once», to Celery and us «never».
        return lifetimes.of_results()

    # ---- results

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Keep all of them: one read, for the rules of ``merging``, and one write."""
        batch = folded(metas)
        held = self.fetch([meta.task_id for meta in batch])
        kept = {meta.task_id: merged(held.get(meta.task_id), meta) for meta in batch}
        changed = [meta for task_id, meta in kept.items() if meta is not held.get(task_id)]
        if not changed:
            return
        # Failures are kept longer.
        for failed, timeout in ((True, lifetimes.of_failures()), (False, self._timeout)):
            entries = {_TASK + meta.task_id: to_document(meta) for meta in changed if (meta.status == states.FAILURE) is failed}
            if entries:
                with self._reaching(f"Storing {len(entries)} result(s)") as cache:
                    self._write_for(cache, entries, timeout)

    def _write(self, cache: BaseCache, entries: Mapping[str, Any]) -> None:
        self._write_for(cache, entries, self._timeout)

    def _write_for(self, cache: BaseCache, entries: Mapping[str, Any], timeout: float | None) -> None:
        failed = cache.set_many(dict(entries), timeout=timeout)
        if failed:
            raise OperationalError(
                f"the cache {self.cache_alias!r} did not take {len(failed)} of {len(entries)} entries, {failed[0]} for one"
            )

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what is kept of these tasks."""
        with self._reaching("Reading results") as cache:
            found = cache.get_many([_TASK + task_id for task_id in task_ids])
        return {key.removeprefix(_TASK): from_document(text) for key, text in found.items()}

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each task's meta once it is ready. Looks often at first, then ever less, four times a second at least."""
        return polled(lambda left: self.fetch(left).values(), task_ids, timeout, Pauses(_FIRST, _LONGEST))

    def forget(self, task_ids: Collection[str]) -> None:
        """Delete what is kept of these tasks."""
        with self._reaching("Forgetting results") as cache:
            cache.delete_many([_TASK + task_id for task_id in task_ids])

    # ---- groups

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Keep a group's result tuples under its id."""
        with self._reaching("Storing a group") as cache:
            cache.set(_GROUP + group_id, _group(members), timeout=self._timeout)

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Read a stored group's result tuples."""
        with self._reaching("Reading a group") as cache:
            return _members(cache.get(_GROUP + group_id))

    def forget_group(self, group_id: str) -> None:
        """Delete a stored group."""
        with self._reaching("Forgetting a group") as cache:
            cache.delete(_GROUP + group_id)

    # ---- chords
    #
    # Entries beside the group's: «.body», «.s» how many parts are expected, «.n» how many places were given out, «.p1» …
    # what part came to that place, «.claim» for the one caller that may send the body, and goes by itself should that one
    # die, and «.done» when it has been sent.

    def check_chords(self) -> None:
        """Refuse for caches that don't count."""
        with self._reaching("Looking at the cache") as cache:
            if type(cache).incr is BaseCache.incr:
                raise ImproperlyConfigured(
                    f"RESULT_BACKEND cache://{self.cache_alias}: {type(cache).__qualname__} can't count in one step, so it can't keep"
                    " chords; use db://, or a cache in Redis or Memcached. Nothing was sent"
                )

    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Expect the parts of all of them: one read, one write, and two entries of each that a cache adds one by one."""
        self.check_chords()
        with self._reaching(f"Opening {len(chords)} chord(s)") as cache:
            sent = cache.get_many([f"{_GROUP}{chord.group_id}.done" for chord in chords])
            new = {_GROUP + chord.group_id: chord for chord in chords if f"{_GROUP}{chord.group_id}.done" not in sent}
            self._write(cache, {name: value for key, chord in new.items() for name, value in _what_stays(key, chord)})
            for key, chord in new.items():
                cache.add(f"{key}.s", chord.size, timeout=self._timeout)
                cache.add(f"{key}.n", 0, timeout=self._timeout)

    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Expect ``by`` more parts."""
        # A ValueError: there is no such entry, so the chord is complete, has failed, or is nobody's.
        with self._reaching("Growing a chord") as cache, suppress(ValueError):
            # A mark for each part that was added: the task that adds it may run twice.
            new = [part for part in parts if cache.add(f"{_GROUP}{group_id}.+{part}", 1, timeout=self._timeout)]
            if new or not parts:
                cache.incr(f"{_GROUP}{group_id}.s", len(new) if parts else by)

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count these parts, each once; return the chords that are complete now, or have failed now."""
        groups: dict[str, list[ResultMeta]] = {}
        for meta in metas:
            if meta.group_id is not None and meta.status in states.READY_STATES:
                groups.setdefault(meta.group_id, []).append(meta)
        with self._reaching("Counting chord parts") as cache:
            return self._claimed(cache, self._count(cache, self._placed(cache, groups)))

    def _placed(self, cache: BaseCache, groups: Mapping[str, Sequence[ResultMeta]]) -> dict[str, Sequence[ResultMeta]]:
        """Give the parts their places; return those of chords that are open, by the chord's key."""
        placed: dict[str, Sequence[ResultMeta]] = {}
        entries: dict[str, str] = {}
        for group_id, parts in groups.items():
            # A ValueError: complete, failed, or nobody's.
            with suppress(ValueError):
                for part in parts:
                    place = cache.incr(f"{_GROUP}{group_id}.n")
                    entries[f"{_GROUP}{group_id}.p{place}"] = dumps_json([part.group_index, part.task_id])
                placed[_GROUP + group_id] = parts
        self._write(cache, entries)
        return placed

    def _count(self, cache: BaseCache, placed: Mapping[str, Sequence[ResultMeta]]) -> list[ReadyChord]:
        """Return the chords that are complete, or have failed, whoever has claimed them."""
        known = cache.get_many([name for key in placed for name in (f"{key}.s", f"{key}.n", f"{key}.body", key)])
        ended = [key for key, parts in placed.items() if _may_have_ended(key, parts, known)]
        places = {key: [f"{key}.p{place}" for place in range(1, known[f"{key}.n"] + 1)] for key in ended}
        # A part that is delivered twice has two places, and a place may be empty for a moment: only what lies there counts.
        lying = cache.get_many([name for names in places.values() for name in names])
        positions = {
            key: {task_id: position for position, task_id in (loads_json(lying[name]) for name in names if name in lying)}
            for key, names in places.items()
        }
        found = {meta.task_id: meta for key in ended for meta in placed[key]}
        found |= self.fetch({task_id for of_one in positions.values() for task_id in of_one})
        ready = []
        for key in ended:
            group_id = key.removeprefix(_GROUP)
            ordered = collected(group_id, positions[key], found)
            # As it is kept: a part that was done well, and failed when it ran again, has not failed.
            if len(ordered) >= known[f"{key}.s"] or any(part.status != states.SUCCESS for part in ordered):
                ready.append(ReadyChord(group_id, bodies.read(known[f"{key}.body"]), ordered, _members(known.get(key))))
        return ready

    def _claimed(self, cache: BaseCache, ready: Sequence[ReadyChord]) -> list[ReadyChord]:
        """Claim these chords; return those that are the caller's now."""
        # Whole seconds: Memcached knows no others.
        patience = math.ceil(claim_patience())
        mine = {chord.group_id: chord for chord in ready if cache.add(f"{_GROUP}{chord.group_id}.claim", 1, timeout=patience)}
        # One that was closed since it was looked at has lost the claim that was on it.
        sent = cache.get_many([f"{_GROUP}{group_id}.done" for group_id in mine])
        cache.delete_many([f"{name.removesuffix('.done')}.claim" for name in sent])
        return [chord for group_id, chord in mine.items() if f"{_GROUP}{group_id}.done" not in sent]

    def recount_chords(self, group_ids: Collection[str]) -> list[ReadyChord]:
        """Count results of these chords' parts that were stored and not counted. Open chords can't be looked for in a cache."""
        with self._reaching("Counting the parts of chords again") as cache:
            texts = cache.get_many([f"{_GROUP}{group_id}.parts" for group_id in group_ids])
        names = {key.removeprefix(_GROUP).removesuffix(".parts"): loads_json(text) for key, text in texts.items()}
        stored = self.fetch({task_id for known in names.values() for task_id in known})
        metas: list[ResultMeta] = []
        for group_id, known in names.items():
            metas += (replace(stored[task_id], group_id=group_id, group_index=n) for n, task_id in enumerate(known) if task_id in stored)
        return self.count_chord_parts(metas)

    def close_chords(self, group_ids: Collection[str]) -> None:
        """Note that the bodies of these chords have been sent."""
        keys = [_GROUP + group_id for group_id in group_ids]
        with self._reaching("Closing chords") as cache:
            # First «.done», which stays, should the chord be opened again; without «.n» late parts find nothing.
            self._write(cache, {f"{key}.done": 1 for key in keys})
            places = cache.get_many([f"{key}.n" for key in keys])
            lying = [f"{key}.p{place}" for key in keys for place in range(1, places.get(f"{key}.n", 0) + 1)]
            cache.delete_many([*(f"{key}.{name}" for key in keys for name in ("s", "n", "body", "parts", "claim")), *lying])

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete nothing: entries go by themselves."""
        return 0


def _group(members: Sequence[Any]) -> str:
    return dumps_json({"result": members})


def _members(text: str | None) -> Sequence[Any] | None:
    members: Sequence[Any] | None = None if text is None else loads_json(text)["result"]
    return members


def _what_stays(key: str, chord: NewChord) -> Iterator[tuple[str, str]]:
    """Yield the entries of a chord that are the same whenever it is opened."""
    yield f"{key}.body", bodies.written(chord.body)
    yield f"{key}.parts", dumps_json(list(chord.parts))
    if chord.shape is not None:
        yield key, _group(chord.shape)


def _may_have_ended(key: str, parts: Sequence[ResultMeta], known: Mapping[str, Any]) -> bool:
    if any(f"{key}.{name}" not in known for name in ("s", "n", "body")):
        return False
    return bool(known[f"{key}.n"] >= known[f"{key}.s"]) or any(part.status != states.SUCCESS for part in parts)
