"""What a project does with its Celery app: makes it, configures it, asks it for what our app has or has not."""

import ast
from collections.abc import Iterator, Mapping
from typing import Final

from django_tasks.application import COMMANDS_TO_COME, app
from django_tasks.conf_options import OPTIONS
from django_tasks.operations.migrating.celeryapps import Apps, absolute_module, dotted, imported_apps, made, nodes
from django_tasks.operations.migrating.findings import Finding, Severity
from django_tasks.operations.migrating.reading import Source
from django_tasks.operations.migrating.writtensettings import judge

#: Where the arguments of ``Celery(…)`` go.
_ARGUMENTS: Final = {"broker": "BROKER_URL", "backend": "RESULT_BACKEND", "include": "INCLUDE"}
_NOT_YET: Final = ("events", "connection")
_ACCEPTED: Final[Mapping[str, str]] = {
    "config_from_object": "does nothing here, remove it: settings are DJANGO_TASKS and CELERY_* of Django's settings",
    "autodiscover_tasks": "does nothing here, remove it: the tasks module of every installed app is imported; others stand in IMPORTS",
}
_MISSING: Final[Mapping[str, str]] = {
    "amqp": "no counterpart: TASK_QUEUES and TASK_ROUTES say where messages go",
    "config_from_envvar": "remove it: settings are Django's",
    "loader": "no counterpart: tasks are found in installed apps and IMPORTS",
    "log": "no counterpart: Django's LOGGING counts",
    "pool": "no counterpart: connections are kept inside the broker",
    "set_current": "remove it: there is one app",
    "set_default": "remove it: there is one app",
    "setup_security": "no counterpart: messages are not signed",
    "start": "no counterpart: `manage.py runworker`",
    "steps": "no counterpart: bootsteps are parts of Celery's worker; use the signals worker_*, or a MIDDLEWARE",
    "subtask": "app.signature",
    "timezone": "app.conf.timezone; None means Django's TIME_ZONE",
    "user_options": "no counterpart: options of a management command of your own",
    "worker_main": "no counterpart: `manage.py runworker`",
}


def check_app(source: Source, apps: Apps) -> Iterator[Finding]:
    """Report where a module makes a Celery app, and each use of an app that is different here."""
    yield from _check_made(source)
    names = _app_names(source, apps)
    # A chain is looked at where it is longest.
    inner = {id(node.value) for node in nodes(source) if isinstance(node, ast.Attribute)}
    for node in nodes(source):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            yield from _check_chain(source, node, names)
        if isinstance(node, ast.Call):
            yield from _check_conf_update(source, node, names)
        if isinstance(node, ast.Assign):
            yield from _check_conf_assignment(source, node, names)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _check_decorators(source, node, names)


def _check_made(source: Source) -> Iterator[Finding]:
    found = made(source)
    for cls in found.classes:
        instead = "no counterpart: there is one app, of one class; change calls and runs in a MIDDLEWARE"
        yield Finding(path=source.shown, line=cls.lineno, what=f"class {cls.name}(Celery)", instead=instead, severity=Severity.CHANGE)
    for call, name in found.calls:
        moved = [f"{word.arg} is {_ARGUMENTS[word.arg]}" for word in call.keywords if word.arg in _ARGUMENTS]
        line = f"from django_tasks import app{f' as {name}' if name and name != 'app' else ''}"
        instead = f"{line}; or remove the module, since nothing has to make an app (what else is in it: an AppConfig.ready)" + (
            f". Settings: {', '.join(moved)}" if moved else ""
        )
        yield Finding(
            path=source.shown, line=call.lineno, what=f"{name + ' = ' if name else ''}Celery(…)", instead=instead, severity=Severity.CHANGE
        )


