"""Options of tasks and of calls, as a project writes them: those that are refused here, and those that mean nothing."""

import ast
from collections.abc import Iterator
from typing import Final

from django_tasks.canvas.calls import OPTION_NAMES
from django_tasks.operations.migrating.celeryapps import dotted, nodes
from django_tasks.operations.migrating.findings import Finding, Severity
from django_tasks.operations.migrating.reading import Source
from django_tasks.tasks.definition import Task
from django_tasks.tasks.options import refuse_misspelt

#: Options of a decorator that Celery's worker reads, and ours does not.
NOT_OURS: Final = {
    "Request": "our worker has no such class; use before_start, on_failure and their kin of a base class, or a MIDDLEWARE",
    "Strategy": "our worker has no such class; use a MIDDLEWARE",
    "filter": "never called here; make it a decorator below this one",
    "retry_on_worker_lost": "not needed: TASK_MAX_DELIVERIES says how often a task may lose its worker",
}
_BACKEND: Final = "refused here: all tasks share RESULT_BACKEND"
#: AMQP's properties, which Celery hands on to the message.
PROPERTIES: Final = (
    frozenset({"app_id", "cluster_id", "content_encoding", "content_type", "correlation_id", "expiration", "message_id", "timestamp"})
    | {"type", "user_id"}
) - OPTION_NAMES
_SENDERS: Final = ("apply_async", "send_task")


def check_options(source: Source) -> Iterator[Finding]:
    """Report options of task decorators, and of ``apply_async`` and ``send_task``, that Celery takes and ours does not."""
    makers = _makers(source)
    for node in nodes(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _makes_tasks(dotted(decorator.func), makers):
                    yield from _check_decorator(source, decorator)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SENDERS:
            yield from _check_call(source, node, node.func.attr)


def _makers(source: Source) -> frozenset[str]:
    """Names that are ``shared_task`` in this module, Celery's or ours."""
    return frozenset(
        alias.asname or alias.name
        for node in nodes(source)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"celery", "django_tasks"}
        for alias in node.names
        if alias.name == "shared_task"
    )


def _makes_tasks(name: str, makers: frozenset[str]) -> bool:
    # app.task, celery_app.task: whatever the app is called.
    return name in makers or name.endswith(("celery.shared_task", "celery.task", "app.task"))


def _check_decorator(source: Source, call: ast.Call) -> Iterator[Finding]:
    based = any(word.arg == "base" for word in call.keywords)
    for word in call.keywords:
        if word.arg is None:
            continue
        instead = NOT_OURS.get(word.arg) or _refused(word.arg, word.value, based=based)
        if instead:
            what = f"@{dotted(call.func)}({word.arg}=…)"
            yield Finding(path=source.shown, line=word.value.lineno, what=what, instead=instead, severity=Severity.CHANGE)


def _refused(option: str, value: ast.expr, *, based: bool) -> str:
    if option == "backend":
        return "" if isinstance(value, ast.Constant) and value.value is None else _BACKEND
    if based:
        # A base class of the project's own may have an attribute of that name.
        return ""
    try:
        refuse_misspelt("", {option: None}, Task)
    except TypeError as error:
        said = str(error).removeprefix("task : ").removesuffix(" The task was not registered")
        return f"raises TypeError here: {said}"
    return ""


def _check_call(source: Source, call: ast.Call, sender: str) -> Iterator[Finding]:
    if any(word.arg is None or word.arg == "stamped_headers" for word in call.keywords):
        return
    for word in call.keywords:
        if word.arg in PROPERTIES:
            instead = "raises TypeError here: no such option; what the task is to see belongs into headers={...}"
            yield Finding(
                path=source.shown, line=word.value.lineno, what=f"{sender}({word.arg}=…)", instead=instead, severity=Severity.CHANGE
            )
