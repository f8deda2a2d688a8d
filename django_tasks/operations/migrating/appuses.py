"""What a project does with its Celery app: makes it, configures it, asks it for what our app has or has not."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from django_tasks.application import COMMANDS_TO_COME, app
from django_tasks.conf_options import OPTIONS
from django_tasks.operations.migrating.celeryapps import Apps, absolute_module, dotted, imported_apps, made, nodes
from django_tasks.operations.migrating.findings import Finding, Severity
from django_tasks.operations.migrating.reading import Source
from django_tasks.operations.migrating.scopes import BoundTask, Names, bound_tasks, scoped
from django_tasks.operations.migrating.writtensettings import judge

#: Where the arguments of ``Celery(…)`` go.
_ARGUMENTS: Final = {"broker": "BROKER_URL", "backend": "RESULT_BACKEND", "include": "INCLUDE"}
#: Arguments whose effect goes with the app, and how to have it here.
_LOST: Final[Mapping[str, str]] = {
    "task_cls": "task_cls: `app.Task = ThatClass`, before the tasks are imported",
    "Task": "Task: `app.Task = ThatClass`, before the tasks are imported",
    "loader": "loader: tasks are found in installed apps and IMPORTS",
    "task_create_missing_queues": "task_create_missing_queues is TASK_CREATE_MISSING_QUEUES",
}
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
    "setup_security": "no counterpart: messages are not signed",
    "start": "no counterpart: `manage.py runworker`",
    "steps": "no counterpart: bootsteps are parts of Celery's worker; use the signals worker_*, or a MIDDLEWARE",
    "subtask": "app.signature",
    "user_options": "no counterpart: options of a management command of your own",
    "worker_main": "no counterpart: `manage.py runworker`",
}


def check_app(source: Source, apps: Apps) -> Iterator[Finding]:
    """Report where a module makes a Celery app, and each use of an app that is different here."""
    yield from _check_made(source, apps)
    names = _app_names(source, apps)
    # A chain is looked at where it is longest.
    inner = {id(node.value) for node in nodes(source) if isinstance(node, ast.Attribute)}
    tasks = list(bound_tasks(source))
    for node in nodes(source):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            yield from _check_chain(source, node, names.at(node.lineno), tasks)
        if isinstance(node, ast.Call):
            yield from _check_call(source, node, names.at(node.lineno))
        if isinstance(node, ast.Assign):
            yield from _check_conf_assignment(source, node, names.at(node.lineno))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _check_decorators(source, node, names)


def _check_made(source: Source, apps: Apps) -> Iterator[Finding]:
    found = made(source, apps)
    for cls in found.classes:
        instead = "no counterpart: there is one app, of one class; change calls and runs in a MIDDLEWARE"
        yield Finding(path=source.shown, line=cls.lineno, what=f"class {cls.name}(Celery)", instead=instead, severity=Severity.CHANGE)
    for call, name in found.calls:
        given = [word.arg for word in call.keywords if word.arg]
        moved = [f"{argument} is {_ARGUMENTS[argument]}" for argument in given if argument in _ARGUMENTS]
        line = f"from django_tasks import app{f' as {name}' if name and name != 'app' else ''}"
        instead = f"{line}; or remove the module, since nothing has to make an app (what else is in it: an AppConfig.ready)"
        instead += f". Settings: {', '.join(moved)}" if moved else ""
        instead += "".join(f". {_LOST[argument]}" for argument in given if argument in _LOST)
        yield Finding(
            path=source.shown, line=call.lineno, what=f"{name + ' = ' if name else ''}Celery(…)", instead=instead, severity=Severity.CHANGE
        )


def _app_names(source: Source, apps: Apps) -> Names:
    """Names that are an app in this module: made here, imported from where it is made, Celery's current one, or ours already."""
    calls = made(source, apps).calls
    names = {name for _, name in calls if name} | imported_apps(source, apps)
    brought: set[ast.AST] = {call for call, _ in calls}
    for node in nodes(source):
        if isinstance(node, ast.ImportFrom):
            wanted = {"django_tasks": "app", "celery": "current_app", "celery._state": "current_app"}.get(absolute_module(node, source))
            ours = {alias.asname or alias.name for alias in node.names if alias.name == wanted}
            names |= ours
            if ours or names.intersection(
                alias.asname or alias.name
                for alias in node.names
                if alias.name in apps.of_module(absolute_module(node, source)) | apps.ours_of(absolute_module(node, source))
            ):
                brought.add(node)
    return scoped(source, frozenset(names), frozenset(brought))


