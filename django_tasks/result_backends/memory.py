"""``memory://``: results in a dictionary of this process; for tests and eager projects."""

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Final, Self

from django_tasks import clock, exceptions, states
from django_tasks.messages import WireSignature
from django_tasks.result_backends.backend import ReadyChord, ResultBackend, ResultMeta
from django_tasks.urls import URL

_UNFINISHED: Final = frozenset({states.STARTED, states.RETRY})


class MemoryResultBackend(ResultBackend):
    """Results as long as the process lives. Backends of one name share them."""

    reads: ClassVar[bool] = True
    _named: ClassVar[dict[str, "MemoryResultBackend"]] = {}

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._metas: dict[str, ResultMeta] = {}
        self._groups: dict[str, Sequence[Any]] = {}
        self._chords: dict[str, tuple[int, WireSignature]] = {}
        self._parts: dict[str, dict[str, ResultMeta]] = {}

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``memory://NAME``."""
        return cls._named.setdefault(url.alias, cls())  # type: ignore[return-value]  one class shares the names

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Keep all of them."""
        with self._changed:
            for meta in metas:
                held = self._metas.get(meta.task_id)
                if held is None or not _stays(held, meta):
                    self._metas[meta.task_id] = meta if held is None else _completed(meta, held)
            self._changed.notify_all()

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what is kept."""
        with self._changed:
            return {task_id: self._metas[task_id] for task_id in task_ids if task_id in self._metas}

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each meta once it is ready."""
        left = set(task_ids)
        end = None if timeout is None else clock.monotonic() + timeout
        while left:
            with self._changed:
                ready = [self._metas[one] for one in left if one in self._metas and self._metas[one].status in states.READY_STATES]
                if not ready and not self._changed.wait(None if end is None else max(0.0, end - clock.monotonic())):
                    raise exceptions.TimeoutError(f"{len(left)} task(s) were not done within {timeout}s, {next(iter(left))} for one")
            for meta in ready:
                left.discard(meta.task_id)
                yield meta

    def forget(self, task_ids: Collection[str]) -> None:
        """Delete what is kept of these tasks."""
        with self._changed:
            for task_id in task_ids:
                self._metas.pop(task_id, None)

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Keep a group."""
        self._groups[group_id] = members

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Read a group."""
        return self._groups.get(group_id)

    def forget_group(self, group_id: str) -> None:
        """Delete a group."""
        self._groups.pop(group_id, None)

    def open_chord(self, group_id: str, size: int, body: WireSignature) -> None:
        """Expect ``size`` parts."""
        with self._changed:
            self._chords[group_id] = (size, body)
            self._parts.setdefault(group_id, {})

    def grow_chord(self, group_id: str, by: int) -> None:
        """Expect more parts."""
        with self._changed:
            if group_id in self._chords:
                size, body = self._chords[group_id]
                self._chords[group_id] = (size + by, body)

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count parts, each once."""
        with self._changed:
            touched = dict.fromkeys(meta.group_id for meta in metas if meta.group_id in self._chords)
            for meta in metas:
                if meta.group_id is not None and meta.group_id in self._chords:
                    self._parts[meta.group_id].setdefault(meta.task_id, meta)
            return [ready for group_id in touched if group_id is not None and (ready := self._complete(group_id)) is not None]

    def _complete(self, group_id: str) -> ReadyChord | None:
        size, body = self._chords[group_id]
        parts = list(self._parts[group_id].values())
        if len(parts) < size and all(part.status == states.SUCCESS for part in parts):
            return None
        del self._chords[group_id], self._parts[group_id]
        return ReadyChord(group_id, body, sorted(parts, key=lambda part: part.group_index or 0))

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete old results."""
        with self._changed:
            old = [meta.task_id for meta in self._metas.values() if meta.date_done is not None and meta.date_done < before][:limit]
            for task_id in old:
                del self._metas[task_id]
            return len(old)


def _stays(held: ResultMeta, new: ResultMeta) -> bool:
    return held.status == states.SUCCESS or (held.status in states.READY_STATES and new.status in _UNFINISHED)


def _completed(new: ResultMeta, held: ResultMeta) -> ResultMeta:
    details = ("name", "args", "kwargs", "worker", "queue", "root_id", "parent_id", "group_id", "periodic_task_name")
    known = {name: getattr(held, name) for name in details if getattr(new, name) is None}
    return replace(new, **known, date_started=held.date_started or new.date_started)
