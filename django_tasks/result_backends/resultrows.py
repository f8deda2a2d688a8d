"""TaskResult rows: one upsert for a whole batch, in three dialects, and a row back into a meta."""
# ruff: noqa: S608  statements are put together from constants; values are parameters

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.dateparse import parse_datetime

from django_tasks import clock, states
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.serializers import dumps_json, loads_json

TABLE: Final = "django_tasks_taskresult"

#: What a new write always sets, and what it only sets if it knows it.
_REPLACED: Final = ("result", "content_type", "content_encoding", "traceback", "retries", "status")
_KEPT: Final = (
    *("periodic_task_name", "task_name", "task_args", "task_kwargs", "worker", "queue", "meta", "runtime"),
    *("group_id", "root_id", "parent_id", "date_done"),
)
COLUMNS: Final = ("task_id", "date_created", "date_started", *_KEPT, *_REPLACED)
FETCHED: Final = ", ".join(COLUMNS)

_MARKS: Final = "(" + ", ".join(["%s"] * len(COLUMNS)) + ")"
_READY: Final = ", ".join(f"'{state}'" for state in sorted(states.READY_STATES))
_TYPES: Final = {
    "date_created": "timestamptz",
    "date_started": "timestamptz",
    "date_done": "timestamptz",
    "retries": "int4",
    "runtime": "float8",
}


def store_rows(connection: BaseDatabaseWrapper, metas: Sequence[ResultMeta]) -> None:
    """Insert or update a row for each meta; the last one wins where a task comes twice."""
    latest = {meta.task_id: meta for meta in metas}
    merged = metas if len(latest) == len(metas) else _merged(metas)
    now = clock.now()
    if connection.vendor == "postgresql":
        documents = dumps_json([dict(zip(COLUMNS, row_of(meta, now, _iso), strict=True)) for meta in merged])
        with connection.cursor() as cursor:
            cursor.execute(_postgresql(), [documents])
        return
    moment = _naive if connection.vendor == "mysql" else _text
    rows = [row_of(meta, now, moment) for meta in merged]
    statement = _mysql() if connection.vendor == "mysql" else _sqlite()
    with connection.cursor() as cursor:
        if len(rows) == 1:
            cursor.execute(statement, rows[0])
        else:
            cursor.executemany(statement, rows)


def _merged(metas: Sequence[ResultMeta]) -> list[ResultMeta]:
    # A statement may touch a row once only: of a task that comes twice, the state that tells more.
    best: dict[str, ResultMeta] = {}
    for meta in metas:
        held = best.get(meta.task_id)
        if held is None or states.precedence(meta.status) <= states.precedence(held.status):
            best[meta.task_id] = meta
    return list(best.values())


def row_of(meta: ResultMeta, now: datetime, moment: Callable[[datetime | None], Any]) -> tuple[Any, ...]:
    """Return a meta's values in the order of COLUMNS."""
    return (
        meta.task_id,
        moment(now),
        moment(meta.date_started),
        meta.periodic_task_name,
        meta.name,
        _clean(meta.args),
        _clean(meta.kwargs),
        meta.worker,
        meta.queue,
        _extra(meta),
        meta.runtime,
        meta.group_id,
        meta.root_id,
        meta.parent_id,
        moment(meta.date_done),
        _clean(meta.result),
        meta.content_type,
        meta.content_encoding,
        _clean(meta.traceback),
        meta.retries,
        meta.status,
    )


def meta_of(row: Sequence[Any]) -> ResultMeta:
    """Read a row of FETCHED."""
    values = dict(zip(COLUMNS, row, strict=True))
    extra = loads_json(values["meta"]) if values["meta"] else {}
    return ResultMeta(
        task_id=values["task_id"],
        status=values["status"],
        result=values["result"],
        content_type=values["content_type"],
        content_encoding=values["content_encoding"],
        traceback=values["traceback"],
        children=extra.get("children"),
        date_done=_read(values["date_done"]),
        date_started=_read(values["date_started"]),
        name=values["task_name"],
        args=values["task_args"],
        kwargs=values["task_kwargs"],
        worker=values["worker"],
        queue=values["queue"],
        retries=values["retries"],
        runtime=values["runtime"],
        group_id=values["group_id"],
        group_index=extra.get("group_index"),
        root_id=values["root_id"],
        parent_id=values["parent_id"],
        periodic_task_name=values["periodic_task_name"],
    )


def _extra(meta: ResultMeta) -> str | None:
    if not meta.children and meta.group_index is None:
        return None if meta.children is None else '{"children":[]}'
    return dumps_json({"children": meta.children, "group_index": meta.group_index})


def _clean(text: str | None) -> str | None:
    # PostgreSQL's text can't hold NUL.
    return text.replace("\0", "\ufffd") if text and "\0" in text else text


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _naive(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else str(_naive(moment))


def _read(moment: Any) -> datetime | None:
    found = parse_datetime(moment) if isinstance(moment, str) else moment
    return None if found is None else clock.as_utc(found)


def _keeps(table: str, new: str) -> str:
    return f"({table}status = '{states.SUCCESS}' OR ({table}status IN ({_READY}) AND {new} IN ('{states.STARTED}', '{states.RETRY}')))"


@cache
def _sqlite() -> str:
    changes = [f"{name} = excluded.{name}" for name in _REPLACED]
    changes += [f"{name} = COALESCE(excluded.{name}, {TABLE}.{name})" for name in _KEPT]
    changes.append(f"date_started = COALESCE({TABLE}.date_started, excluded.date_started)")
    unless = f"NOT {_keeps(TABLE + '.', 'excluded.status')}"
    return f"INSERT INTO {TABLE} ({FETCHED}) VALUES {_MARKS} ON CONFLICT (task_id) DO UPDATE SET {', '.join(changes)} WHERE {unless}"


@cache
def _postgresql() -> str:
    # One JSON document for the batch: quoting and sending twenty arrays costs several times as much.
    columns = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in COLUMNS)
    source = f"SELECT {FETCHED} FROM json_to_recordset(%s::json) AS incoming ({columns})"
    return _sqlite().replace(f"VALUES {_MARKS}", source)


@cache
def _mysql() -> str:
    # Evaluated from left to right on a row that changes: ``status``, which decides, comes last.
    keeps = _keeps("", "VALUES(status)")
    changes = [f"date_started = IF({keeps}, date_started, COALESCE(date_started, VALUES(date_started)))"]
    changes += [f"{name} = IF({keeps}, {name}, COALESCE(VALUES({name}), {name}))" for name in _KEPT]
    changes += [f"{name} = IF({keeps}, {name}, VALUES({name}))" for name in _REPLACED]
    columns = ", ".join(f"`{name}`" for name in COLUMNS)
    return f"INSERT INTO {TABLE} ({columns}) VALUES {_MARKS} ON DUPLICATE KEY UPDATE {', '.join(changes)}"
