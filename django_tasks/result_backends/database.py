"""``db://ALIAS``: results are rows of ``django_tasks.models.TaskResult``, written many at a time."""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Final, Self

from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db import OperationalError as DjangoOperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks import clock, exceptions, states
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.messages import WireSignature
from django_tasks.models import ChordCounter, ChordPart, GroupResult, TaskResult
from django_tasks.result_backends.backend import ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.chordrows import count_parts, grow, open_counter
from django_tasks.result_backends.resultrows import FETCHED, TABLE, meta_of, store_rows
from django_tasks.serializers import dumps_json, loads_json
from django_tasks.urls import URL

#: Seconds between two looks of a waiting reader: at first, and at most.
POLL: Final = (0.002, 0.25)
_READY: Final = ", ".join(f"'{state}'" for state in sorted(states.READY_STATES))


class DatabaseResultBackend(ResultBackend):
    """Results as rows of the Django database ``alias``; stored in the caller's transaction if one is open."""

    reads: ClassVar[bool] = True

    def __init__(self, alias: str = "default") -> None:
        if alias not in connections:
            raise ImproperlyConfigured(f"db://{alias}: DATABASES has no {alias!r}; there are {', '.join(connections)}")
        self.alias: str = alias

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``db://ALIAS``; ``db://`` is ``db://default``."""
        return cls(url.alias)

    @contextmanager
    def _reaching(self, doing: str) -> Iterator[BaseDatabaseWrapper]:
        connection = connections[self.alias]
        try:
            yield connection
        except (DjangoOperationalError, InterfaceError) as error:
            if not connection.in_atomic_block and connection.connection is not None:
                connection.close_if_unusable_or_obsolete()
            hint = " Has 'manage.py migrate' been run on it?" if "no such table" in str(error) else ""
            raise OperationalError(f"{doing} failed on the database {self.alias!r}: {error}{hint}") from error

    # ---- results

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Keep all of them: one statement, in the caller's transaction if one is open.

        SUCCESS is never replaced, and STARTED or RETRY replace no finished state. What a later write leaves out (name,
        arguments, worker) stays. A row that the database refuses is stored as the FAILURE that says so.
        """
        if not metas:
            return
        with self._reaching(f"Storing {len(metas)} result(s)") as connection:
            try:
                with transaction.atomic(using=self.alias, savepoint=len(metas) > 1 and connection.vendor == "postgresql"):
                    store_rows(connection, metas)
            except (DjangoOperationalError, InterfaceError):
                raise
            except DatabaseError as error:
                if len(metas) == 1 and connection.in_atomic_block:
                    raise
                self._store_singly(connection, metas, error)

    def _store_singly(self, connection: BaseDatabaseWrapper, metas: Sequence[ResultMeta], error: DatabaseError) -> None:
        for meta in metas:
            try:
                with transaction.atomic(using=self.alias):
                    store_rows(connection, [meta])
            except (DjangoOperationalError, InterfaceError):
                raise
            except DatabaseError as refused:
                with transaction.atomic(using=self.alias):
                    store_rows(connection, [_refused(meta, refused)])
        del error

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what is kept of these tasks."""
        return {meta.task_id: meta for meta in self._select("", task_ids)}

    def _select(self, condition: str, task_ids: Collection[str]) -> Iterator[ResultMeta]:
        wanted = list(task_ids)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ", ".join(["%s"] * len(part))
            with self._reaching("Reading results") as connection, connection.cursor() as cursor:
                cursor.execute(f"SELECT {FETCHED} FROM {TABLE} WHERE task_id IN ({marks}){condition}", part)  # noqa: S608
                rows = cursor.fetchall()
            yield from map(meta_of, rows)

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each task's meta once it is ready. Looks often at first and then less and less, four times a second at least."""
        left = set(task_ids)
        end = None if timeout is None else clock.monotonic() + timeout
        pause, longest = POLL
        while left:
            found = list(self._select(f" AND status IN ({_READY})", left))
            for meta in found:
                left.discard(meta.task_id)
                yield meta
            if not left:
                return
            if end is not None and clock.monotonic() >= end:
                raise exceptions.TimeoutError(f"{len(left)} task(s) were not done within {timeout}s, {next(iter(left))} for one")
            pause = POLL[0] if found else min(pause * 1.3, longest)
            time.sleep(pause if end is None else max(0.0, min(pause, end - clock.monotonic())))

    def forget(self, task_ids: Collection[str]) -> None:
        """Delete what is kept of these tasks."""
        with self._reaching("Forgetting results"):
            TaskResult.objects.using(self.alias).filter(task_id__in=list(task_ids)).delete()

    # ---- groups

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Keep a group's result tuples."""
        with self._reaching("Storing a group"):
            GroupResult.objects.using(self.alias).update_or_create(
                group_id=group_id,
                defaults={"result": dumps_json(members), "date_done": clock.now()},
                create_defaults={"result": dumps_json(members), "date_created": clock.now()},
            )

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Read a stored group's result tuples."""
        with self._reaching("Reading a group"):
            text = GroupResult.objects.using(self.alias).filter(group_id=group_id).values_list("result", flat=True).first()
        return None if text is None else loads_json(text)

    def forget_group(self, group_id: str) -> None:
        """Delete a stored group."""
        with self._reaching("Forgetting a group"):
            GroupResult.objects.using(self.alias).filter(group_id=group_id).delete()

    # ---- chords

    def open_chord(self, group_id: str, size: int, body: WireSignature) -> None:
        """Expect ``size`` parts before the body."""
        with self._reaching("Opening a chord"):
            open_counter(self.alias, group_id, size, dumps_json(body))

    def grow_chord(self, group_id: str, by: int) -> None:
        """Expect ``by`` more parts."""
        with self._reaching("Growing a chord"):
            grow(self.alias, group_id, by)

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count these parts, each once; return the chords that are complete or have failed now."""
        with self._reaching("Counting chord parts"):
            ready = count_parts(self.alias, metas)
            return [ReadyChord(group_id, json.loads(body), self._parts(group_id)) for group_id, body in ready]

    def _parts(self, group_id: str) -> list[ResultMeta]:
        parts = ChordPart.objects.using(self.alias).filter(group_id=group_id).order_by("position", "id")
        ids = list(parts.values_list("task_id", flat=True))
        metas = self.fetch(ids)
        return [metas[task_id] for task_id in ids if task_id in metas]

    # ---- retention

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete up to ``limit`` results, and as many old groups and chords."""
        with self._reaching("Deleting expired results"):
            done = TaskResult.objects.using(self.alias).filter(date_done__lt=before).order_by("date_done")
            count = _delete(done.values_list("id", flat=True)[:limit], TaskResult, self.alias)
            _delete(
                GroupResult.objects.using(self.alias).filter(date_created__lt=before).values_list("id", flat=True)[:limit],
                GroupResult,
                self.alias,
            )
            chords = list(ChordCounter.objects.using(self.alias).filter(date_created__lt=before).values_list("group_id", flat=True)[:limit])
            if chords:
                ChordPart.objects.using(self.alias).filter(group_id__in=chords).delete()
                ChordCounter.objects.using(self.alias).filter(group_id__in=chords).delete()
            return count


def _delete(ids: Any, model: Any, alias: str) -> int:
    found = list(ids)
    return int(model.objects.using(alias).filter(id__in=found).delete()[0]) if found else 0


def _refused(meta: ResultMeta, error: DatabaseError) -> ResultMeta:
    wire = {
        "exc_type": "BackendStoreError",
        "exc_message": [f"the database refused the result: {error}"],
        "exc_module": "celery.exceptions",
    }
    return ResultMeta(
        task_id=meta.task_id[:255],
        status=states.FAILURE,
        result=dumps_json(wire),
        date_done=meta.date_done or clock.now(),
        name=(meta.name or "")[:255],
        group_id=meta.group_id,
        group_index=meta.group_index,
    )
