"""What the result backend is given of an outcome, and of a task that runs."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django_tasks import clock, states
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.messages import HIDDEN, SENT_AT, TaskMessage, shown_arguments
from django_tasks.outcomes import Outcome
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.encoding import plain_stamps
from django_tasks.serializers import dumps_json

#: Most characters that are kept of what was to follow a task that failed.
MOST_KEPT: Final = 64 * 1024
#: In the place of what was not kept: why not.
OMITTED: Final = "omitted"
#: Fields of a message that a result has no field of its own for. Not its times: it is to run when it is sent.
TOLD: Final = (
    *("exchange", "routing_key", "priority", "time_limit", "soft_time_limit", "ignore_result", "shadow", "reply_to"),
    *("replaced_task_nesting", "stamped_headers", "stamps", "serializer", "compression", "headers"),
)
_PLAIN: Final = {name: getattr(TaskMessage(id="", task=""), name) for name in TOLD}
#: What needs no conversion for JSON. Made here: a union written where it is used is built anew for every task.
_PLAIN_TYPES: Final = (list, tuple, dict, str)
#: An option by which the caller of a later step hides its arguments.
_HIDING: Final = re.compile(r'"(?:args|kwargs)repr":(?!null)')


def meta_of(outcome: Outcome, hostname: str) -> ResultMeta:
    """Build what is stored of an outcome. ``hostname`` names the worker."""
    request = outcome.request
    message = request.message
    ready = outcome.state in states.READY_STATES
    extended = settings.RESULT_EXTENDED
    args, kwargs = shown_arguments(message) if extended else (None, None)
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
        date_created=_sent_at(request),
        name=message.task,
        args=_json(args) if extended else None,
        kwargs=_json(kwargs) if extended else None,
        worker=hostname if extended else None,
        queue=message.queue if extended else None,
        retries=message.retries,
        runtime=outcome.runtime,
        group_id=message.group,
        group_index=message.group_index,
        root_id=message.root_id,
        parent_id=message.parent_id,
        periodic_task_name=_text(message.headers.get("periodic_task_name")),
        chord=message.embed.get("chord"),
        reply_to=message.reply_to,
        stamps=plain_stamps(message.stamps) if extended and message.stamps else None,
        follows=_follows(message) if extended and outcome.state in states.PROPAGATE_STATES else None,
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


def _follows(message: TaskMessage) -> dict[str, Any] | None:
    """Return what the rest of a result doesn't tell of a message, with which it can be sent once more as it was."""
    if message.root_id is None:
        # It could not be read, or is known by its id alone.
        return None
    told = {name: value for name in TOLD if (value := getattr(message, name)) is not None and value != _PLAIN[name]}
    embed = {name: value for name, value in message.embed.items() if value}
    if "chord" in embed:
        # Every part of the chord would hold a copy of its body, which the chord's own record has.
        embed["chord"] = True
    try:
        text = dumps_json({**told, "embed": embed})
    except Exception:  # noqa: BLE001  pickled messages hold anything
        return {OMITTED: "it can't be written as JSON"}
    if message.serializer not in {None, "json"} and not _json_keeps(embed):
        return {OMITTED: "JSON would change it"}
    if len(text) > MOST_KEPT:
        return {OMITTED: f"it has {len(text):,} bytes, and at most {MOST_KEPT:,} are kept"}
    if message.headers.get(HIDDEN) or _HIDING.search(text):
        return {OMITTED: "its arguments are hidden"}
    return {**told, "embed": embed} if embed else told


def _json_keeps(value: Any) -> bool:
    """Whether a value is the same after a journey as JSON; a tuple for a list is."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _json_keeps(each) for name, each in value.items())
    return all(map(_json_keeps, value)) if isinstance(value, list | tuple) else not isinstance(value, set | frozenset)


def _sent_at(request: Request) -> datetime | None:
    # Of the envelope's headers, which nobody copies: a retry's message says when it was sent itself.
    delivery = request.delivery
    text = None if delivery is None else delivery.envelope.headers.get(SENT_AT)
    try:
        return None if text is None else clock.parse_iso(text)
    except (TypeError, ValueError, OverflowError):
        return None


def _text(header: Any) -> str | None:
    # Anybody may have sent it.
    return header if isinstance(header, str) else None


def _json(value: Any) -> str:
    try:
        return dumps_json(value if isinstance(value, _PLAIN_TYPES) else list(value) if isinstance(value, Sequence) else dict(value))
    except Exception:  # noqa: BLE001  pickled arguments need not be JSON; what is shown is then their text
        return dumps_json(repr(value))
