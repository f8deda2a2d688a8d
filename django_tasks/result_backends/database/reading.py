"""Reading results, and waiting for them without asking the database more often than makes a difference."""
# ruff: noqa: S608  statements are put together from constants; values are parameters

from collections.abc import Collection, Iterator
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks import clock, states
from django_tasks.dbaccess import reaching
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.database.access import hides_news
from django_tasks.result_backends.database.rows import COLUMNS, TABLE, reader_of
from django_tasks.result_backends.polling import Pauses, polled, sleep

#: Ids of one question.
_CHUNK: Final = 500
_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE task_id IN "
_IF_READY: Final = f" AND status IN ({', '.join(repr(state) for state in sorted(states.READY_STATES))})"


def fetch(alias: str, task_ids: Collection[str], *, ready: bool = False) -> list[ResultMeta]:
    """Read what is kept of these tasks, or of those among them that are ready."""
    wanted = list(task_ids)
    found: list[ResultMeta] = []
    with reaching(alias, "Reading results") as connection:
        read = reader_of(connection)
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            marks = "(" + ", ".join(["%s"] * len(part)) + ")"
            with connection.cursor() as cursor:
                cursor.execute(_SELECT + marks + (_IF_READY if ready else ""), part)
                found += map(read, cursor.fetchall())
    return found


def wait(alias: str, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
    """Yield each task's meta once it is ready; TimeoutError after ``timeout`` seconds.

    Raises RuntimeError inside a transaction that can't see what others commit, where waiting would never end.
    """
    return polled(lambda left: fetch(alias, left, ready=True), task_ids, timeout, DatabasePauses(alias))


class DatabasePauses(Pauses):
    """The time between two looks: short at first, then in proportion to the time waited, at most a quarter of a second.

    On SQLite a look is preceded by the question whether anything was written to the file since the last one, which
    takes some microseconds, so a waiter there notices within 20 ms however long it has waited.
    """

    FIRST: Final = 0.002
    LONGEST: Final = 0.25
    #: Seconds between two questions whether a SQLite file has changed.
    PROBE: Final = 0.02
    #: Seconds after which the table is looked at in any case.
    TRUST: Final = 1.0

    def __init__(self, alias: str) -> None:
        super().__init__(self.FIRST, self.LONGEST)
        self._alias = alias
        self._version: Any = None

    def before_look(self) -> None:
        """Note what the database is like before a look at the table."""
        with reaching(self._alias, "Waiting for results") as connection:
            self._version = _version(connection)

    def pause(self, end: float | None) -> None:
        """Wait until it is time to look again, or ``end``."""
        with reaching(self._alias, "Waiting for results") as connection:
            if hides_news(connection):
                raise RuntimeError(
                    f"waiting for a task's result inside transaction.atomic() on {self._alias!r} would never end: this transaction"
                    " sees the database as it was when it began, and a task that it sent starts when it commits. Wait after the block"
                )
            seconds = self.taken()
            if self._version is None:
                sleep(seconds, end)
                return
            trust = clock.monotonic() + self.TRUST
            until = trust if end is None else min(trust, end)
            while clock.monotonic() < until:
                sleep(min(seconds, self.PROBE), until)
                if _version(connection) != self._version:
                    return


def _version(connection: BaseDatabaseWrapper) -> Any:
    """Return what changes when a SQLite database is written to, by others or by this connection; None elsewhere."""
    if connection.vendor != "sqlite":
        return None
    connection.ensure_connection()
    raw: Any = connection.connection
    with connection.wrap_database_errors:
        return raw.execute("PRAGMA data_version").fetchone()[0], raw.total_changes
