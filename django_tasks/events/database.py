"""Events as rows of a Django database, for a while: one INSERT a batch, and receivers that look for what is new."""
# ruff: noqa: S608  statements are put together from constants; values are parameters

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Max, Q

from django_tasks import clock
from django_tasks.conf import settings
from django_tasks.dbaccess import check_alias, delete, reaching, trying_again
from django_tasks.events.channel import Event, EventChannel, EventReceiver
from django_tasks.events.routingkeys import EVERYTHING, matching
from django_tasks.exceptions import DecodeError
from django_tasks.models import Event as EventRow
from django_tasks.serializers import dumps_json, loads_json
from django_tasks.urls import URL

logger = logging.getLogger("django_tasks.events")

#: Rows of one INSERT.
_CHUNK: Final = 500
#: Most events that a receiver returns at a time.
_AT_ONCE: Final = 1000
#: Seconds between two looks: soon again after something came, and less and less often while nothing does.
_FIRST_PAUSE: Final = 0.02
_LAST_PAUSE: Final = 0.5
_GROWTH: Final = 1.3
#: Most gaps in the sequence of ids that a receiver keeps an eye on.
_GAPS: Final = 50
#: Seconds for which rows are kept where EVENT_QUEUE_EXPIRES is None.
_KEPT: Final = 3600.0

#: A row to insert: type, hostname, timestamp, and the other fields as JSON.
_Row = tuple[str, str, float, str]


def kept() -> float:
    """Return for how many seconds rows are kept."""
    expires = settings.EVENT_QUEUE_EXPIRES
    return _KEPT if expires is None else float(expires)


class DatabaseEvents(EventChannel):
    """Events as rows of the Django database ``alias``.

    Inside a transaction of the caller's the rows are part of it: receivers hear of them when it commits, and never if it is
    rolled back. An INSERT that fails does not spoil it.
    """

    def __init__(self, alias: str = "default") -> None:
        check_alias(alias)
        self.alias = alias

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``db://ALIAS``; ``db://`` is ``db://default``."""
        return cls(url.alias)

    def send(self, events: Sequence[Event]) -> None:
        """Insert all or none."""
        if not events:
            return
        rows = [_row(event) for event in events]
        with reaching(self.alias, f"Sending {len(rows)} event(s)") as connection:
            # A transaction that can only be rolled back would take the rows with it.
            if not (connection.in_atomic_block and connection.needs_rollback):
                trying_again(connection, partial(_insert, connection, rows))

    def listen(self, routing_key: str = EVERYTHING) -> "DatabaseReceiver":
        """Open a receiver, for the thread that will call it."""
        return DatabaseReceiver(self.alias, routing_key)

    def expire(self, *, limit: int) -> int:
        """Delete the rows older than EVENT_QUEUE_EXPIRES among the ``limit`` oldest; returns how many."""
        now = clock.timestamp()
        with reaching(self.alias, "Deleting old events") as connection:
            rows = EventRow.objects.using(self.alias)
            end = rows.order_by("id").values_list("id", flat=True)[limit - 1 : limit].first() or rows.aggregate(last=Max("id"))["last"]
            if end is None:
                return 0
            # What seems to come from as far ahead is of a wrong clock, and would stay for ever.
            old = rows.filter(Q(timestamp__lt=now - kept()) | Q(timestamp__gt=now + kept()), id__lte=end)
            return trying_again(connection, partial(delete, old, limit))

    def close(self) -> None:
        """Do nothing: connections are Django's."""


def _row(event: Event) -> _Row:
    rest = {name: value for name, value in event.items() if name not in {"type", "hostname", "timestamp"}}
    return event["type"], event["hostname"], event["timestamp"], dumps_json(rest)


