"""A meta as the JSON document that Celery keeps of a task, and back."""

import json
from datetime import datetime
from typing import Any, Final

from django_tasks import clock
from django_tasks.exceptions import BackendGetMetaError, DecodeError
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.serializers import JSON_TYPE, dumps_json, loads_json

#: Fields under their own names, where they are known; Celery reads the first ones.
_PLAIN: Final = (
    *("traceback", "name", "worker", "queue", "retries", "group_id", "parent_id", "root_id"),
    *("group_index", "runtime", "periodic_task_name"),
)


def to_document(meta: ResultMeta) -> str:
    """Write Celery's document. A result of another serializer than JSON lies in it as text, with its content type."""
    document: dict[str, Any] = {
        "task_id": meta.task_id,
        "status": meta.status,
        "result": None,
        "children": meta.children,
        "date_done": _iso(meta.date_done),
        "traceback": None,
        **{name: value for name in _PLAIN if (value := getattr(meta, name)) is not None},
    }
    if meta.date_started is not None:
        document["date_started"] = _iso(meta.date_started)
    if meta.content_type != JSON_TYPE:
        document.update(result=meta.result, content_type=meta.content_type, content_encoding=meta.content_encoding)
        return _with(dumps_json(document), meta)
    del document["result"]
    return _with(dumps_json(document), meta, result=meta.result)


def _with(document: str, meta: ResultMeta, **texts: str | None) -> str:
    # Spliced, not read and written again: they are JSON already.
    texts |= {"args": meta.args, "kwargs": meta.kwargs}
    if "result" in texts and texts["result"] is None:
        texts["result"] = "null"
    return document[:-1] + "".join(f',"{name}":{text}' for name, text in texts.items() if text is not None) + "}"


def from_document(text: str | bytes) -> ResultMeta:
    """Read Celery's document. Raises BackendGetMetaError for text that is none."""
    try:
        # Not loads_json: what the values of «__type__» stand for is for whoever decodes the result.
        document = json.loads(text)
        return _meta(document)
    except (ValueError, LookupError, TypeError, AttributeError, DecodeError) as error:
        raise BackendGetMetaError(f"what is kept of a task can't be read ({error!r}): {text[:200]!r}") from error


def _meta(document: dict[str, Any]) -> ResultMeta:
    content_type = document.get("content_type") or JSON_TYPE
    result = document.get("result")
    known = {name: document[name] for name in _PLAIN if document.get(name) is not None}
    return ResultMeta(
        task_id=document["task_id"],
        status=document["status"],
        result=_text(result) if content_type == JSON_TYPE else result,
        content_type=content_type,
        content_encoding=document.get("content_encoding") or "utf-8",
        children=document.get("children"),
        date_done=_time(document.get("date_done")),
        date_started=_time(document.get("date_started")),
        args=_text(document["args"]) if document.get("args") is not None else None,
        kwargs=_text(document["kwargs"]) if document.get("kwargs") is not None else None,
        **known,
    )


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _time(stored: Any) -> datetime | None:
    # Celery writes ISO text; with its own JSON types a time may come as {"__type__": "datetime", ...}.
    found = loads_json(_text(stored)) if isinstance(stored, dict) else stored
    return clock.as_utc(found) if isinstance(found, datetime) else clock.parse_iso(found)
