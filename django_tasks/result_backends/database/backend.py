"""``DatabaseResultBackend``: what a result backend must do, each by the room that knows how."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Final, Self

from django.db import connections

from django_tasks.dbaccess import reaching, trying_again
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.models.results import TaskResult
from django_tasks.result_backends.backend import NewChord, OpenChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.database import chords as counting
from django_tasks.result_backends.database import groups as saved
from django_tasks.result_backends.database import reading, reopening, retention, writing
from django_tasks.urls import URL, mask_alias

#: Ids of one DELETE.
_CHUNK: Final = 500


class DatabaseResultBackend(ResultBackend):
    """Results as rows of the Django database ``alias``, written in the caller's transaction if one is open.

    A task has no row before it starts or ends: until then nothing is known of it, and its state is PENDING.
    """

    alias: str

    def __init__(self, alias: str = "default") -> None:
        if alias not in connections:
            known = list(connections)
            near = get_close_matches(alias, known, n=1)
            hint = f"did you mean db://{near[0]}?" if near else f"there are {', '.join(known)}"
            raise ImproperlyConfigured(f"RESULT_BACKEND db://{mask_alias(alias)}: DATABASES has no {mask_alias(alias)!r}; {hint}")
        self.alias = alias

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``db://ALIAS``; ``db://`` is ``db://default``."""
        return cls(url.alias)

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Keep all of them with one statement, by the rules of ``merging``.

        A result that the database refuses is kept as a FAILURE that says so; the others of the batch don't suffer.
        """
        if metas:
            with reaching(self.alias, f"Storing {len(metas)} result(s)") as connection:
                writing.store(connection, metas)

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what is kept of these tasks."""
        return {meta.task_id: meta for meta in reading.fetch(self.alias, task_ids)}

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each task's meta once it is ready. Looks often at first, then ever less, four times a second at least.

        RuntimeError in a transaction that can't see what others commit (any on SQLite, REPEATABLE READ elsewhere).
        """
        return reading.wait(self.alias, task_ids, timeout)

    def forget(self, task_ids: Collection[str]) -> None:
        """Delete what is kept of these tasks."""
        ids = sorted(task_ids)
        with reaching(self.alias, "Forgetting results"):
            for start in range(0, len(ids), _CHUNK):
                TaskResult.objects.using(self.alias).filter(task_id__in=ids[start : start + _CHUNK]).delete()

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Keep a group's result tuples under its id."""
        self.store_groups({group_id: members})

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Read a stored group's result tuples."""
        return self.fetch_groups([group_id]).get(group_id)

    def forget_group(self, group_id: str) -> None:
        """Delete a stored group."""
        self.forget_groups([group_id])

    def store_groups(self, groups: Mapping[str, Sequence[Any]]) -> None:
        """Keep the result tuples of several groups, with one statement."""
        with reaching(self.alias, f"Storing {len(groups)} group(s)"):
            saved.store(self.alias, groups)

    def fetch_groups(self, group_ids: Collection[str]) -> dict[str, Sequence[Any]]:
        """Read the result tuples of several groups."""
        with reaching(self.alias, "Reading groups"):
            return saved.fetch(self.alias, group_ids)

    def forget_groups(self, group_ids: Collection[str]) -> None:
        """Delete several stored groups."""
        with reaching(self.alias, "Forgetting groups"):
            saved.forget(self.alias, group_ids)

    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Expect the parts of all of them, with one statement, or two where some have a shape."""
        with reaching(self.alias, f"Opening {len(chords)} chord(s)"):
            counting.open_chords(self.alias, chords)

    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Expect ``by`` more parts."""
        with reaching(self.alias, "Growing a chord"):
            counting.grow_chord(self.alias, group_id, by, parts)

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count these parts, each once; return the chords that are complete now, or have failed now."""
        with reaching(self.alias, "Counting chord parts") as connection:
            return trying_again(connection, lambda: counting.count_parts(self.alias, metas))

    def close_chords(self, group_ids: Collection[str]) -> None:
        """Note that the bodies of these chords have been sent."""
        if group_ids:
            with reaching(self.alias, "Closing chords") as connection:
                trying_again(connection, lambda: counting.close_chords(self.alias, group_ids))

    def reclaim_chords(self, limit: int) -> list[ReadyChord]:
        """Claim up to ``limit`` chords anew that somebody completed and did not close in time."""
        with reaching(self.alias, "Looking for chords left behind") as connection:
            return trying_again(connection, lambda: counting.reclaim(self.alias, limit))

    def waiting_chords(self, before: datetime, *, limit: int) -> list[OpenChord]:
        """Return chords that still wait for parts."""
        with reaching(self.alias, "Looking for open chords"):
            return counting.waiting(self.alias, before, limit)

    def find_chords(self, group_ids: Collection[str]) -> list[OpenChord]:
        """Return those of these chords that still wait for parts."""
        with reaching(self.alias, "Looking for chords"):
            return counting.find(self.alias, group_ids)

    def recount_chords(self, group_ids: Collection[str]) -> list[ReadyChord]:
        """Count results of these chords' parts that were stored and not counted.

        There is no index on groups, since every task would pay for it: this reads through what ended since the oldest of
        these chords was opened.
        """
        with reaching(self.alias, "Counting the parts of chords again") as connection:
            return trying_again(connection, lambda: counting.recount(self.alias, group_ids))

    def reopen(self, task_ids: Collection[str], parts: Mapping[str, Collection[str]]) -> int:
        """Make failed tasks PENDING again, and chords wait again, in one transaction, or in the caller's."""
        with reaching(self.alias, "Taking failures back") as connection:
            return trying_again(connection, lambda: reopening.reopen(self.alias, task_ids, parts))

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete up to ``limit`` old results, groups and chords; what an unfinished chord needs stays."""
        with reaching(self.alias, "Deleting expired results") as connection:
            return trying_again(connection, lambda: retention.expire(self.alias, before, limit=limit))
