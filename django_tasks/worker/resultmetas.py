"""What the result backend is given of an outcome, and of a task that runs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django_tasks import clock, states
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.outcomes import Outcome
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.serializers import dumps_json


def meta_of(outcome: Outcome, hostname: str) -> ResultMeta:
    """Build what is stored of an outcome. ``hostname`` names the worker."""
    request = outcome.request
    message = request.message
    ready = outcome.state in states.READY_STATES
    extended = settings.RESULT_EXTENDED
    return ResultMeta(
        task_id=message.id,
        status=outcome.state,
        result=outcome.result,
        content_type=outcome.content_type,
        content_encoding=outcome.content_encoding,
        traceback=outcome.traceback,
        children=request.children,
        date_done=clock.now() if ready else None,
        date_started=datetime.fromtimestamp(outcome.started_at, UTC) if outcome.started_at else None,
        name=message.task,
        args=_json(message.args) if extended else None,
        kwargs=_json(message.kwargs) if extended else None,
        worker=hostname if extended else None,
        queue=message.queue if extended else None,
        retries=message.retries,
        runtime=outcome.runtime,
        group_id=message.group,
        group_index=message.group_index,
        root_id=message.root_id,
        parent_id=message.parent_id,
        periodic_task_name=message.headers.get("periodic_task_name"),
        chord=message.embed.get("chord"),
        reply_to=message.reply_to,
    )


def started_meta(request: Request, hostname: str) -> ResultMeta:
    """Build what is stored of a task that runs for a while already."""
    running = Outcome(
        request=request,
        state=states.STARTED,
        started_at=request.time_start,
        result=dumps_json({"pid": request.worker_pid, "hostname": request.hostname}),
    )
    return meta_of(running, hostname)


def _json(value: Any) -> str:
    try:
        return dumps_json(value if isinstance(value, list | dict) else list(value) if isinstance(value, Sequence) else dict(value))
    except Exception:  # noqa: BLE001  pickled arguments need not be JSON; what is shown is then their text
        return dumps_json(repr(value))
