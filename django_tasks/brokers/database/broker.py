"""The database broker: rows of ``django_tasks.models.Message``."""
# ruff: noqa: S608  statements are put together from constants and integers; values are parameters

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import ClassVar, Final, Self

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks import clock
from django_tasks.brokers.broker import Broker
from django_tasks.brokers.database.claims import Dialect, dialect_of
from django_tasks.brokers.database.consumer import DatabaseConsumer
from django_tasks.brokers.database.inserts import insert
from django_tasks.brokers.database.rows import CLAIMED, DELAYED, READY, TABLE, insert_rows
from django_tasks.conf import settings
from django_tasks.dbaccess import check_alias, reaching, trying_again
from django_tasks.messages import Envelope
from django_tasks.urls import URL

#: Rows that one DELETE of a purge takes, so that it holds no lock for long.
_PURGED_AT_ONCE: Final = 5000


class DatabaseBroker(Broker):
    """Messages as rows of the Django database ``alias``.

    ``publish`` is part of the transaction that the calling thread has open on that database: what is rolled back was
    never sent, and no hook is needed for it.
    """

    delays = True
    joins_transaction: ClassVar[bool] = True
    recovers: ClassVar[bool] = True
    priorities: ClassVar[int] = 356

    def __init__(self, alias: str = "default") -> None:
        check_alias(alias)
        self.alias = alias

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``db://ALIAS``; ``db://`` is ``db://default``."""
        return cls(url.alias)

    @property
    def _dialect(self) -> Dialect:
        return dialect_of(connections[self.alias])

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Insert all envelopes or none, in the caller's transaction on this database if one is open."""
        if not envelopes:
            return
        rows = insert_rows(envelopes, clock.now(), self._dialect.moment)
        with reaching(self.alias, f"Publishing {len(rows)} message(s)") as connection:
            trying_again(connection, partial(insert, connection, rows))

    def consume(self, queues: Sequence[str], *, consumer_id: str) -> DatabaseConsumer:
        """Open a consumer of these queues, for the thread that will call it."""
        return DatabaseConsumer(self.alias, queues, consumer_id=consumer_id, lease=settings.WORKER_LEASE)

    def promote(self, now: datetime, *, limit: int) -> int:
        """Make up to ``limit`` messages that are due receivable."""
        with reaching(self.alias, "Promoting delayed messages") as connection:
            return self._dialect.release(connection, DELAYED, now, limit)

    def recover(self, now: datetime, *, limit: int) -> int:
        """Give back up to ``limit`` messages whose lease has lapsed."""
        with reaching(self.alias, "Recovering messages") as connection:
            return self._dialect.release(connection, CLAIMED, now, limit)

    def size(self, queue: str) -> int:
        """How many messages wait in the queue, delayed ones included."""
        # Two counts, as each state has an index of its own.
        counts = " + ".join(f"(SELECT COUNT(*) FROM {TABLE} WHERE state = {state} AND queue = %s)" for state in (READY, DELAYED))
        with reaching(self.alias, "Counting messages") as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {counts}", [queue, queue])
            return int(cursor.fetchone()[0])

    def queues(self) -> list[str]:
        """Names of the queues that hold messages, sorted."""
        # From one name to the next along the index: a million ready rows in two queues are two steps.
        ready = f"SELECT MIN(queue) FROM {TABLE} WHERE state = {READY}"
        walk = (
            f"WITH RECURSIVE names (name) AS (SELECT ({ready}) UNION ALL SELECT ({ready} AND queue > names.name) "
            f"FROM names WHERE names.name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"
        )
        with reaching(self.alias, "Listing queues") as connection, connection.cursor() as cursor:
            cursor.execute(walk)
            found = {row[0] for row in cursor.fetchall()}
            cursor.execute(f"SELECT DISTINCT queue FROM {TABLE} WHERE state IN ({CLAIMED}, {DELAYED}) AND until IS NOT NULL")
            found.update(row[0] for row in cursor.fetchall())
        return sorted(found)

    def purge(self, queue: str) -> int:
        """Delete what waits in the queue, some thousand rows at a time. Held messages stay."""
        with reaching(self.alias, f"Purging the queue {queue!r}") as connection:
            return sum(self._purge(connection, queue, state) for state in (READY, DELAYED))

    @staticmethod
    def _purge(connection: BaseDatabaseWrapper, queue: str, state: int) -> int:
        which = f"FROM {TABLE} WHERE state = {state} AND queue = %s LIMIT {_PURGED_AT_ONCE}"
        statement = f"DELETE {which}" if connection.vendor == "mysql" else f"DELETE FROM {TABLE} WHERE id IN (SELECT id {which})"
        total = 0
        while True:
            with connection.cursor() as cursor:
                trying_again(connection, partial(cursor.execute, statement, [queue]))
                deleted = int(cursor.rowcount)
            total += deleted
            if deleted < _PURGED_AT_ONCE:
                return total
