"""What every result backend can do, and the record it keeps of a task."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django_tasks import clock
from django_tasks.messages import WireSignature
from django_tasks.records import quick
from django_tasks.result_backends.celerysnames import OneTask


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class ResultMeta:
    """Celery's task meta: all that is kept of one task.

    ``result`` is text in the form named by ``content_type`` and ``content_encoding`` (``base64`` for binary
    serializers); ``encoding`` makes and reads it. ``args`` and ``kwargs`` are JSON texts, kept when
    ``RESULT_EXTENDED`` is on. ``children`` are Celery's result tuples. ``chord`` is the body's wire signature
    when this task is part of a chord. ``reply_to`` is where its caller
    wants to be told, for backends that send results instead of keeping them. ``stamps`` are kept when ``RESULT_EXTENDED`` is on.
    ``follows`` is what else the message of a task that failed said, and what was to follow it: with it the task can be sent once
    more as it was. Only the database keeps it.
    """

    task_id: str
    status: str
    result: str | None = None
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    traceback: str | None = None
    children: Sequence[Any] | None = None
    date_done: datetime | None = None
    date_started: datetime | None = None
    #: When the task was sent, as far as its message says: for the rows of the database. It is not read back.
    date_created: datetime | None = None
    name: str | None = None
    args: str | None = None
    kwargs: str | None = None
    worker: str | None = None
    queue: str | None = None
    retries: int = 0
    runtime: float | None = None
    group_id: str | None = None
    group_index: int | None = None
    root_id: str | None = None
    parent_id: str | None = None
    periodic_task_name: str | None = None
    chord: WireSignature | None = None
    reply_to: str | None = None
    stamps: Mapping[str, Any] | None = None
    follows: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ReadyChord:
    """A chord all of whose parts are done: its body, to be sent with their results by exactly one caller.

    ``parts`` are the header's metas in order; when one of them failed, the body is not sent and fails. ``shape`` are the header's
    result tuples where they were kept under the group's id: the body's argument has that shape.
    """

    group_id: str
    body: WireSignature
    parts: Sequence[ResultMeta]
    shape: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class NewChord:
    """A chord to be opened: it expects ``size`` parts before its body.

    ``parts`` are their ids, for a backend that needs them to find results that were stored and not counted. ``shape`` are the
    header's result tuples, where it has groups in it.
    """

    group_id: str
    size: int
    body: WireSignature
    parts: Sequence[str] = ()
    shape: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class OpenChord:
    """A chord that still waits: how many parts it expects, how many have been counted, and since when. ``body`` is what it will send."""

    group_id: str
    size: int
    counted: int
    opened: datetime
    body: WireSignature


class ResultBackend(OneTask, ABC):
    """Where outcomes are kept. Safe for threads; connects on first use; forgets connections in a fork."""

    #: Outcomes can be read back from another process than the one that stored them.
    reads: ClassVar[bool] = True
    #: Results are rows of this Django database alias, so they can share a transaction with its broker.
    alias: str | None = None

    @property
    def memory(self) -> str | None:
        """Name the server whose memory results take, if it can be full; a broker in the same one frees some by settling."""
        return None

    @property
    def reply_to(self) -> str:
        """Where workers send this process's results, for backends that send them: goes into its messages. Empty elsewhere."""
        return ""

    @abstractmethod
    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Keep all of them in one round trip. A SUCCESS that is already kept is never replaced.

        Raises ``OperationalError`` when the backend can't be reached.
        """

    @abstractmethod
    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what is kept of these tasks; unknown ones are absent."""

    @abstractmethod
    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each task's meta once it is ready, as they become so.

        Raises ``exceptions.TimeoutError`` when ``timeout`` seconds pass before the last one.
        """

    @abstractmethod
    def forget(self, task_ids: Collection[str]) -> None:
        """Delete what is kept of these tasks."""

    @abstractmethod
    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Keep a group's result tuples under its id."""

    @abstractmethod
    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Read a stored group's result tuples; None for an unknown group."""

    @abstractmethod
    def forget_group(self, group_id: str) -> None:
        """Delete a stored group."""

    def store_groups(self, groups: Mapping[str, Sequence[Any]]) -> None:
        """Keep the result tuples of several groups: one after the other, where a backend can't do it together."""
        for group_id, members in groups.items():
            self.store_group(group_id, members)

    def fetch_groups(self, group_ids: Collection[str]) -> dict[str, Sequence[Any]]:
        """Read the result tuples of several groups; unknown ones are absent."""
        found = ((group_id, self.fetch_group(group_id)) for group_id in group_ids)
        return {group_id: members for group_id, members in found if members is not None}

    def forget_groups(self, group_ids: Collection[str]) -> None:
        """Delete several stored groups."""
        for group_id in group_ids:
            self.forget_group(group_id)

    def check_chords(self) -> None:
        """Raise, saying why, where this backend can't count the parts of chords: asked before a chain with a chord in it is sent."""

    @abstractmethod
    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Expect the parts of all of them, and keep their shapes. Called before the headers are published.

        Opening a chord again changes nothing.
        """

    @abstractmethod
    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Expect ``by`` more parts (``Task.add_to_chord``); where ``parts`` names them, those that it was not told of before."""

    @abstractmethod
    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count these finished parts (each task once, however often it is delivered).

        Returns the chords that are complete now: each chord to one caller, who sends its body and then calls
        ``close_chords``. Where that call doesn't come within the backend's patience, the caller is taken for dead, and
        counting a part again (its message is delivered again, since it was not settled) returns the chord once more.
        """

    def close_chords(self, group_ids: Collection[str]) -> None:
        """Note that the bodies of these chords have been sent, or have failed: nobody gets them again."""

    def reclaim_chords(self, limit: int) -> list[ReadyChord]:
        """Return up to ``limit`` chords that somebody completed and did not close in time; they are the caller's now.

        For maintenance: the message of a part may have been settled while a dead caller's claim still held. None where a
        backend can't look for them.
        """
        return []

    def waiting_chords(self, before: datetime, *, limit: int) -> list[OpenChord]:
        """Return up to ``limit`` chords that were opened before this time and still wait for parts, the oldest first.

        None where a backend can't look for them.
        """
        return []

    def find_chords(self, group_ids: Collection[str]) -> list[OpenChord]:
        """Return those of these chords that still wait for parts; none where a backend can't look for them."""
        wanted = set(group_ids)
        return [chord for chord in self.waiting_chords(clock.now() + timedelta(days=1), limit=sys.maxsize) if chord.group_id in wanted]

    def recount_chords(self, group_ids: Collection[str]) -> list[ReadyChord]:
        """Count again from the stored results of these chords' parts; return those that are complete now, like ``count_chord_parts``.

        A part's result may lie there uncounted: its process died between the two, and its message does not come again.
        None where a backend can't find them.
        """
        return []

    def reopen(self, task_ids: Collection[str], parts: Mapping[str, Collection[str]]) -> int:
        """Make these failed tasks PENDING again; let chords wait again, each for those of its ``parts`` that have not succeeded.

        Returns how many of the tasks were failed until now; others stay as they are. Raises NotImplementedError where a backend
        can't take back what it has told.
        """
        raise NotImplementedError(
            f"{type(self).__name__} can't let a workflow go on from a task that failed; RESULT_BACKEND = 'db://default' can."
            " Nothing was sent"
        )

    @abstractmethod
    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete up to ``limit`` results finished before this time; return how many. 0 where the store does it."""

    def close(self) -> None:
        """Close this process's connections. The next call opens new ones."""