def _check_chain(source: Source, node: ast.Attribute, names: frozenset[str], tasks: Sequence[BoundTask]) -> Iterator[Finding]:
    chain = dotted(node)
    root, *rest = chain.split(".")
    of_task = rest[:1] == ["app"] and any(task.name == root and task.first <= node.lineno <= task.last for task in tasks)
    parts = rest if root in names else rest[1:] if of_task else chain.split(".app.", 1)[1].split(".") if ".app." in chain else []
    if not parts:
        return
    if parts[0] == "control" and len(parts) > 1 and parts[1] in COMMANDS_TO_COME:
        instead = "comes with a later release and raises NotImplementedError until then; purge, terminate and the two ways to revoke work"
        yield Finding(path=source.shown, line=node.lineno, what=chain, instead=instead, severity=Severity.CHANGE)
    elif parts[0] in _ACCEPTED and parts[0] != "autodiscover_tasks":
        yield Finding(path=source.shown, line=node.lineno, what=chain, instead=_ACCEPTED[parts[0]], severity=Severity.LOOK)
    elif (root in names or of_task) and not parts[0].startswith("_") and not hasattr(type(app), parts[0]) and parts[0] not in vars(app):
        instead = _MISSING.get(parts[0], f"no counterpart: our app has no {parts[0]}")
        yield Finding(path=source.shown, line=node.lineno, what=chain, instead=instead, severity=Severity.CHANGE)


def _check_call(source: Source, node: ast.Call, names: frozenset[str]) -> Iterator[Finding]:
    root, _, rest = dotted(node.func).partition(".")
    if root in names and rest == "conf.update":
        yield from _check_conf_update(source, node, root)
    elif (root in names and rest == "autodiscover_tasks") or rest.endswith("app.autodiscover_tasks"):
        instead = _discovered(node)
        severity = Severity.CHANGE if instead else Severity.LOOK
        what = f"{dotted(node.func)}({'…' if node.args or node.keywords else ''})"
        yield Finding(path=source.shown, line=node.lineno, what=what, instead=instead or _ACCEPTED["autodiscover_tasks"], severity=severity)


def _discovered(call: ast.Call) -> str:
    """Say which modules a call of ``autodiscover_tasks`` finds that are found by nothing here; an empty text where there are none."""
    given = dict(zip(("packages", "related_name"), call.args, strict=False)) | {word.arg: word.value for word in call.keywords if word.arg}
    packages, related = given.get("packages"), given.get("related_name")
    name = str(related.value) if isinstance(related, ast.Constant) and related.value else "tasks" if related is None else ""
    if isinstance(packages, ast.List | ast.Tuple) and name and all(isinstance(one, ast.Constant) for one in packages.elts):
        modules = [f"{one.value!s}.{name}" for one in packages.elts if isinstance(one, ast.Constant)]
        return f"does nothing here; unless they are the tasks of installed apps, list them in CELERY_IMPORTS: {', '.join(modules)}"
    plain = packages is None or (isinstance(packages, ast.Constant) and packages.value is None) or "INSTALLED_APPS" in ast.unparse(packages)
    if plain and name == "tasks":
        return ""
    which = f"modules named {name}" if plain and name else "modules that it finds"
    return f"does nothing here: only tasks modules of installed apps are found; list the {which} in CELERY_IMPORTS"


def _check_conf_update(source: Source, node: ast.Call, root: str) -> Iterator[Finding]:
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
    elif severity is Severity.COUNTS and made(source).calls:
        # The module that makes the app is the one to go, and what it sets would go with it.
        severity = Severity.CHANGE
        instead = f"move it to the settings, as CELERY_{upper}: once nothing has to import this module, it counts nowhere. {instead}"
    elif severity is Severity.COUNTS:
        severity = Severity.LOOK
        instead = f'works where this module is imported; DJANGO_TASKS["{upper}"] counts everywhere. {instead}'
    return Finding(path=source.shown, line=line, what=what, instead=instead, severity=severity)


def _check_decorators(source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef, names: Names) -> Iterator[Finding]:
    for decorator in node.decorator_list:
        chain = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
        root, _, rest = chain.partition(".")
        if root in names.at(decorator.lineno) and rest == "task":
            instead = "works with the app of django_tasks; @shared_task is the same"
            yield Finding(path=source.shown, line=decorator.lineno, what=f"@{chain}", instead=instead, severity=Severity.COUNTS)
