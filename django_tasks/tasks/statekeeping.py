"""``Task.update_state`` and ``Task.progress``: a running task's own states."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django_tasks import clock, result_backends, states
from django_tasks.canvas.optionvalues import is_limit
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.messages import shown_arguments
from django_tasks.result.arguments import LONGEST_ID, is_id
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.encoding import encode_value, plain_stamps

#: Seconds between two notes of a task's progress: people don't read faster, and a loop may turn a thousand times in them.
NOTED_EVERY: Final = 0.25
#: As wide as the databases' columns.
_LONGEST_STATE: Final = 50
#: What ``update_state`` takes beside its own arguments; the second is Celery's, and the run's own counts.
_TAKEN: Final = frozenset({"traceback", "request"})


def store_progress(task: Any, request: Request, done: float, total: float | None, message: str) -> None:
    """Store how far a task has come, unless that was done a moment ago."""
    for name, number in (("done", done), ("total", total)):
        if not is_limit(number) and not (name == "total" and number is None):
            raise ValueError(f"{task.name}: progress() takes numbers from 0 on, but {name} is {number!r}; nothing was stored")
    now = clock.monotonic()
    finished = total is not None and done >= total
    if request.called_directly or (now - request.progress_noted < NOTED_EVERY and not finished):
        return
    request.progress_noted = now
    store_state(task, request, None, states.PROGRESS, {"done": done, "total": total, "message": str(message)})


def refuse_state(name: str, task_id: Any, state: Any, more: Mapping[str, Any]) -> None:
    """Raise TypeError for what ``update_state`` doesn't take."""
    if not isinstance(state, str) or not 0 < len(state) <= _LONGEST_STATE or not state.isprintable():
        takes = f"a state, such as 'PROGRESS', of at most {_LONGEST_STATE} characters"
        raise TypeError(f"{name}: update_state() needs {takes}, not {state!r:.200}; nothing was stored")
    if task_id is not None and not is_id(task_id):
        raise TypeError(
            f"{name}: update_state() takes task_id as text of at most {LONGEST_ID} characters, not {task_id!r:.300}; nothing was stored"
        )
    if unknown := more.keys() - _TAKEN:
        raise TypeError(f"{name}: update_state() takes task_id, state, meta and traceback, not {min(unknown)}; nothing was stored")


def store_state(task: Any, request: Request, task_id: str | None, state: Any, meta: Any, traceback: str | None = None) -> None:
    """Store a state and its details in the result backend, now."""
    if task_id is None:
        if request.id is None or (request.is_eager and not task.store_eager_result):
            return
        task_id = request.id
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
