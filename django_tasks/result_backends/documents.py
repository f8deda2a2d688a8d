"""A meta as the JSON document that Celery keeps of a task, and back."""

import json
from datetime import datetime
from operator import attrgetter
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
_TEXTS: Final = ("name", "worker", "queue", "group_id", "parent_id", "root_id", "periodic_task_name")
_texts_of: Final = attrgetter(*_TEXTS)
_quoted: Final = json.encoder.encode_basestring_ascii


def to_document(meta: ResultMeta) -> str:
    """Write Celery's document. A result of another serializer than JSON lies in it as text, with its content type.

    The state comes first, then what may have to be compared with it: the Redis backend looks for them in the text.
    """
    # Put together from pieces, since encoding a dictionary takes four times as long, and this is done for every task.
    pieces = [f'{{"status":{_quoted(meta.status)}']
    if meta.date_started is not None:
        pieces.append(f',"date_started":"{meta.date_started.isoformat()}"')
    pieces.append(f',"retries":{meta.retries:d},"task_id":{_quoted(meta.task_id)}')
    pieces += [f',"{name}":{_quoted(value)}' for name, value in zip(_TEXTS, _texts_of(meta), strict=True) if value is not None]
    if meta.runtime is not None:
        pieces.append(f',"runtime":{dumps_json(meta.runtime)}')
    if meta.group_index is not None:
        pieces.append(f',"group_index":{dumps_json(meta.group_index)}')
    done = "null" if meta.date_done is None else f'"{meta.date_done.isoformat()}"'
    children = "null" if meta.children is None else dumps_json(meta.children) if meta.children else "[]"
    traceback = "null" if meta.traceback is None else _quoted(meta.traceback)
    pieces.append(f',"date_done":{done},"children":{children},"traceback":{traceback}')
    if meta.content_type == JSON_TYPE:
        pieces.append(f',"result":{"null" if meta.result is None else meta.result}')
    else:
        kind, encoding = _quoted(meta.content_type), _quoted(meta.content_encoding)
        result = "null" if meta.result is None else _quoted(meta.result)
        pieces.append(f',"result":{result},"content_type":{kind},"content_encoding":{encoding}')
    # Spliced, not read and written again: they are JSON already.
    if meta.args is not None:
        pieces.append(f',"args":{meta.args}')
    if meta.kwargs is not None:
        pieces.append(f',"kwargs":{meta.kwargs}')
    return "".join(pieces) + "}"


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


def _time(stored: Any) -> datetime | None:
    # Celery writes ISO text; with its own JSON types a time may come as {"__type__": "datetime", ...}.
    found = loads_json(_text(stored)) if isinstance(stored, dict) else stored
    return clock.as_utc(found) if isinstance(found, datetime) else clock.parse_iso(found)
