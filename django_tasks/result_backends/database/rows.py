"""Metas as rows of ``TaskResult``, and back: the shape of the table in one place."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from django.conf import settings as django_settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from django_tasks import exceptions, states
from django_tasks.exceptions import BackendStoreError
from django_tasks.models.results import TaskResult
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.encoding import encode_value
from django_tasks.serializers import dumps_json, loads_json

TABLE: Final[str] = TaskResult._meta.db_table

#: What a write leaves as it was where it knows nothing itself.
KEPT: Final = (
    *("periodic_task_name", "task_name", "task_args", "task_kwargs", "worker", "queue", "meta", "runtime"),
    *("group_id", "root_id", "parent_id"),
)
#: What every write sets. ``status`` comes last: on MySQL it decides about the others as long as it is the old one.
REPLACED: Final = ("result", "content_type", "content_encoding", "traceback", "date_done", "status")
COLUMNS: Final = ("task_id", "date_created", "date_started", "retries", *KEPT, *REPLACED)

#: Fields that are text of any length, and names, which are cut at the width of their columns.
_TEXTS: Final = ("args", "kwargs", "result", "traceback")
_NAMES: Final = ("periodic_task_name", "name", "worker", "queue", "group_id", "root_id", "parent_id")
_WIDTH: Final = 255

Moment = Callable[[datetime | None], Any]


def moment_of(connection: BaseDatabaseWrapper) -> Moment:
    """Return what writes a time as Django itself would write it into this database."""
    if connection.vendor == "postgresql":
        return _iso
    zone = zone_of(connection)

    def text(moment: datetime | None) -> str | None:
        return None if moment is None else str(moment.astimezone(zone).replace(tzinfo=None))

    return text


def zone_of(connection: BaseDatabaseWrapper) -> tzinfo:
    """Return the zone in which a database without zones keeps times."""
    zone = connection.timezone if django_settings.USE_TZ else timezone.get_default_timezone()
    return UTC if zone is None or str(zone) == "UTC" else zone


def for_model(moment: datetime) -> datetime:
    """Return a time as models take it: with USE_TZ off they want local times without a zone, and refuse others."""
    return moment if django_settings.USE_TZ else moment.astimezone(timezone.get_default_timezone()).replace(tzinfo=None)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def row_of(meta: ResultMeta, created: Any, moment: Moment) -> tuple[Any, ...]:
    """Return a meta's values in the order of COLUMNS; ``created`` is for a new row whose task was sent at an unknown time."""
    return (
        meta.task_id,
        created if meta.date_created is None else moment(meta.date_created),
        moment(meta.date_started),
        meta.retries,
        meta.periodic_task_name,
        meta.name,
        meta.args,
        meta.kwargs,
        meta.worker,
        meta.queue,
        _more(meta),
        meta.runtime,
        meta.group_id,
        meta.root_id,
        meta.parent_id,
        meta.result,
        meta.content_type,
        meta.content_encoding,
        meta.traceback,
        moment(meta.date_done),
        meta.status,
    )


def cleaned(meta: ResultMeta) -> ResultMeta:
    """Return the meta with texts that every database takes, and names that fit into their columns.

    Looking for what can't be stored in a dozen texts a row would cost as much as storing them, so a batch is cleaned
    after the database has refused it.
    """
    changes: dict[str, Any] = {name: _writable(text) for name in _TEXTS if (text := getattr(meta, name)) is not None}
    changes |= {name: _writable(text)[:_WIDTH] for name in _NAMES if (text := getattr(meta, name)) is not None}
    return replace(meta, **changes)


def _writable(text: str) -> str:
    # PostgreSQL refuses NUL in text, and no driver takes half a surrogate pair.
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _more(meta: ResultMeta) -> str | None:
    children, position = meta.children, meta.group_index
    if meta.stamps or meta.follows is not None:
        known = {"children": children, "group_index": position, "stamps": dict(meta.stamps or {}) or None, "follows": meta.follows}
        return dumps_json({name: value for name, value in known.items() if value is not None})
    if position is None:
        if not children:
            return None if children is None else '{"children":[]}'
        return dumps_json({"children": children})
    return dumps_json({"group_index": position} if children is None else {"children": children, "group_index": position})


def reader_of(connection: BaseDatabaseWrapper) -> Callable[[Sequence[Any]], ResultMeta]:
    """Return what reads a row of COLUMNS of this database."""
    zone = zone_of(connection)

    def moment(value: Any) -> datetime | None:
        found = parse_datetime(value) if isinstance(value, str) else value
        if found is None:
            return None
        aware = found.replace(tzinfo=zone) if found.tzinfo is None else found
        moment: datetime = aware.astimezone(UTC)
        return moment

    def read(row: Sequence[Any]) -> ResultMeta:
        values = dict(zip(COLUMNS, row, strict=True))
        more = _loaded(values["meta"])
        return ResultMeta(
            task_id=values["task_id"],
            status=values["status"],
            result=values["result"],
            content_type=values["content_type"],
            content_encoding=values["content_encoding"],
            traceback=values["traceback"],
            children=more.get("children"),
            date_done=moment(values["date_done"]),
            date_started=moment(values["date_started"]),
            name=values["task_name"],
            args=values["task_args"],
            kwargs=values["task_kwargs"],
            worker=values["worker"],
            queue=values["queue"],
            retries=values["retries"],
            runtime=values["runtime"],
            group_id=values["group_id"],
            group_index=more.get("group_index"),
            stamps=more.get("stamps"),
            follows=more.get("follows"),
            root_id=values["root_id"],
            parent_id=values["parent_id"],
            periodic_task_name=values["periodic_task_name"],
        )

    return read


def _loaded(text: str | None) -> dict[str, Any]:
    # Rows can be edited by hand; one that was broken so must still be readable.
    try:
        found = loads_json(text) if text else {}
    except exceptions.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def refused(meta: ResultMeta, error: Exception) -> ResultMeta:
    """Return the FAILURE that is stored for a result that the database doesn't take."""
    reason = str(error).strip() or type(error).__name__
    text, content_type, content_encoding = encode_value(
        BackendStoreError(f"the task ended as {meta.status}, but the database refused what was to be kept of it: {reason}"[:2000])
    )
    return ResultMeta(
        task_id=meta.task_id,
        status=states.FAILURE,
        result=text,
        content_type=content_type,
        content_encoding=content_encoding,
        date_done=meta.date_done,
        name=meta.name,
        group_id=meta.group_id,
        group_index=meta.group_index if isinstance(meta.group_index, int) else None,
    )
