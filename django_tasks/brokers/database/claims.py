"""How messages change hands: the statements of claiming, promoting and recovering, in three dialects.

Every dialect hands out an exact order, by priority and then by age, over all queues asked for.
"""
# ruff: noqa: S608  statements are put together from constants and integers; values are parameters

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks.brokers.database.rows import CLAIMED, CLAIMED_COLUMNS, DELAYED, READY, TABLE, ClaimedRow, naive_utc, text_utc, utc
from django_tasks.dbaccess import trying_again
from django_tasks.exceptions import ImproperlyConfigured

CHANNEL: Final = "django_tasks"
NOTIFY: Final = f"pg_notify('{CHANNEL}', '')"
#: Spares a statement's commit the wait for the disk. A claim that a crash of the server forgets was never made; the message
#: still lies there.
_UNHURRIED: Final = "(SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL"

_COLUMNS: Final = ", ".join(CLAIMED_COLUMNS)
_ORDER: Final = "ORDER BY priority DESC, id"
_TAKE: Final = f"UPDATE {TABLE} SET state = {CLAIMED}, claimed_by = %s, until = %s, deliveries = deliveries + 1"
_GIVE_BACK: Final = f"UPDATE {TABLE} SET state = {READY}, claimed_by = NULL, until = NULL"


def _line(columns: str = "id, priority") -> str:
    return f"SELECT {columns} FROM {TABLE} WHERE state = {READY} AND queue = %s {_ORDER} LIMIT %s"


def _merged(queues: int, line: str) -> str:
    # A front for each queue, then the best of them all: «queue IN (…)» would make the database sort whole queues.
    fronts = " UNION ALL ".join(f"SELECT * FROM ({line}) AS front{number}" for number in range(queues))
    return f"SELECT id FROM ({fronts}) AS fronts {_ORDER} LIMIT %s"


