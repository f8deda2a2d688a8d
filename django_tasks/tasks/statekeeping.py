"""``Task.update_state``: a running task's own states."""

import json
from typing import Any

from django_tasks import result_backends
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.encoding import encode_value


def store_state(task: Any, request: Request, task_id: str | None, state: str | None, meta: Any) -> None:
    """Store a state and its details in the result backend, now."""
    if task_id is None:
        if request.called_directly or (request.is_eager and not task.store_eager_result):
            return
        task_id = request.message.id
    if not state:
        raise TypeError(f"{task.name}: update_state() needs a state, such as 'PROGRESS'; nothing was stored")
    text, content_type, content_encoding = encode_value(meta, settings.RESULT_SERIALIZER)
    own = task_id == request.message.id
    result_backends.current().store(
        [
            ResultMeta(
                task_id=task_id,
                status=state,
                result=text,
                content_type=content_type,
                content_encoding=content_encoding,
                children=list(request.children) if own else None,
                **(_known(request) if own else {}),
            )
        ]
    )


def _known(request: Request) -> dict[str, Any]:
    message = request.message
    known: dict[str, Any] = {
        "name": message.task,
        "worker": request.hostname,
        "queue": message.queue,
        "retries": message.retries,
        "group_id": message.group,
        "group_index": message.group_index,
        "root_id": message.root_id,
        "parent_id": message.parent_id,
    }
    if settings.RESULT_EXTENDED:
        known["args"] = json.dumps(message.args, default=repr)
        known["kwargs"] = json.dumps(dict(message.kwargs), default=repr)
    return known
