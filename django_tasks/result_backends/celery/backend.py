"""The adapter over Celery's backend classes.

They say how a store is spoken to and what a document looks like in it, so that Celery's clients read what is stored here,
and the other way round. What becomes of a write (``merging``), how chords are counted and how a reader waits is ours.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from celery import Celery
from celery import exceptions as celerys
from celery.backends.base import BaseKeyValueStoreBackend
from celery.result import result_from_tuple

from django_tasks import clock, states
from django_tasks.exceptions import BackendStoreError, ImproperlyConfigured, OperationalError, SoftTimeLimitExceeded, TaskError
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.backend import NewChord, OpenChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.celery.documents import Request, decoding, document_of, encoding, meta_of, plain, value_of
from django_tasks.result_backends.celery.libraries import private_app, require_library, schemes
from django_tasks.result_backends.encoding import encode_value
from django_tasks.result_backends.merging import folded, merged
from django_tasks.result_backends.polling import Pauses, polled
from django_tasks.urls import URL, mask, told

#: Seconds between two looks of a waiting reader: at first, and at most. Stores on the other side of HTTP are slow and cost money.
_FIRST: Final = 0.005
_LONGEST: Final = 0.5
#: Seconds between two clean-ups: Celery's go through everything that is kept.
_CLEAN_EVERY: Final = 600.0
#: Characters from which on a result may be what a store refuses, rather than the store being out of order.
_LARGE: Final = 50_000


class CeleryResultBackend(ResultBackend):
    """Results in a store that one of Celery's result backends knows how to reach.

    Celery makes one backend object for each thread at its first use, or one for all where that is safe. Of two writes about
    one task at the same moment the later one may win, unless the store itself keeps a SUCCESS. Chords are counted in the
    database ``db://default``: many of these stores can't count in one step, and a Django project always has a database; the
    results stay where they are.
    """

    def __init__(self, url: URL) -> None:
        """Open the backend of a URL; nothing connects yet. Raises ImproperlyConfigured where its client library is missing."""
        self._url = url
        self._shown = mask(url.text)
        self._celery: tuple[int, Celery] | None = None
        self._cleaned = 0.0
        require_library(url.scheme, self._shown)
        self._chords = open_result_backend("db://default")

    @classmethod
    def schemes(cls) -> list[str]:
        """Name the schemes that Celery has a backend for here, those of other packages included."""
        return schemes()

    # ---- Celery's side

    def _backend(self) -> Any:
        """Return this thread's backend object of Celery."""
        pid = os.getpid()
        if self._celery is None or self._celery[0] != pid:
            # In a fork the parent's connections are left alone: they are still in use there.
            self._celery = pid, private_app(self._url.text)
        app = self._celery[1]
        fresh = app._backend is None  # noqa: SLF001  no public question for «has this thread one yet?»
        backend = app.backend
        if fresh:
            # What is read shall stay as it was written; exceptions are built by ``encoding``.
            backend.meta_from_decoded = lambda meta: meta
            if (sessions := getattr(backend, "session_manager", None)) is not None:
                # Celery's word for «keep connections», where it would open one for every query.
                sessions.forked = True
        return backend

    @contextmanager
    def _reaching(self, doing: str) -> Iterator[Any]:
        try:
            yield self._backend()
        except (TaskError, NotImplementedError, SoftTimeLimitExceeded):
            raise
        except celerys.ImproperlyConfigured as error:
            raise ImproperlyConfigured(f"RESULT_BACKEND {self._shown}: {told(error, self._url)}") from None
        except Exception as error:
            # Each client library has errors of its own.
            raise OperationalError(f"{doing} failed at {self._shown}: {type(error).__name__}: {told(error, self._url)}") from error

    # ---- results

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Keep all of them, one after the other, by the rules of ``merging``: these stores have no batches."""
        batch = folded(metas)
        held = self.fetch([meta.task_id for meta in batch])
        for meta in batch:
            before = held.get(meta.task_id)
            kept = merged(before, meta)
            if kept is not before:
                self._store_one(kept)

    def _store_one(self, meta: ResultMeta) -> None:
        try:
            self._write(meta)
        except OperationalError as error:
            # Two workers may have made the same record at the same moment: whoever comes second finds it there now.
            held = self.fetch([meta.task_id]).get(meta.task_id)
            kept = merged(held, meta)
            if kept is held:
                return
            if len(meta.result or "") < _LARGE:
                self._write(kept)
            else:
                self._write_or_tell(kept, error)

    def _write_or_tell(self, meta: ResultMeta, why: OperationalError) -> None:
        # A store that refuses a large result would refuse it for ever, and the worker would try for ever: if it takes a
        # small one at the same moment, the task has failed to deliver its result, and that is kept.
        try:
            self._write(meta)
        except OperationalError:
            lost = BackendStoreError(f"the result of {len(meta.result or ''):,} characters was refused: {why}"[:2000])
            text, content_type, content_encoding = encode_value(lost)
            failed = replace(meta, status=states.FAILURE, traceback=None, result=text)
            self._write(replace(failed, content_type=content_type, content_encoding=content_encoding))

    def _write(self, meta: ResultMeta) -> None:
        with self._reaching("Storing a result") as backend:
            if isinstance(backend, BaseKeyValueStoreBackend):
                payload = encoding(lambda: backend.encode(document_of(meta, backend)))
                backend._set_with_state(backend.get_key_for_task(meta.task_id), payload, meta.status)  # noqa: SLF001  as Celery stores
            else:
                value = encoding(lambda: value_of(meta, backend))
                request = Request(meta)
                backend._store_result(meta.task_id, value, meta.status, traceback=plain(meta.traceback), request=request)  # noqa: SLF001

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what is kept of these tasks: in one go where the store can, else one after the other."""
        with self._reaching("Reading results") as backend:
            if isinstance(backend, BaseKeyValueStoreBackend):
                found = {task_id: decoding(backend, kept) for task_id, kept in _kept(backend, task_ids) if kept}
            else:
                found = {task_id: backend._get_task_meta_for(task_id) for task_id in task_ids}  # noqa: SLF001  as Celery reads
            return {
                task_id: meta_of({**document, "task_id": task_id}, backend)
                for task_id, document in found.items()
                if document["status"] != states.PENDING
            }

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each task's meta once it is ready. Looks often at first, then ever less, twice a second at least."""
        return polled(lambda left: self.fetch(left).values(), task_ids, timeout, Pauses(_FIRST, _LONGEST))

    def forget(self, task_ids: Collection[str]) -> None:
        """Delete what is kept of these tasks."""
        for task_id in task_ids:
            with self._reaching("Forgetting a result") as backend:
                self._delete(backend, backend._forget, task_id)  # noqa: SLF001  the public one also clears a cache that is off

    @staticmethod
    def _delete(backend: Any, delete: Callable[[str], None], id: str) -> None:
        try:
            delete(id)
        except Exception as error:
            # Some classes raise errors of their own for what isn't there.
            if isinstance(error, SoftTimeLimitExceeded) or not isinstance(backend, BaseKeyValueStoreBackend) or _there(backend, id):
                raise

    # ---- groups

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Keep a group's result tuple, as Celery does. Not every store can: NotImplementedError where Celery has no room for it."""
        self.forget_group(group_id)
        with self._reaching("Storing a group") as backend:
            backend._save_group(group_id, result_from_tuple(members, backend.app))  # noqa: SLF001  as Celery stores

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Read a stored group's result tuple."""
        with self._reaching("Reading a group") as backend:
            self._groups_or_refuse(backend)
            kept = backend._restore_group(group_id)  # noqa: SLF001  as Celery reads
            if not kept:
                return None
            group = kept["result"]
            # Some classes keep no more than the members' ids.
            members: Sequence[Any] = (
                group.as_tuple() if hasattr(group, "as_tuple") else [[group_id, None], [each.as_tuple() for each in group]]
            )
            return members

    def forget_group(self, group_id: str) -> None:
        """Delete a stored group."""
        with self._reaching("Forgetting a group") as backend:
            self._groups_or_refuse(backend)
            self._delete(backend, backend._delete_group, group_id)  # noqa: SLF001  as Celery deletes

    def _groups_or_refuse(self, backend: Any) -> None:
        if not hasattr(backend, "_restore_group"):
            name = type(backend).__name__
            raise NotImplementedError(f"RESULT_BACKEND {self._shown} keeps no groups: Celery's {name} has no place for them")

    # ---- chords: counted in the database

    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Expect the parts of all of them."""
        # Results can't be sought by their group here: the ids of the parts lie beside the counter.
        self._chords.store_groups({_parts_of(chord.group_id): list(chord.parts) for chord in chords})
        self._chords.open_chords(chords)

    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Expect ``by`` more parts."""
        self._chords.grow_chord(group_id, by, parts)

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count these parts, each once; return the chords that are complete now, with the results that lie in the store."""
        # A part that was done well, and is delivered again and fails then, has not failed: its success is what was kept.
        held = self.fetch({meta.task_id for meta in metas if meta.status in states.EXCEPTION_STATES})
        done = [kept if (kept := held.get(meta.task_id)) and kept.status == states.SUCCESS else meta for meta in metas]
        fresh = {
            meta.task_id: replace(meta, group_id=told.group_id, group_index=told.group_index)
            for meta, told in zip(done, metas, strict=True)
        }
        return self._complete(self._chords.count_chord_parts(list(fresh.values())), fresh)

    def _complete(self, ready: Sequence[ReadyChord], fresh: Mapping[str, ResultMeta]) -> list[ReadyChord]:
        # The database knows which parts there are and their order, and calls those lost whose results it doesn't have.
        elsewhere = [part.task_id for chord in ready for part in chord.parts if part.task_id not in fresh]
        known = {**self.fetch(elsewhere), **fresh}
        return [replace(chord, parts=[known.get(part.task_id, part) for part in chord.parts]) for chord in ready]

    def close_chords(self, group_ids: Collection[str]) -> None:
        """Note that the bodies of these chords have been sent."""
        self._chords.close_chords(group_ids)
        self._chords.forget_groups([_parts_of(group_id) for group_id in group_ids])

    def waiting_chords(self, before: datetime, *, limit: int) -> list[OpenChord]:
        """Return chords that still wait for parts."""
        return self._chords.waiting_chords(before, limit=limit)

    def find_chords(self, group_ids: Collection[str]) -> list[OpenChord]:
        """Return those of these chords that still wait for parts."""
        return self._chords.find_chords(group_ids)

    def recount_chords(self, group_ids: Collection[str]) -> list[ReadyChord]:
        """Count results of these chords' parts that were stored and not counted."""
        metas: list[ResultMeta] = []
        parts = self._chords.fetch_groups([_parts_of(group_id) for group_id in group_ids])
        stored = self.fetch({task_id for known in parts.values() for task_id in known})
        for group_id in group_ids:
            known = parts.get(_parts_of(group_id), ())
            metas += (replace(stored[task_id], group_id=group_id, group_index=n) for n, task_id in enumerate(known) if task_id in stored)
        return self.count_chord_parts(metas)

    # ---- retention

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete old chords, and every ten minutes, with Celery's own clean-up, what is older than RESULT_EXPIRES."""
        now = clock.monotonic()
        if not self._cleaned or now >= self._cleaned + _CLEAN_EVERY:
            self._cleaned = now
            with self._reaching("Deleting expired results") as backend:
                backend.cleanup()
        return self._chords.expire(before, limit=limit)

    def close(self) -> None:
        """Forget Celery's backend objects, which close their connections as they go."""
        kept, self._celery = self._celery, None
        backend: Any = kept[1]._backend if kept is not None and kept[0] == os.getpid() else None  # noqa: SLF001  see _backend
        if (sessions := getattr(backend, "session_manager", None)) is not None:
            sessions.invalidate(backend.url)
        self._chords.close()


def _kept(backend: Any, task_ids: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield each task's id and its payload, or None."""
    keys = {task_id: backend.get_key_for_task(task_id) for task_id in task_ids}
    try:
        found = backend.mget(list(keys.values())) if keys else {}
    except NotImplementedError:
        found = map(backend.get, keys.values())
    if hasattr(found, "get"):
        # A mapping has only those that are there.
        found = map(found.get, keys.values())
    yield from zip(keys, found, strict=True)


def _there(backend: Any, id: str) -> bool:
    return any(backend.get(key(id)) is not None for key in (backend.get_key_for_task, backend.get_key_for_group))


def _parts_of(group_id: str) -> str:
    """Name the row of the ids of a chord's parts, among those of groups."""
    return f"parts of {group_id}"
