"""INSTALLED_APPS, and the settings that ought to be there and are not: what only the whole project shows."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Final

from django_tasks.operations.migrating.celeryapps import dotted, nodes
from django_tasks.operations.migrating.findings import Finding, Severity
from django_tasks.operations.migrating.names import COMPANIONS, prefixes
from django_tasks.operations.migrating.reading import Source

_NEEDED: Final = {
    "django_tasks": '"django_tasks" behind "django_celery_beat": tasks are found and commands are there by this line alone',
    "django_celery_beat": '"django_celery_beat": its models hold the schedules of periodic tasks',
}
#: Workers of Celery that are told to consume the queue celery.
_CONSUMED: Final = re.compile(r"""celery\b.*[\s"'](-Q|--queues)[\s=,"']+([\w.-]+,)*celery\b""")
#: Settings whose default differs so much that a moving project wants to choose.
_CHOICES: Final = {
    "TASK_DEFAULT_QUEUE": (
        'the default queue is named default here, celery there: set it to "celery" while both kinds of workers run,'
        " and as long as -Q, TASK_QUEUES or routes name that queue"
    ),
    "BROKER_URL": "without it messages wait in the Django database (db://default), not in RabbitMQ on this machine",
}


def check_installed(sources: Sequence[Source]) -> Iterator[Finding]:
    """Report apps that are not needed any more, apps that are missing, and choices that nobody has made."""
    listed: set[str] = set()
    places: list[tuple[int, tuple[str, int]]] = []
    for source in sources:
        for line, entries, name in _app_lists(source):
            if name == "INSTALLED_APPS":
                places.append((len(entries), (source.shown, line)))
            for entry, entry_line in entries:
                app = entry.split(".apps.")[0]
                listed.add(app)
                yield from _check_app(source, entry_line, app)
    if not places:
        return
    # The longest: others add to it on some condition, in a file of their own or for tests.
    path, line = max(places, key=lambda found: found[0])[1]
    for app, instead in _NEEDED.items():
        if app not in listed:
            yield Finding(path=path, line=line, what=f"INSTALLED_APPS without {app}", instead=instead, severity=Severity.CHANGE)
    written = {text for source in sources if source.is_python for text in _names(source)}
    for name, instead in _CHOICES.items():
        if not {name, name.lower(), f"CELERY_{name}"} & written:
            severity = Severity.CHANGE if name == "TASK_DEFAULT_QUEUE" and _names_celerys_queue(sources) else Severity.LOOK
            yield Finding(path=path, line=line, what=f"{name} is set nowhere", instead=instead, severity=severity)


def _names_celerys_queue(sources: Sequence[Source]) -> bool:
    """Whether something names Celery's default queue: then what is sent to ours would wait for ever."""
    calls = (node for source in sources for node in nodes(source) if isinstance(node, ast.Call) and dotted(node.func).endswith("Queue"))
    declared = any(isinstance(argument, ast.Constant) and argument.value == "celery" for call in calls for argument in call.args[:1])
    return declared or any(_CONSUMED.search(source.text) for source in sources if not source.is_python)


def _app_lists(source: Source) -> Iterator[tuple[int, list[tuple[str, int]], str]]:
    for node in nodes(source):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            name = next((target.id for target in targets if isinstance(target, ast.Name)), "")
            if name.endswith("APPS"):
                yield node.lineno, _texts(node.value), name
        elif isinstance(node, ast.FunctionDef) and node.name == "INSTALLED_APPS":
            # A property of a class of settings.
            yield node.lineno, [text for statement in node.body for text in _texts(statement)], node.name


def _texts(node: ast.AST) -> list[tuple[str, int]]:
    return [(one.value, one.lineno) for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def _check_app(source: Source, line: int, app: str) -> Iterator[Finding]:
    if app == "django_celery_results":
        instead = "not needed: results are rows of django_tasks' TaskResult; keep it while somebody reads the old tables"
        yield Finding(path=source.shown, line=line, what=f"INSTALLED_APPS: {app}", instead=instead, severity=Severity.LOOK)
        return
    told = next((COMPANIONS[prefix] for prefix in prefixes(app) if prefix in COMPANIONS), None)
    if told is not None:
        yield Finding(path=source.shown, line=line, what=f"INSTALLED_APPS: {app}", instead=told[1], severity=told[0])


def _names(source: Source) -> Iterator[str]:
    for node in nodes(source):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield {"broker": "BROKER_URL"}.get(node.arg, node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isupper():
            yield node.value
