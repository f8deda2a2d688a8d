"""``Task.update_state`` and ``Task.progress``: a running task's own states."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from django_tasks import clock, result_backends, states
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.messages import shown_arguments
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.encoding import encode_value, plain_stamps

#: Seconds between two notes of a task's progress: people don't read faster, and a loop may turn a thousand times in them.
NOTED_EVERY: Final = 0.25


def store_progress(task: Any, request: Request, done: float, total: float | None, message: str) -> None:
    """Store how far a task has come, unless that was done a moment ago."""
    for name, number in (("done", done), ("total", total)):
        if not (isinstance(number, int | float) and number >= 0) and not (name == "total" and number is None):
            raise ValueError(f"{task.name}: progress() takes numbers from 0 on, but {name} is {number!r}; nothing was stored")
    now = clock.monotonic()
    finished = total is not None and done >= total
    if request.called_directly or (now - request.progress_noted < NOTED_EVERY and not finished):
        return
    request.progress_noted = now
    store_state(task, request, None, states.PROGRESS, {"done": done, "total": total, "message": str(message)})


def store_state(task: Any, request: Request, task_id: str | None, state: str | None, meta: Any, traceback: str | None = None) -> None:
    """Store a state and its details in the result backend, now."""
    if task_id is None:
        if request.id is None or (request.is_eager and not task.store_eager_result):
            return
        task_id = request.id
    if not state:
        raise TypeError(f"{task.name}: update_state() needs a state, such as 'PROGRESS'; nothing was stored")
    text, content_type, content_encoding = encode_value(meta, settings.RESULT_SERIALIZER)
    own = task_id == request.message.id
    request.stored_own_state |= own
    result_backends.current().store(
        [
            ResultMeta(
                task_id=task_id,
                status=state,
                result=text,
                content_type=content_type,
                content_encoding=content_encoding,
                traceback=traceback,
                children=list(request.children) if own else None,
                **(_known(request) if own else {}),
            )
        ]
    )


def _known(request: Request) -> dict[str, Any]:
    message = request.message
    known: dict[str, Any] = {
        "date_started": datetime.fromtimestamp(request.time_start, UTC) if request.time_start else None,
        "name": message.task,
        "reply_to": message.reply_to,
        "worker": request.hostname,
        "queue": message.queue,
        "retries": message.retries,
        "group_id": message.group,
        "group_index": message.group_index,
        "root_id": message.root_id,
        "parent_id": message.parent_id,
    }
    if settings.RESULT_EXTENDED:
        args, kwargs = shown_arguments(message)
        known["args"] = json.dumps(args, default=repr)
        known["kwargs"] = json.dumps(kwargs if isinstance(kwargs, str) else dict(kwargs), default=repr)
        known["stamps"] = plain_stamps(message.stamps)
    return known
