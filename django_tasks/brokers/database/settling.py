"""What becomes of claimed messages: acknowledged, given back, delayed, kept longer, taken over.

Every statement is guarded by ``claimed_by``: a consumer whose lease has lapsed changes nothing that others now hold.
"""
# ruff: noqa: S608  statements are put together from constants and integers; values are parameters

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks.brokers.database.claims import Dialect, numbers
from django_tasks.brokers.database.rows import CLAIMED, CLAIMED_COLUMNS, DELAYED, READY, TABLE, ClaimedRow
from django_tasks.dbaccess import trying_again
from django_tasks.messages import Delivery, Disposition, Settlement

_COLUMNS: Final = ", ".join(CLAIMED_COLUMNS)
_FORGET: Final = frozenset({Disposition.ACK, Disposition.DEAD})


class _Batch:
    """Settlements sorted by what they do to a row."""

    def __init__(self, settlements: Sequence[Settlement]) -> None:
        #: Ids of rows to delete.
        self.finished: list[str] = []
        #: (due time or None for now, deliveries to take back) → ids.
        self.returned: defaultdict[tuple[datetime | None, int], list[str]] = defaultdict(list)
        for settlement in settlements:
            tag = settlement.delivery.tag
            if settlement.disposition in _FORGET:
                self.finished.append(tag)
            else:
                until = settlement.until if settlement.disposition is Disposition.DELAY else None
                self.returned[until, 0 if settlement.counted else 1].append(tag)


def settle(connection: BaseDatabaseWrapper, dialect: Dialect, holder: str, settlements: Sequence[Settlement]) -> None:
    """Carry out all settlements: one DELETE, and an UPDATE for each way of giving back, in one transaction."""
    batch = _Batch(settlements)
    if batch.finished and not batch.returned:
        # The usual case is one statement, which needs no BEGIN and COMMIT around it.
        trying_again(connection, partial(_delete, connection, holder, batch.finished))
    elif batch.returned:
        trying_again(connection, partial(_settle, connection, dialect, holder, batch))


def _settle(connection: BaseDatabaseWrapper, dialect: Dialect, holder: str, batch: _Batch) -> None:
    with transaction.atomic(using=connection.alias, savepoint=False):
        if batch.finished:
            _delete(connection, holder, batch.finished)
        for (until, uncounted), tags in batch.returned.items():
            give_back(connection, dialect, holder, f"id IN ({numbers(tags)})", until=until, uncounted=uncounted)
        dialect.announce(connection)


def _delete(connection: BaseDatabaseWrapper, holder: str, tags: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE id IN ({numbers(tags)}) AND claimed_by = %s", [holder])


def give_back(
    connection: BaseDatabaseWrapper, dialect: Dialect, holder: str, which: str, *, until: datetime | None = None, uncounted: int = 0
) -> None:
    """Make what a holder has receivable again, at once or from ``until`` on; ``which`` is SQL without parameters."""
    state, moment = (READY, None) if until is None else (DELAYED, dialect.moment(until))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {TABLE} SET state = {state}, claimed_by = NULL, until = %s, deliveries = deliveries - {int(uncounted)} "
            f"WHERE {which} AND state = {CLAIMED} AND claimed_by = %s",
            [moment, holder],
        )


def extend(connection: BaseDatabaseWrapper, dialect: Dialect, holder: str, deliveries: Sequence[Delivery], until: datetime) -> None:
    """Renew leases that the holder still has."""
    trying_again(connection, partial(_keep, connection, dialect, holder, holder, [one.tag for one in deliveries], until))


def _keep(connection: BaseDatabaseWrapper, dialect: Dialect, holder: str, heir: str, tags: Collection[str], until: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {TABLE} SET until = %s, claimed_by = %s WHERE id IN ({numbers(tags)}) AND claimed_by = %s",
            [dialect.moment(until), heir, holder],
        )


def held(connection: BaseDatabaseWrapper, holder: str, tags: Sequence[str]) -> set[str]:
    """Return those of these tags that the holder still has."""
    if not tags:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {TABLE} WHERE id IN ({numbers(tags)}) AND claimed_by = %s", [holder])
        return {str(number) for (number,) in cursor.fetchall()}


def inherit(
    connection: BaseDatabaseWrapper, dialect: Dialect, dead: str, heir: str, started: Collection[str], until: datetime
) -> list[ClaimedRow]:
    """Give the heir what a dead holder had started, and the rest back to the queues, uncounted; return the former."""
    tags = [tag for tag in started if tag.isdecimal()]
    return trying_again(connection, partial(_inherit, connection, dialect, dead, heir, tags, until))


def _inherit(
    connection: BaseDatabaseWrapper, dialect: Dialect, dead: str, heir: str, tags: Collection[str], until: datetime
) -> list[ClaimedRow]:
    rows: list[ClaimedRow] = []
    with transaction.atomic(using=connection.alias, savepoint=False):
        if tags:
            _keep(connection, dialect, dead, heir, tags, until)
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {_COLUMNS} FROM {TABLE} WHERE id IN ({numbers(tags)}) AND claimed_by = %s", [heir])
                rows = cursor.fetchall()
        give_back(connection, dialect, dead, "1 = 1", uncounted=1)
        dialect.announce(connection)
    return rows
