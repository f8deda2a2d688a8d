"""How a project's tasks and tests are written: classes of tasks, serializers, fixtures, names of Celery in texts."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from django_tasks.operations.migrating.celeryapps import dotted, nodes
from django_tasks.operations.migrating.commandlines import translate
from django_tasks.operations.migrating.findings import Finding, Severity, masked
from django_tasks.operations.migrating.reading import Source
from django_tasks.registry import registry

#: What a class of tasks may have in Celery, and means nothing here.
_NOT_OURS: Final = {
    "Request": "our worker has no such class; use before_start, on_failure and their kin, or a MIDDLEWARE",
    "Strategy": "our worker has no such class; use a MIDDLEWARE",
    "abstract": "not needed: only what a decorator makes, or register_task gets, is a task",
    "add_around": "never called here; use a MIDDLEWARE",
    "annotate": "never called here",
    "bind": "never called here",
    "from_config": "never read here; the attributes that follow settings are fixed",
    "on_bound": "never called here; use on_after_finalize of the app",
    "start_strategy": "never called here; use a MIDDLEWARE",
}
_CELERYS: Final = {"Task", "DjangoTask", "BaseTask"}
_PLUGINS: Final = ("celery.contrib.pytest", "pytest_celery")
_LOGGERS: Final = ("celery", "celery.task", "celery.worker", "celery.beat", "celery.app", "celery.app.trace", "celery.redirected")
_LOGGERS_BELOW: Final = ("celery.worker.", "celery.beat.", "celery.app.", "celery.utils.", "celery.backends.", "celery.apps.")
_PATH: Final = re.compile(r"(celery|django_celery_results)(\.[A-Za-z_]\w*)+(:\w+)?")
#: Names of files look like paths into a package.
_FILE: Final = re.compile(r".*\.(cfg|conf|db|html|ini|json|lock|log|pid|py|pyc|service|sh|sock|toml|txt|ya?ml)")


def check_task_code(source: Source) -> Iterator[Finding]:
    """Report classes of tasks, pickle, and texts that name modules, plugins and loggers of Celery."""
    loggers = list(_loggers(source))
    bases, other = _bases(source), {*_docstrings(source), *loggers}
    for node in nodes(source):
        if isinstance(node, ast.ClassDef):
            yield from _check_class(source, node, bases)
        elif isinstance(node, ast.keyword) and node.arg == "serializer" and isinstance(node.value, ast.Constant):
            if node.value.value == "pickle":
                instead = '"json", and plain data as arguments; pickle is refused unless ACCEPT_CONTENT lists it'
                yield Finding(
                    path=source.shown, line=node.value.lineno, what='serializer="pickle"', instead=instead, severity=Severity.LOOK
                )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in other:
            yield from _check_text(source, node.lineno, node.value)
    for logger in loggers:
        instead = '"django_tasks": our loggers lie below it'
        yield Finding(path=source.shown, line=logger.lineno, what=f'the logger "{logger.value!s}"', instead=instead, severity=Severity.LOOK)


def _docstrings(source: Source) -> set[ast.AST]:
    documented = [source.tree, *(node for node in nodes(source) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))]
    first = [node.body[0] for node in documented if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body]
    return {statement.value for statement in first if isinstance(statement, ast.Expr)}


def _bases(source: Source) -> set[str]:
    """Names that are a class of tasks in this module, ours or Celery's."""
    found = {"celery.Task", "celery.app.task.Task"}
    for node in nodes(source):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"celery", "django_tasks"}:
            found |= {alias.asname or alias.name for alias in node.names if alias.name in _CELERYS}
    derived = {node.name: {dotted(base) for base in node.bases} for node in nodes(source) if isinstance(node, ast.ClassDef)}
    while grown := {name for name, above in derived.items() if name not in found and any(_is_task(base, found) for base in above)}:
        found |= grown
    return found


def _is_task(name: str, bases: set[str]) -> bool:
    # app.Task, celery_app.Task: whatever the app is called.
    return name in bases or name.endswith("app.Task")


def _check_class(source: Source, node: ast.ClassDef, bases: set[str]) -> Iterator[Finding]:
    names = [dotted(base) for base in node.bases]
    found = next((name for name in names if _is_task(name, bases)), None)
    if found is None:
        return
    instead = "works with the Task of django_tasks: `run`, `__call__`, before_start, on_success and the others are called"
    yield Finding(path=source.shown, line=node.lineno, what=f"class {node.name}({found})", instead=instead, severity=Severity.COUNTS)
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        names += [statement.name] if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else []
        for name in names:
            if name in _NOT_OURS:
                severity = Severity.LOOK if name == "abstract" else Severity.CHANGE
                yield Finding(
                    path=source.shown, line=statement.lineno, what=f"{node.name}.{name}", instead=_NOT_OURS[name], severity=severity
                )


def _check_text(source: Source, line: int, text: str) -> Iterator[Finding]:
    if text in _PLUGINS:
        instead = "remove it: our pytest plugin is loaded by itself and has the same fixtures, unless Celery's plugin is there"
        yield Finding(path=source.shown, line=line, what=f'"{text}"', instead=instead, severity=Severity.CHANGE)
    elif _PATH.fullmatch(text) and not _FILE.fullmatch(text) and text not in registry and text not in _LOGGERS:
        instead = "a path into Celery: where something is imported, patched or configured by it, name the place in django_tasks"
        yield Finding(path=source.shown, line=line, what=f'"{text}"', instead=instead, severity=Severity.LOOK)
    elif "celery" in text and "\n" not in text:
        for ours in translate(text):
            severity = Severity.COUNTS if ours.counts else Severity.LOOK
            yield Finding(path=source.shown, line=line, what=f'"{masked(text)}"', instead=ours.instead, severity=severity)


def _is_logger(text: object) -> bool:
    return text in _LOGGERS or (isinstance(text, str) and text.startswith(_LOGGERS_BELOW))


def _loggers(source: Source) -> Iterator[ast.Constant]:
    """Yield Celery's loggers as keys of LOGGING, or asked for by getLogger."""
    keys = [key for node in nodes(source) if isinstance(node, ast.Dict) for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(value, ast.Dict | ast.Call | ast.Name)]  # fmt: skip
    asked = [node.args[0] for node in nodes(source) if isinstance(node, ast.Call) and dotted(node.func).endswith("getLogger") and node.args]
    yield from (key for key in (*keys, *asked) if isinstance(key, ast.Constant) and _is_logger(key.value))
