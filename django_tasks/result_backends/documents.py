"""A meta as the JSON document that Celery keeps of a task, and back."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
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
#: Keys that no stamp takes the place of: in Celery's documents stamps lie beside them.
_TAKEN: Final = frozenset(
    {
        *_PLAIN,
        *("task_id", "status", "result", "content_type", "content_encoding", "children", "date_done", "date_started"),
        *("args", "kwargs", "stamped_headers"),
    }
)
_quoted: Final = json.encoder.encode_basestring_ascii


def to_document(meta: ResultMeta) -> str:
    """Write Celery's document. A result of another serializer than JSON lies in it as text, with its content type.

    The state comes first, then what may have to be compared with it: the Redis backend looks for them in the text.
    """
    # Put together from pieces, since encoding a dictionary takes twice as long, and this is done for every task.
    started, done, result, children, traceback = meta.date_started, meta.date_done, meta.result, meta.children, meta.traceback
    begun = "" if started is None else f',"date_started":"{started.isoformat()}"'
    ended = "null" if done is None else f'"{done.isoformat()}"'
    kind = ""
    if meta.content_type != JSON_TYPE:
        kind = f',"content_type":{_quoted(meta.content_type)},"content_encoding":{_quoted(meta.content_encoding)}'
        result = None if result is None else _quoted(result)
    # Result and arguments are JSON already: they are spliced in, not read and written again.
    return (
        f'{{"status":{_quoted(meta.status)}{begun},"retries":{meta.retries},"task_id":{_quoted(meta.task_id)}'
        f"{_names(meta.name, meta.worker, meta.queue, meta.periodic_task_name)}{_family(meta)}"
        f',"date_done":{ended},"children":{"null" if children is None else dumps_json(children) if children else "[]"}'
        f',"traceback":{"null" if traceback is None else _quoted(traceback)},"result":{"null" if result is None else result}{kind}'
        f"{_optional('args', meta.args)}{_optional('kwargs', meta.kwargs)}{_stamps(meta.stamps) if meta.stamps else ''}}}"
    )


def stamps_beside(stamps: Mapping[str, Any]) -> dict[str, Any]:
    """Return stamps as they lie beside the other fields of Celery's document; one that has the name of a field is left out."""
    beside = {name: value for name, value in stamps.items() if name not in _TAKEN}
    return {"stamped_headers": list(beside), **beside} if beside else {}


def _stamps(stamps: Mapping[str, Any]) -> str:
    return "".join(f",{_quoted(name)}:{dumps_json(value)}" for name, value in stamps_beside(stamps).items())


def _stamps_in(document: Mapping[str, Any]) -> dict[str, Any] | None:
    beside = {name: document[name] for name in document.get("stamped_headers") or () if name not in _TAKEN and name in document}
    return loads_json(_text(beside)) if beside else None


@lru_cache(maxsize=1024)
def _names(name: str | None, worker: str | None, queue: str | None, periodic: str | None) -> str:
    # The same for many tasks.
    texts = {"name": name, "worker": worker, "queue": queue, "periodic_task_name": periodic}
    return "".join(f',"{key}":{_quoted(text)}' for key, text in texts.items() if text is not None)


def _family(meta: ResultMeta) -> str:
    text = ""
    if meta.root_id is not None:
        text += f',"root_id":{_quoted(meta.root_id)}'
    if meta.parent_id is not None:
        text += f',"parent_id":{_quoted(meta.parent_id)}'
    if meta.group_id is not None:
        text += f',"group_id":{_quoted(meta.group_id)}'
    if meta.group_index is not None:
        text += f',"group_index":{dumps_json(meta.group_index)}'
    return text if meta.runtime is None else f'{text},"runtime":{meta.runtime!r}'


def _optional(key: str, text: str | None) -> str:
    return "" if text is None else f',"{key}":{text}'


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
        stamps=_stamps_in(document),
        **known,
    )


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _time(stored: Any) -> datetime | None:
    # Celery writes ISO text; with its own JSON types a time may come as {"__type__": "datetime", ...}.
    found = loads_json(_text(stored)) if isinstance(stored, dict) else stored
    return clock.as_utc(found) if isinstance(found, datetime) else clock.parse_iso(found)
