"""The statements of chords, each about many of them: locking their counters, inserting parts, writing what was counted, collecting."""
# ruff: noqa: S608  statements are put together from constants; values are parameters

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks import clock
from django_tasks.messages import WireSignature
from django_tasks.models.results import ChordCounter, ChordPart
from django_tasks.result_backends import bodies
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.chordparts import collected
from django_tasks.result_backends.database.reading import fetch
from django_tasks.result_backends.database.rows import moment_of

T = TypeVar("T")

#: Before the id in the row of a part that was added, which is no finished one.
ADDED: Final = "+"
#: Rows of one statement.
CHUNK: Final = 200
#: Counters of one locking statement. SQLite takes 999 parameters, and MariaDB makes a join of a longer list, in an order of its own.
_LOCKED: Final = 900

_COUNTERS: Final[str] = ChordCounter._meta.db_table
_PARTS: Final[str] = ChordPart._meta.db_table
#: How MySQL is told by which index to find the rows of a group, by database and table.
_HINTS: Final[dict[tuple[str, str], str]] = {}


@dataclass(frozen=True, slots=True)
class Held:
    """A counter that nobody else can change until this transaction ends; ``claimed`` None: it was nobody's so far."""

    id: int
    group_id: str
    size: int
    done: int
    text: str
    claimed: bool | None

    @property
    def body(self) -> WireSignature:
        """The body, read."""
        return bodies.read(self.text)


def hold(connection: BaseDatabaseWrapper, group_ids: Collection[str]) -> list[Held]:
    """Lock the counters of these chords, but for those that have ended, which are left out.

    In the order of their ids, so that two workers that have the same chords don't wait for each other.
    """
    names, now, hint = sorted(group_ids), moment_of(connection)(clock.now()), _hint(connection, _COUNTERS, ("group_id",))
    lock = " FOR UPDATE" if connection.features.has_select_for_update else ""
    rows: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        if not lock:
            # SQLite locks the whole file for whoever writes, be it no row.
            cursor.execute(f"UPDATE {_COUNTERS} SET done = done WHERE id = 0")
        for some in chunks(names, _LOCKED):
            cursor.execute(
                f"SELECT id, group_id, size, done, body, claimed_until > %s FROM {_COUNTERS}{hint}"
                f" WHERE group_id IN ({_marks(some)}) AND date_done IS NULL ORDER BY group_id{lock}",
                [now, *some],
            )
            rows += cursor.fetchall()
    # MySQL finds ids that differ in their case only.
    return [_held(row) for row in rows if row[1] in group_ids]


def _held(row: Sequence[Any]) -> Held:
    id, group_id, size, done, text, claimed = row
    return Held(id, group_id, size, done, text, None if claimed is None else bool(claimed))


def _hint(connection: BaseDatabaseWrapper, table: str, columns: Sequence[str]) -> str:
    """MySQL locks the rows that it looks at: those of the whole table, in another order, where that is small and it is free to choose."""
    if connection.vendor != "mysql":
        return ""
    key = connection.alias, table
    if key not in _HINTS:
        with connection.cursor() as cursor:
            known = connection.introspection.get_constraints(cursor, table)
        found = [name for name, each in known.items() if each["unique"] and each["columns"] == list(columns)]
        _HINTS[key] = f" FORCE INDEX ({connection.ops.quote_name(found[0])})" if found else ""
    return _HINTS[key]


def _parts_hint(connection: BaseDatabaseWrapper) -> str:
    return _hint(connection, _PARTS, ("group_id", "task_id"))


def insert(connection: BaseDatabaseWrapper, parts: Sequence[tuple[str, str, int | None]]) -> int:
    """Insert those parts (group, id, position) that are not there; return how many."""
    verb, ending = ("INSERT IGNORE", "") if connection.vendor == "mysql" else ("INSERT", " ON CONFLICT DO NOTHING")
    inserted = 0
    with connection.cursor() as cursor:
        for some in chunks(parts, CHUNK):
            marks = ", ".join(["(%s, %s, %s)"] * len(some))
            values = [value for part in some for value in part]
            cursor.execute(f"{verb} INTO {_PARTS} (group_id, task_id, position) VALUES {marks}{ending}", values)
            inserted += max(0, cursor.rowcount)
    return inserted