def _insert(connection: BaseDatabaseWrapper, rows: Sequence[_Row]) -> None:
    if len(rows) <= _CHUNK and not connection.in_atomic_block:
        # One statement in autocommit, hence one round trip.
        _insert_chunk(connection, rows)
        return
    # A savepoint, if the transaction is the caller's, who must be able to go on whatever becomes of the events.
    with transaction.atomic(using=connection.alias):
        for start in range(0, len(rows), _CHUNK):
            _insert_chunk(connection, rows[start : start + _CHUNK])


def _insert_chunk(connection: BaseDatabaseWrapper, rows: Sequence[_Row]) -> None:
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, ("type", "hostname", "timestamp", "fields")))
    marks = ", ".join(["(%s, %s, %s, %s)"] * len(rows))
    values: list[Any] = [value for row in rows for value in row]
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {quote(EventRow._meta.db_table)} ({columns}) VALUES {marks}", values)


@dataclass(frozen=True, slots=True)
class _Gap:
    """Ids from ``first`` to ``last`` that have not been seen; looked for until ``until`` (monotonic)."""

    first: int
    last: int
    until: float

    def without(self, number: int) -> "list[_Gap]":
        """Return what is left when a row has been seen."""
        if not self.first <= number <= self.last:
            return [self]
        parts = [_Gap(self.first, number - 1, self.until), _Gap(number + 1, self.last, self.until)]
        return [part for part in parts if part.first <= part.last]


class DatabaseReceiver(EventReceiver):
    """Looks for rows with larger ids than it has seen, and for those that are missing in between.

    Ids are given out when a row is inserted, but it is seen when its transaction commits: the row of a long transaction turns
    up behind others with larger ids. So every id that was left out is looked for, too, for as long as rows are kept; after
    that it belonged to a transaction that was rolled back.
    """

    def __init__(self, alias: str, routing_key: str = EVERYTHING) -> None:
        self._alias = alias
        self._matches = matching(routing_key)
        self._gaps: list[_Gap] = []
        self._pause = _FIRST_PAUSE
        with reaching(alias, "Listening to events"):
            self._last: int = EventRow.objects.using(alias).aggregate(last=Max("id"))["last"] or 0

    def receive(self, timeout: float | None) -> list[Event]:
        """Return what has come. Inside a transaction of REPEATABLE READ (MySQL's default) nothing new is ever seen."""
        deadline = None if timeout is None else clock.monotonic() + timeout
        while True:
            rows = self._look()
            events = [event for row in rows if self._matches(row[1]) and (event := _event(row)) is not None]
            self._pause = _FIRST_PAUSE if rows else min(self._pause * _GROWTH, _LAST_PAUSE)
            left = None if deadline is None else deadline - clock.monotonic()
            if events or (left is not None and left <= 0):
                return events
            if not rows:
                time.sleep(self._pause if left is None else min(self._pause, left))

    def _look(self) -> list[Any]:
        now = clock.monotonic()
        self._gaps = [gap for gap in self._gaps[-_GAPS:] if gap.until > now]
        wanted = Q(id__gt=self._last)
        for gap in self._gaps:
            wanted |= Q(id__range=(gap.first, gap.last))
        with reaching(self._alias, "Receiving events"):
            found = EventRow.objects.using(self._alias).filter(wanted).order_by("id")
            rows = list(found.values_list("id", "type", "hostname", "timestamp", "fields")[:_AT_ONCE])
        for row in rows:
            self._note(row[0], now + kept())
        return rows

    def _note(self, number: int, until: float) -> None:
        if number <= self._last:
            self._gaps = [part for gap in self._gaps for part in gap.without(number)]
            return
        if number > self._last + 1:
            self._gaps.append(_Gap(self._last + 1, number - 1, until))
        self._last = number

    def close(self) -> None:
        """Do nothing: connections are Django's."""


def _event(row: Sequence[Any]) -> Event | None:
    number, type_, hostname, timestamp, fields = row
    try:
        return {"type": type_, "hostname": hostname, "timestamp": timestamp, **loads_json(fields)}
    except (DecodeError, TypeError) as error:
        logger.warning("Event %d (%s of %s) can't be read: %s", number, type_, hostname, error)
        return None
