"""``tasks list``, ``tasks call`` and ``tasks result``."""

import inspect
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import connections

from django_tasks import clock, result_backends, states
from django_tasks.application import app
from django_tasks.canvas.calls import refuse_misplaced
from django_tasks.canvas.parameters import told_signature
from django_tasks.cli.tables import Failure, Screen
from django_tasks.cli.watching import watch
from django_tasks.exceptions import TaskError, TimeoutError
from django_tasks.models import DeadLetter, Message, TaskResult
from django_tasks.operations import times
from django_tasks.operations.calls import BadArguments, nearest_task, parse_arguments
from django_tasks.operations.queues import message_rows
from django_tasks.registry import registry
from django_tasks.result_backends import encoding
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.worker.mistyped import warn_of_mistyped

# fmt: off
_DETAIL = (
    "queue", "bind", "is_async", "max_retries", "default_retry_delay", "rate_limit", "time_limit", "soft_time_limit", "priority",
    "acks_late", "reject_on_worker_lost", "ignore_result", "track_started", "serializer",
)
# fmt: on


def list_tasks(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print the registered tasks: those of the project, with ``--all`` the built-in ones as well."""
    names = sorted(name for name in registry if options.get("all") or not name.startswith("celery."))
    wanted = options.get("contains")
    chosen = [name for name in names if not wanted or wanted in name]
    if options.get("detail"):
        return _details(screen, chosen)
    rows = [{"name": name, "does": _first_line(registry[name])} for name in chosen]
    screen.rows(rows, ["name", "does"], empty="no task is registered" if not wanted else f"no task has {wanted!r} in its name")
    return 0


def _details(screen: Screen, names: list[str]) -> int:
    records = [_described(registry[name]) for name in names]
    if screen.as_json:
        screen.rows(records, ["name"])
        return 0
    for record in records:
        screen.record(record)
        screen.say("")
    return 0


def _described(task: Any) -> dict[str, Any]:
    described = {"name": task.name, "does": _first_line(task), "arguments": _arguments(task), "module": task.__module__}
    return {**described, **{name: getattr(task, name, None) for name in _DETAIL}}


def _arguments(task: Any) -> str:
    try:
        return str(told_signature(task.run))
    except (TypeError, ValueError):
        return ""


def _first_line(task: Any) -> str:
    doc = inspect.getdoc(getattr(task, "run", None)) or ""
    return doc.strip().partition("\n")[0]


def call(screen: Screen, options: Mapping[str, Any]) -> int:
    """Send one call of a task; with ``--wait`` print its result and fail if it failed."""
    name = options["name"]
    result = _send(name, options)
    screen.say(str(result.id))
    if options.get("wait", False) is False:
        if screen.as_json:
            screen.record({"id": result.id, "task": name})
        return 0
    meta = _awaited(str(result.id), options["wait"])
    record = {"id": result.id, "task": name, **_outcome(meta, with_traceback=True)}
    if screen.as_json:
        screen.record(record)
    elif meta.status == states.SUCCESS:
        screen.record({"result": record["result"]})
    else:
        screen.record({name: record[name] for name in ("state", "result", "traceback")})
    return 0 if meta.status == states.SUCCESS else 1


def _send(name: str, options: Mapping[str, Any]) -> Any:
    try:
        args = parse_arguments(options.get("task_args") or "[]", list, "--args")
        kwargs = parse_arguments(options.get("task_kwargs") or "{}", dict, "--kwargs")
    except BadArguments as error:
        raise Failure(str(error)) from error
    chosen = ("queue", "countdown", "eta", "expires", "priority")
    sending = {option: options[option] for option in chosen if options.get(option) is not None}
    task = registry.find(name)
    if task is None and not options.get("force"):
        raise Failure(_unknown(name))
    try:
        refuse_misplaced(name, sending)
    except TypeError as error:
        raise Failure(f"{name!r:.300} was not sent: {error}") from error
    if "queue" in sending:
        warn_of_mistyped([sending["queue"]], then="The call is sent there all the same")
    if task is None:
        return _forced(name, args, kwargs, sending)
    try:
        return task.apply_async(args, kwargs, **sending)
    except TypeError as error:
        raise Failure(f"wrong arguments for {name}{_arguments(task)}: {error}") from error
    except ValueError as error:
        # A queue or a priority that nothing can carry.
        raise Failure(f"{name} was not sent: {error}") from error


def _forced(name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
    try:
        return app.send_task(name, args, kwargs, **options)
    except (TypeError, ValueError) as error:
        raise Failure(f"{name!r:.300} was not sent: {error}") from error


def _unknown(name: str) -> str:
    near = nearest_task(name)
    hint = f"did you mean {near!r}?" if near else "`tasks list` shows those there are."
    return f"no task is registered under the name {name!r}; {hint} With --force it is sent nevertheless, for a worker that knows it."


def _awaited(task_id: str, timeout: float | None) -> ResultMeta:
    backend = result_backends.current()
    try:
        return next(iter(backend.wait([task_id], timeout)))
    except (TimeoutError, StopIteration) as error:
        raise Failure(f"{task_id} had no result after {timeout:g} s" if timeout is not None else f"{task_id} has no result") from error


def result(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print what is known of one task."""
    task_id = options["id"]
    if options.get("watch", False) is not False:
        meta: ResultMeta | None = watch(task_id, screen.redraw, options["watch"])
        if meta is None or meta.status not in states.READY_STATES:
            raise Failure(f"{task_id} was not done after {options['watch']:g} s")
    elif options.get("wait", False) is not False:
        meta = _awaited(task_id, options["wait"])
    else:
        meta = result_backends.current().fetch([task_id]).get(task_id)
    if meta is None:
        return _without_result(screen, task_id)
    outcome = _outcome(meta, with_traceback=bool(options.get("traceback")) or screen.as_json)
    screen.record({"id": task_id, "task": meta.name, **outcome, **_circumstances(meta)})
    return 0


def _circumstances(meta: ResultMeta) -> dict[str, Any]:
    return {
        "args": meta.args,
        "kwargs": meta.kwargs,
        "queue": meta.queue,
        "worker": meta.worker,
        "retries": meta.retries,
        "runtime": times.run_time(meta),
        "waited": times.waited(_sent_at(meta), meta.date_started),
        "started": meta.date_started,
        "done": meta.date_done,
        "parent": meta.parent_id,
        "root": meta.root_id,
        "group": meta.group_id,
    }


def _sent_at(meta: ResultMeta) -> datetime | None:
    # Rows of results know it; other stores keep what Celery's documents keep.
    alias = getattr(result_backends.current(), "alias", None)
    if alias is None or alias not in connections:
        return meta.date_created
    sent: datetime | None = TaskResult.objects.using(alias).filter(task_id=meta.task_id).values_list("date_created", flat=True).first()
    return sent


def _without_result(screen: Screen, task_id: str) -> int:
    # Nothing is stored while a task waits, so a queue may know what the results don't.
    waiting: Message | None = message_rows().filter(task_id=task_id).defer("body", "headers", "properties").first()
    if waiting is not None:
        place = {"queue": waiting.queue, "message": str(waiting.get_state_display()), "until": waiting.until, "created": waiting.created_at}
        screen.record({"id": task_id, "task": waiting.task, "state": states.PENDING, **place})
        return 0
    dead = DeadLetter.objects.filter(task_id=task_id).defer("body", "headers", "properties").first()
    hint = f"; dead letter {dead.pk} has this id: `tasks dead show {dead.pk}`" if dead is not None else ""
    if screen.as_json:
        screen.record({"id": task_id, "state": None})
    raise Failure(f"nothing is known of {task_id!r}: no result, and no message of the database broker{hint}")


def _outcome(meta: ResultMeta, *, with_traceback: bool) -> dict[str, Any]:
    outcome: dict[str, Any] = {"state": meta.status, "result": _value(meta)}
    if with_traceback:
        outcome["traceback"] = meta.traceback
    return outcome


def _value(meta: ResultMeta) -> Any:
    try:
        value = encoding.decode(meta)
    except TaskError as error:
        return f"(the result can't be decoded: {error})"
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return value


def parse_moment(text: str) -> datetime:
    """Read ``--eta``: a time in ISO 8601; naive means UTC. Raises ValueError."""
    moment = clock.parse_iso(text)
    if moment is None:
        raise ValueError(text)
    return moment


def parse_expires(text: str) -> float | datetime:
    """Read ``--expires``: seconds from now, or a time in ISO 8601. Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        return parse_moment(text)