def remove(connection: BaseDatabaseWrapper, group_ids: Sequence[str]) -> None:
    """Delete the parts of these chords, whose counters are held."""
    verb = f"DELETE {_PARTS} FROM {_PARTS}{_parts_hint(connection)}" if connection.vendor == "mysql" else f"DELETE FROM {_PARTS}"
    with connection.cursor() as cursor:
        for some in chunks(group_ids, CHUNK):
            cursor.execute(f"{verb} WHERE group_id IN ({_marks(some)})", list(some))


def counted(connection: BaseDatabaseWrapper, held: Sequence[Held], parts: Mapping[str, Collection[ResultMeta]]) -> dict[str, int]:
    """Insert what there is of the parts of these chords; return how many parts of each are done then."""
    rows = [(chord.group_id, part.task_id, part.group_index) for chord in held for part in parts[chord.group_id]]
    inserted = insert(connection, rows)
    if inserted == len(rows):
        return {chord.group_id: chord.done + len(parts[chord.group_id]) for chord in held}
    before = {chord.group_id: chord.done for chord in held}
    # Some were delivered again; the database says how many rows are new, and not whose.
    return {**before, **_counts(connection, list(before))} if inserted else before


def _counts(connection: BaseDatabaseWrapper, group_ids: Sequence[str]) -> dict[str, int]:
    # Of MySQL's repeatable reads only those that lock see what others have committed.
    ending = " LOCK IN SHARE MODE" if connection.vendor == "mysql" else ""
    found: dict[str, int] = {}
    with connection.cursor() as cursor:
        for some in chunks(group_ids, CHUNK):
            cursor.execute(
                f"SELECT group_id, COUNT(*) FROM {_PARTS}{_parts_hint(connection)}"
                f" WHERE group_id IN ({_marks(some)}) AND task_id NOT LIKE %s GROUP BY group_id{ending}",
                [*some, ADDED + "%"],
            )
            found.update(cursor.fetchall())
    return found


def write(connection: BaseDatabaseWrapper, done: Mapping[int, int], claimed: Collection[int], until: datetime) -> None:
    """Write how many parts are done, by the ids of counters, and until when some of these chords are the caller's."""
    with connection.cursor() as cursor:
        for some in chunks(list(done), CHUNK):
            values: list[Any] = [value for id in some for value in (id, done[id])]
            changes = f"done = CASE id {'WHEN %s THEN %s ' * len(some)}ELSE done END"
            if own := [id for id in some if id in claimed]:
                changes += f", claimed_until = CASE WHEN id IN ({_marks(own)}) THEN %s ELSE claimed_until END"
                values += [*own, moment_of(connection)(until)]
            cursor.execute(f"UPDATE {_COUNTERS} SET {changes} WHERE id IN ({_marks(some)})", [*values, *some])


def collect(alias: str, group_ids: Collection[str], fresh: Mapping[str, ResultMeta]) -> dict[str, list[ResultMeta]]:
    """Return all finished parts of each of these chords, in order, as they are kept, or else as ``fresh`` has them."""
    positions: dict[str, dict[str, int | None]] = {group_id: {} for group_id in group_ids}
    parts = ChordPart.objects.using(alias).exclude(task_id__startswith=ADDED).order_by("id")
    for some in chunks(list(positions), CHUNK):
        for group_id, task_id, position in parts.filter(group_id__in=some).values_list("group_id", "task_id", "position"):
            positions.get(group_id, {})[task_id] = position
    found = dict(fresh)
    found.update((meta.task_id, meta) for meta in fetch(alias, {task_id for each in positions.values() for task_id in each}))
    return {group_id: collected(group_id, places, found) for group_id, places in positions.items()}


def chunks(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the rows in portions of this size."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))
