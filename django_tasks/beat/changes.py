"""Keeps the agenda in step with the rows and the declared entries: what has changed is read again, the rest stays."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from django_tasks import clock
from django_tasks.beat import declared, rows, runs, starts
from django_tasks.beat.agenda import Agenda
from django_tasks.beat.entries import BrokenEntryError, Entry, schedule_zone
from django_tasks.beat.reports import Reports

logger = logging.getLogger("django_tasks.beat")

#: A look at every row, in case rows were changed without a word (bulk_create, SQL).
SWEEP: Final = timedelta(minutes=1)
#: Looks at every row take at most a tenth of the time; between them, rows that were saved are found by their date.
_PATIENCE: Final = 10
#: Transactions commit later than the dates that they write.
_LATENESS: Final = timedelta(seconds=10)


class Reader:
    """Reads entries into an agenda: all at first, then what has changed."""

    def __init__(self, agenda: Agenda, reports: Reports, *, interval: timedelta) -> None:
        self._agenda = agenda
        self._reports = reports
        self._interval = interval
        self._zone = schedule_zone()
        self._declared = declared.declarations()
        #: What each row that was read looked like, by primary key.
        self._known: dict[int, tuple[Any, ...]] = {}
        self._declared_rows: dict[str, tuple[int, bool] | None] = {}
        self._last_change: datetime | None = None
        self._behind = False
        self._in_step_at = self._next_look = self._next_sweep = self._next_reading = clock.EPOCH

    @property
    def declared_names(self) -> list[str]:
        """Names of the entries from the project's code."""
        return list(self._declared)

    def load(self, now: datetime, *, since: datetime) -> None:
        """Read everything. Declared entries that never ran are due from ``since`` on."""
        self._last_change = rows.last_change() if rows.installed() else None
        self._in_step_at = now
        self._read_declared(since)
        self._read_all(now, first=True)
        self._next_look = now + self._interval

    def look(self, now: datetime) -> None:
        """Read what has changed, if it is time to look."""
        if now < self._next_look or not rows.installed():
            return
        last_change = rows.last_change()
        changed = last_change != self._last_change
        if now >= self._next_reading and (changed or self._behind or now >= self._next_sweep):
            if changed:
                logger.info("The schedule has changed; reading it again")
            self._read_declared(self._in_step_at)
            self._read_all(now, first=False)
        elif changed:
            self._read(rows.enabled(changed_since=self._in_step_at - _LATENESS), first=False)
            self._behind = True
        self._last_change = last_change
        self._next_look = now + self._interval
        if not self._behind:
            self._in_step_at = now

    def lost(self, entry: Entry) -> None:
        """Something else has happened to a row than what was read of it: take it out, and read it anew."""
        self._agenda.remove(entry.name)
        if entry.pk is not None:
            self._known.pop(entry.pk, None)
        self._declared_rows.pop(entry.name, None)
        self._behind = True

    def _read_all(self, now: datetime, *, first: bool) -> None:
        if not rows.installed():
            return
        started = clock.monotonic()
        found = rows.enabled()
        present = {columns[0] for columns in found}
        for key in self._known.keys() - present:
            self._drop(self._known.pop(key)[1])
        self._read(found, first=first)
        starts.prune([columns[0] for columns in found if rows.first_interval(columns) is not None])
        took = timedelta(seconds=clock.monotonic() - started)
        self._next_reading = now + _PATIENCE * took
        self._next_sweep = now + max(SWEEP, 100 * took)
        self._behind = False

    def _read(self, found: Iterable[Sequence[Any]], *, first: bool) -> None:
        fresh = [tuple(row) for row in found if self._known.get(row[0]) != tuple(row[:-1])]
        # All old names first: two rows may have changed theirs for each other's.
        for columns in fresh:
            if (old := self._known.get(columns[0])) is not None:
                self._drop(old[1])
        silently_enabled = []
        began = starts.settle({columns[0]: new for columns in fresh if (new := rows.first_interval(columns)) is not None})
        for columns in fresh:
            key, name = columns[0], columns[1]
            appeared = not first and key not in self._known
            self._known[key] = columns[:-1]
            if name in self._declared:
                continue
            entry = self._entry(columns, began.get(key))
            if entry is None:
                continue
            # Switched on by an update that leaves its date as it was: what was due before is not wanted.
            if appeared and entry.since is not None and entry.since < self._in_step_at:
                entry = replace(entry, since=self._in_step_at)
                silently_enabled.append(key)
            self._place(entry)
        rows.mark_enabled(silently_enabled, self._in_step_at)

    def _entry(self, columns: Sequence[Any], start: datetime | None) -> Entry | None:
        try:
            return rows.read(columns, zone=self._zone, start=start)
        except BrokenEntryError as error:
            self._reports.broken(columns[1], str(error))
            return None

    def _drop(self, name: str) -> None:
        self._reports.forget(name)
        if name not in self._declared:
            self._agenda.remove(name)

    def _read_declared(self, since: datetime) -> None:
        if not self._declared:
            return
        found = {}
        if rows.installed():
            found = {columns[1]: (columns[0], on) for columns, on in rows.named(self._declared)}
        changed = [name for name in self._declared if name not in self._declared_rows or self._declared_rows[name] != found.get(name)]
        last_due = runs.last_due(changed)
        for name in changed:
            self._read_one_declared(name, found.get(name), last_due.get(name), since)
            self._declared_rows[name] = found.get(name)

    def _read_one_declared(self, name: str, row: tuple[int, bool] | None, last_due: datetime | None, since: datetime) -> None:
        """Read an entry of the code. A row of its name, as django-celery-beat makes one, can only switch it on and off."""
        self._reports.forget(name)
        self._agenda.remove(name)
        if row is not None and not row[1]:
            return
        switched_on = self._declared_rows.get(name) not in {None, row}
        try:
            since = since if last_due is None or switched_on else last_due
            entry = declared.read(name, self._declared[name], zone=self._zone, since=since, pk=None if row is None else row[0])
        except BrokenEntryError as error:
            self._reports.broken(name, str(error))
            return
        if entry is not None:
            if row is not None:
                logger.debug("Periodic task %r is declared in the project's code; its row can only switch it off", name)
            self._place(entry)

    def _place(self, entry: Entry) -> None:
        try:
            due = entry.next_run(entry.since or self._in_step_at)
        except Exception as error:  # noqa: BLE001  a schedule class of the project, or numbers beyond the calendar
            self._reports.broken(entry.name, f"its schedule fails with {type(error).__name__}: {error}")
            return
        # Rows that expire are looked at once more then, to be switched off.
        self._agenda.put(entry, due or (entry.expires if entry.pk is not None else None))