class Dialect(ABC):
    """The statements of one kind of database."""

    #: Every message that becomes receivable is announced to those who listen.
    announces: ClassVar[bool] = False

    @abstractmethod
    def moment(self, moment: datetime) -> Any:
        """Write a time as a parameter."""

    @abstractmethod
    def claim(self, connection: BaseDatabaseWrapper, queues: Sequence[str], limit: int, holder: str, until: datetime) -> list[ClaimedRow]:
        """Claim up to ``limit`` of the best messages of these queues, in any order."""

    @abstractmethod
    def release(self, connection: BaseDatabaseWrapper, state: int, now: datetime, limit: int) -> int:
        """Make messages of a state (DELAYED or CLAIMED) whose time has come receivable; return how many."""

    def next_due(self, connection: BaseDatabaseWrapper) -> datetime | None:
        """When the next delayed message falls due, or None."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT until FROM {TABLE} WHERE state = {DELAYED} AND until IS NOT NULL ORDER BY until LIMIT 1")
            row = cursor.fetchone()
        return utc(row[0]) if row else None

    def announce(self, connection: BaseDatabaseWrapper) -> None:
        """Tell idle consumers that something can be received. Only PostgreSQL can."""


class PostgreSQL(Dialect):
    """UPDATE … RETURNING over rows locked with SKIP LOCKED; changes are announced with NOTIFY."""

    announces = True

    def moment(self, moment: datetime) -> datetime:
        """Times are aware."""
        return moment

    def claim(self, connection: BaseDatabaseWrapper, queues: Sequence[str], limit: int, holder: str, until: datetime) -> list[ClaimedRow]:
        """Claim in one statement; a second only where all candidates of several queues were just being claimed by others."""
        if len(queues) == 1:
            return self._claim(connection, f"{_line('id')} FOR UPDATE SKIP LOCKED", [queues[0], limit], holder, until)
        rows = self._claim(connection, *_candidates(queues, limit), holder, until)
        return rows or self._claim(connection, *_locked_fronts(queues, limit), holder, until)

    @staticmethod
    def _claim(connection: BaseDatabaseWrapper, chosen: str, args: Sequence[Any], holder: str, until: datetime) -> list[ClaimedRow]:
        with connection.cursor() as cursor:
            # ARRAY(…) is evaluated once and before all else; IN (…) may be planned as a join that locks more than it takes.
            cursor.execute(f"{_TAKE} WHERE id = ANY(ARRAY({chosen})){_unhurried(connection)} RETURNING {_COLUMNS}", [holder, until, *args])
            rows: list[ClaimedRow] = cursor.fetchall()
        return rows

    def release(self, connection: BaseDatabaseWrapper, state: int, now: datetime, limit: int) -> int:
        """Release and announce in one statement."""
        due = f"SELECT id FROM {TABLE} WHERE state = {state} AND until <= %s ORDER BY until LIMIT %s FOR UPDATE SKIP LOCKED"
        with connection.cursor() as cursor:
            cursor.execute(
                f"WITH released AS ({_GIVE_BACK} WHERE id = ANY(ARRAY({due})){_unhurried(connection)} RETURNING id) "
                f"SELECT total, CASE WHEN total > 0 THEN {NOTIFY} END FROM (SELECT COUNT(*) AS total FROM released) AS counted",
                [now, limit],
            )
            return int(cursor.fetchone()[0])

    def next_due(self, connection: BaseDatabaseWrapper) -> datetime | None:
        """Read it in UTC, whatever zone the connection has."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT until AT TIME ZONE 'UTC' FROM {TABLE} WHERE state = {DELAYED} AND until IS NOT NULL ORDER BY until LIMIT 1"
            )
            row = cursor.fetchone()
        return utc(row[0]) if row else None

    def announce(self, connection: BaseDatabaseWrapper) -> None:
        """Send NOTIFY; listeners get it when the transaction commits."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {NOTIFY}")


def _unhurried(connection: BaseDatabaseWrapper) -> str:
    # In a transaction of the caller's it would be the caller's commit that doesn't wait.
    return "" if connection.in_atomic_block else f" AND {_UNHURRIED}"


def _candidates(queues: Sequence[str], limit: int) -> tuple[str, list[Any]]:
    # The fronts are read in the index's order and without locks; only then as many as are wanted are locked, so that
    # nothing is locked that isn't taken. The slack is for rows that another consumer is just claiming.
    # «state + 0» keeps the planner from looking them up by the state instead of by their ids.
    slack = 2 * limit + 32
    best = _merged(len(queues), _line())
    args = [value for queue in queues for value in (queue, slack)]
    chosen = f"SELECT id FROM {TABLE} WHERE id = ANY(ARRAY({best})) AND state + 0 = {READY} {_ORDER} LIMIT %s FOR UPDATE SKIP LOCKED"
    return chosen, [*args, slack, limit]


def _locked_fronts(queues: Sequence[str], limit: int) -> tuple[str, list[Any]]:
    args = [value for queue in queues for value in (queue, limit)]
    return _merged(len(queues), f"{_line()} FOR UPDATE SKIP LOCKED"), [*args, limit]


class SQLite(Dialect):
    """One UPDATE … RETURNING, which takes the write lock at once; a look beforehand spares an idle poll the lock."""

    def moment(self, moment: datetime) -> str:
        """Times are text in UTC."""
        return text_utc(moment)

    def claim(self, connection: BaseDatabaseWrapper, queues: Sequence[str], limit: int, holder: str, until: datetime) -> list[ClaimedRow]:
        """Look, then claim in one statement: a transaction of its own, which no other writer can slip into."""
        marks = ", ".join(["%s"] * len(queues))
        args: list[Any]
        if len(queues) == 1:
            chosen, args = _line("id"), [queues[0], limit]
        else:
            chosen, args = _merged(len(queues), _line()), [*(value for queue in queues for value in (queue, limit)), limit]
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {TABLE} WHERE state = {READY} AND queue IN ({marks}) LIMIT 1", queues)
            if cursor.fetchone() is None:
                return []
            cursor.execute(f"{_TAKE} WHERE id IN ({chosen}) RETURNING {_COLUMNS}", [holder, text_utc(until), *args])
            rows: list[ClaimedRow] = cursor.fetchall()
        return rows

    def release(self, connection: BaseDatabaseWrapper, state: int, now: datetime, limit: int) -> int:
        """Look, then release in one statement."""
        due = f"FROM {TABLE} WHERE state = {state} AND until <= %s ORDER BY until LIMIT %s"
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT 1 {due}", [text_utc(now), 1])
            if cursor.fetchone() is None:
                return 0
            cursor.execute(f"{_GIVE_BACK} WHERE id IN (SELECT id {due})", [text_utc(now), limit])
            return int(cursor.rowcount)


class MySQL(Dialect):
    """Lock with SELECT … FOR UPDATE SKIP LOCKED, then UPDATE by id, in one transaction."""

    def moment(self, moment: datetime) -> datetime:
        """Times are naive, in UTC."""
        return naive_utc(moment)

    def claim(self, connection: BaseDatabaseWrapper, queues: Sequence[str], limit: int, holder: str, until: datetime) -> list[ClaimedRow]:
        """Look, then claim; done again where MySQL gives up a deadlock."""
        marks = ", ".join(["%s"] * len(queues))
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {TABLE} WHERE state = {READY} AND queue IN ({marks}) LIMIT 1", list(queues))
            if cursor.fetchone() is None:
                return []
        return trying_again(connection, partial(self._claim, connection, queues, limit, holder, until))

    @staticmethod
    def _claim(connection: BaseDatabaseWrapper, queues: Sequence[str], limit: int, holder: str, until: datetime) -> list[ClaimedRow]:
        line = f"{_line(_COLUMNS)} {_locking(connection)}"
        with transaction.atomic(using=connection.alias, savepoint=False), connection.cursor() as cursor:
            found: list[ClaimedRow] = []
            for queue in queues:
                cursor.execute(line, [queue, limit])
                found += cursor.fetchall()
            # Of several queues more is locked than is taken; the commit a moment later lets go of it.
            rows = sorted(found, key=lambda row: (-row[2], row[0]))[:limit]
            if rows:
                cursor.execute(f"{_TAKE} WHERE id IN ({numbers(row[0] for row in rows)})", [holder, naive_utc(until)])
        return [(*row[:3], row[3] + 1, *row[4:]) for row in rows]

    def release(self, connection: BaseDatabaseWrapper, state: int, now: datetime, limit: int) -> int:
        """Lock what is due, then release it."""
        return trying_again(connection, partial(self._release, connection, state, now, limit))

    @staticmethod
    def _release(connection: BaseDatabaseWrapper, state: int, now: datetime, limit: int) -> int:
        due = f"SELECT id FROM {TABLE} WHERE state = {state} AND until <= %s ORDER BY until LIMIT %s {_locking(connection)}"
        with transaction.atomic(using=connection.alias, savepoint=False), connection.cursor() as cursor:
            cursor.execute(due, [naive_utc(now), limit])
            found = [row[0] for row in cursor.fetchall()]
            if found:
                cursor.execute(f"{_GIVE_BACK} WHERE id IN ({numbers(found)})")
        return len(found)


def _locking(connection: BaseDatabaseWrapper) -> str:
    # MariaDB before 10.6 can't skip: its consumers wait for each other, which is slower and just as right.
    return "FOR UPDATE SKIP LOCKED" if connection.features.has_select_for_update_skip_locked else "FOR UPDATE"


def numbers(ids: Any) -> str:
    """Write ids into a statement; integers need no quoting, and a statement takes any number of them."""
    return ", ".join(map(str, map(int, ids)))


_DIALECTS: Final[dict[str, Callable[[], Dialect]]] = {"postgresql": PostgreSQL, "sqlite": SQLite, "mysql": MySQL}


def dialect_of(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the dialect of a connection's database. Raises ImproperlyConfigured for one that has none (Oracle)."""
    make = _DIALECTS.get(connection.vendor)
    if make is None:
        raise ImproperlyConfigured(
            f"BROKER_URL: db://{connection.alias} is a {connection.display_name} database; the database broker speaks PostgreSQL, "
            "MySQL, MariaDB and SQLite. Give it another database of DATABASES"
        )
    return make()