def _app_names(source: Source, apps: Apps) -> frozenset[str]:
    """Names that are an app in this module: made here, imported from where it is made, Celery's current one, or ours already."""
    names = {name for _, name in made(source).calls if name} | imported_apps(source, apps)
    for node in nodes(source):
        if isinstance(node, ast.ImportFrom):
            wanted = {"django_tasks": "app", "celery": "current_app", "celery._state": "current_app"}.get(absolute_module(node, source))
            names |= {alias.asname or alias.name for alias in node.names if alias.name == wanted}
    return frozenset(names)


def _check_chain(source: Source, node: ast.Attribute, names: frozenset[str]) -> Iterator[Finding]:
    chain = dotted(node)
    root, *rest = chain.split(".")
    parts = rest if root in names else chain.split(".app.", 1)[1].split(".") if ".app." in chain else []
    if not parts:
        return
    if parts[0] == "control" and len(parts) > 1 and parts[1] in COMMANDS_TO_COME:
        instead = "comes with a later release and raises NotImplementedError until then; revoke, terminate and purge work"
        yield Finding(path=source.shown, line=node.lineno, what=chain, instead=instead, severity=Severity.CHANGE)
    elif parts[0] in _NOT_YET:
        instead = "comes with a later release and raises NotImplementedError until then"
        yield Finding(path=source.shown, line=node.lineno, what=chain, instead=instead, severity=Severity.CHANGE)
    elif parts[0] in _ACCEPTED:
        yield Finding(path=source.shown, line=node.lineno, what=chain, instead=_ACCEPTED[parts[0]], severity=Severity.LOOK)
    elif root in names and not parts[0].startswith("_") and not hasattr(type(app), parts[0]) and parts[0] not in vars(app):
        instead = _MISSING.get(parts[0], f"no counterpart: our app has no {parts[0]}")
        yield Finding(path=source.shown, line=node.lineno, what=chain, instead=instead, severity=Severity.CHANGE)


def _check_conf_update(source: Source, node: ast.Call, names: frozenset[str]) -> Iterator[Finding]:
    root, _, rest = dotted(node.func).partition(".")
    if root not in names or rest != "conf.update":
        return
    pairs = [(word.arg, word.value) for word in node.keywords if word.arg]
    for argument in node.args:
        if isinstance(argument, ast.Dict):
            pairs += [
                (str(key.value), value) for key, value in zip(argument.keys, argument.values, strict=True) if isinstance(key, ast.Constant)
            ]
    for name, value in pairs:
        yield _conf(source, value.lineno, f"{root}.conf.update({name}=…)", name, value)


def _check_conf_assignment(source: Source, node: ast.Assign, names: frozenset[str]) -> Iterator[Finding]:
    for target in node.targets:
        root, _, rest = dotted(target).partition(".")
        if root in names and rest.startswith("conf."):
            yield _conf(source, node.lineno, f"{root}.{rest} = …", rest.removeprefix("conf."), node.value)
        elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            root, _, rest = dotted(target.value).partition(".")
            if root in names and rest == "conf":
                yield _conf(source, node.lineno, f"{root}.conf[{target.slice.value!r}] = …", str(target.slice.value), node.value)


def _conf(source: Source, line: int, what: str, name: str, value: ast.expr) -> Finding:
    """Judge a setting that is given to the app: it holds where the module is imported, and only there."""
    upper = name.upper().removeprefix("CELERY_")
    instead, severity = judge(upper, value)
    if upper not in OPTIONS:
        severity = Severity.CHANGE
        instead = f"raises an error here: {instead}"
    elif severity is Severity.COUNTS:
        severity = Severity.LOOK
        instead = f'works where this module is imported; DJANGO_TASKS["{upper}"] counts everywhere. {instead}'
    return Finding(path=source.shown, line=line, what=what, instead=instead, severity=severity)


def _check_decorators(source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef, names: frozenset[str]) -> Iterator[Finding]:
    for decorator in node.decorator_list:
        chain = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
        root, _, rest = chain.partition(".")
        if root in names and rest == "task":
            instead = "works with the app of django_tasks; @shared_task is the same"
            yield Finding(path=source.shown, line=decorator.lineno, what=f"@{chain}", instead=instead, severity=Severity.COUNTS)
