"""What lies in Celery's stores: its documents from metas and back, through the serializer of the results."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from django_tasks import states
from django_tasks.exceptions import BackendGetMetaError, EncodeError, SoftTimeLimitExceeded, TaskError
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.documents import from_document, to_document
from django_tasks.result_backends.encoding import decode, encode_value
from django_tasks.serializers import JSON_TYPE, dumps_json

#: Longest name, worker and queue in Celery's tables.
_COLUMN: Final = 155
#: What Celery's tables have no column for, or in case of children none for «none». It is given to them as stamps, which lie
#: beside the rest in Celery's documents.
_BESIDE: Final = ("children", "date_started", "runtime", "group_id", "group_index", "root_id", "parent_id", "periodic_task_name")


class _Child:
    """A result tuple in the guise that Celery's code asks for."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire

    def as_tuple(self) -> Any:
        """Return the tuple."""
        return self._wire


class Request:
    """What Celery's backends read of a task's request, from a meta."""

    def __init__(self, meta: ResultMeta) -> None:
        self.id = meta.task_id
        self.task = plain(meta.name, _COLUMN)
        self.args = None if meta.args is None else json.loads(meta.args)
        self.kwargs = None if meta.kwargs is None else json.loads(meta.kwargs)
        self.hostname = plain(meta.worker, _COLUMN)
        self.retries = meta.retries
        self.delivery_info = {"routing_key": plain(meta.queue, _COLUMN)}
        self.group = meta.group_id
        self.parent_id = meta.parent_id
        self.children = [_Child(wire) for wire in meta.children or ()]
        document = json.loads(to_document(meta))
        beside = (*_BESIDE, *(document.get("stamped_headers") or ()))
        self.stamps = {name: document[name] for name in beside if document.get(name) is not None}
        self.stamped_headers = list(self.stamps)


def plain(text: str | None, longest: int | None = None) -> str | None:
    """Return text as a column takes it: without NUL and halves of surrogate pairs, and cut to a length."""
    return None if text is None else text.replace("\0", "\ufffd").encode(errors="replace").decode()[:longest]


def encoding(make: Callable[[], Any]) -> Any:
    """Do what may fail because of the value, not of the store. Raises EncodeError."""
    try:
        return make()
    except (TaskError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        raise EncodeError(f"the result can't be stored: {error}") from error


def decoding(backend: Any, payload: Any) -> Any:
    """Read a payload with the serializer of the results. Raises BackendGetMetaError."""
    try:
        return backend.decode(payload)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        # Of another serializer than RESULT_SERIALIZER, or not to be accepted.
        raise BackendGetMetaError(f"what is kept of a task can't be read ({error!r}): {payload[:200]!r}") from error


def value_of(meta: ResultMeta, backend: Any) -> Any:
    """Return what lies in Celery's document as the result: an exception in its wire form."""
    if meta.content_type == backend.content_type == JSON_TYPE:
        return None if meta.result is None else json.loads(meta.result)
    value = decode(replace(meta, status=states.SUCCESS), accept=[meta.content_type])
    if meta.content_type != backend.content_type:
        # Whether RESULT_SERIALIZER takes it must show before the store is asked.
        backend.encode(value)
    return value


def document_of(meta: ResultMeta, backend: Any) -> dict[str, Any]:
    """Make Celery's document, which the backend then encodes with RESULT_SERIALIZER."""
    document: dict[str, Any] = json.loads(to_document(meta))
    if backend.content_type != JSON_TYPE:
        # The whole document goes through the serializer, so the result lies in it as it is.
        document = {name: value for name, value in document.items() if name not in {"content_type", "content_encoding"}}
        document["result"] = value_of(meta, backend)
    return document


def meta_of(document: dict[str, Any], backend: Any) -> ResultMeta:
    """Read Celery's document, decoded. Raises BackendGetMetaError for what is none."""
    if backend.content_type == JSON_TYPE:
        return from_document(dumps_json(document))
    text, content_type, content_encoding = encode_value(document.pop("result", None), backend.serializer)
    meta = from_document(dumps_json(document))
    return replace(meta, result=text, content_type=content_type, content_encoding=content_encoding)
