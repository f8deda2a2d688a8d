"""Settings as a project writes them: which count, which have no effect, which have another name."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from django.conf import global_settings

from django_tasks.checks.findings import has_type
from django_tasks.conf_options import OPTIONS, current_name
from django_tasks.operations.migrating.celeryapps import dotted, nodes
from django_tasks.operations.migrating.findings import Finding, Severity
from django_tasks.operations.migrating.reading import Source

_UNREADABLE: Final = object()
_PREFIXES: Final = ("CELERY_", "CELERYD_", "CELERYBEAT_")
#: Names that project and deployment use for themselves, and that Celery itself never read from Django's settings.
_OTHERS: Final = "DJANGO_CELERY_RESULTS_"
_NOTES: Final = {
    "TASK_ACKS_LATE": "On is our default.",
    "TASK_REJECT_ON_WORKER_LOST": "On is our default; TASK_MAX_DELIVERIES says how often.",
    "TASK_TRACK_STARTED": "On is our default.",
    "RESULT_EXTENDED": "On is our default.",
    "BEAT_SCHEDULE": "Beside the rows of the admin, by whatever beat leads.",
}


@dataclass(frozen=True, slots=True)
class Namespaces:
    """How the project's Celery app reads Django's settings: by which prefixes, and whether by bare names."""

    prefixes: frozenset[str] = frozenset({"CELERY"})
    bare: bool = False
    #: Modules of settings for Celery alone, as config_from_object names them.
    modules: frozenset[str] = frozenset()


def find_namespaces(sources: Iterable[Source]) -> Namespaces:
    """Read them off the calls of ``config_from_object``."""
    prefixes, modules, bare = set(), set(), False
    for source in sources:
        for node in nodes(source):
            if isinstance(node, ast.Call) and dotted(node.func).endswith(".config_from_object") and node.args:
                named = {word.arg: _value(word.value) for word in node.keywords}
                place, namespace = _value(node.args[0]), named.get("namespace")
                if isinstance(namespace, str):
                    prefixes.add(namespace)
                elif isinstance(place, str) and not place.startswith("django.conf"):
                    modules.add(place.replace(":", "."))
                else:
                    bare = True
    return Namespaces(frozenset(prefixes | {"CELERY"}), bare, frozenset(modules))


def check_settings(source: Source, namespaces: Namespaces) -> Iterator[Finding]:
    """Report the settings of Celery that a module assigns, or overrides for a test."""
    alone = any(source.module == module or source.module.endswith(f".{module}") for module in namespaces.modules)
    named_so = re.search(r"settings|(^|\.)conf", source.module) is not None
    bare = alone or (namespaces.bare and named_so)
    assigned = list(_assigned(source))
    # CELERY_RETRIES = 5 in a module of tasks is the project's own.
    no_settings = not (alone or named_so) and not any(
        hasattr(global_settings, name) or _is_known(name, namespaces) for name, _, _ in assigned
    )
    for name, value, line in assigned:
        found = _prefixed(name, namespaces)
        if found is not None and no_settings:
            continue
        if found is None and bare and _is_bare(name, alone=alone):
            found = name.upper(), f'DJANGO_TASKS["{name.upper()}"]: Celery read it without a prefix, which counts for nothing here'
        if found is not None:
            instead, severity = judge(found[0], value)
            option = OPTIONS.get(found[0])
            if found[1] and (option is None or option.effective):
                instead, severity = found[1], Severity.CHANGE
            yield Finding(path=source.shown, line=line, what=_shown(name, value), instead=instead, severity=severity)
        elif name.startswith(_OTHERS):
            yield Finding(
                path=source.shown, line=line, what=name, instead="no effect: of django-celery-results; remove it", severity=Severity.LOOK
            )


def _is_known(name: str, namespaces: Namespaces) -> bool:
    found = _prefixed(name, namespaces)
    return found is not None and found[0] in OPTIONS


def _is_bare(name: str, *, alone: bool) -> bool:
    """Whether this is Celery's setting without a prefix. Among Django's settings DATABASE_URL or REDIS_HOST are others'."""
    option = OPTIONS.get(name.upper())
    return option is not None and (alone or (option.effective and not hasattr(global_settings, name)))


def _assigned(source: Source) -> Iterator[tuple[str, ast.expr, int]]:
    for node in nodes(source):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                name = target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
                # settings.CELERY_…, of pytest-django; other attributes are nobody's settings.
                if isinstance(target, ast.Name) or dotted(target).startswith("settings."):
                    yield name, node.value, node.lineno
        elif isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in {"override_settings", "settings"}:
            yield from ((word.arg, word.value, word.value.lineno) for word in node.keywords if word.arg)


def _prefixed(name: str, namespaces: Namespaces) -> tuple[str, str] | None:
    """Return the setting's name without its prefix, and what is wrong with how it is written, if something is."""
    for prefix in namespaces.prefixes - {"CELERY"}:
        plain = name.removeprefix(f"{prefix}_")
        if plain != name and plain in OPTIONS:
            return plain, f"CELERY_{plain}, or DJANGO_TASKS[{plain!r}]: the prefix {prefix}_ counts for nothing here"
    if not name.startswith(_PREFIXES):
        return None
    plain = name.removeprefix("CELERY_")
    if plain in OPTIONS:
        return plain, ""
    today = current_name(name, OPTIONS)
    if today is None or not OPTIONS[today].effective:
        return today or plain, ""
    return (today, f"CELERY_{today}, or DJANGO_TASKS[{today!r}]: its name since Celery 4")


def judge(name: str, value: ast.expr | None) -> tuple[str, Severity]:
    """Say what becomes of a setting, by its upper-case name without prefix, and of its value where that can be read."""
    option = OPTIONS.get(name)
    if option is None:
        near = get_close_matches(name, OPTIONS, n=1, cutoff=0.8)
        guess = f"; the nearest is {near[0]}" if near else ""
        return f"no setting of Celery's or ours: counts for nothing here{guess}", Severity.LOOK
    read = _UNREADABLE if value is None else _value(value)
    if not option.effective:
        return f"no effect: {option.doc.removeprefix('No effect. ')}", Severity.LOOK
    if name == "BROKER_TRANSPORT_OPTIONS" and isinstance(value, ast.Dict) and "visibility_timeout" in map(_value, filter(None, value.keys)):
        instead = (
            "visibility_timeout need not outlast tasks: claims are renewed. On Redis keep it while Celery's workers run, on SQS for crashes"
        )
        return instead, Severity.LOOK
    if read is not _UNREADABLE:
        if not has_type(read, option):
            allowed = ", ".join("None" if kind is type(None) else kind.__name__ for kind in option.types)
            return f"it is of type {type(read).__name__}, and must be of type {allowed}", Severity.CHANGE
        if option.choices is not None and read not in option.choices:
            return f"{read!r} is not possible here: {', '.join(map(repr, option.choices))} are", Severity.CHANGE
        special = _judge_value(name, read)
        if special is not None:
            return special
    return _NOTES.get(name, option.doc), Severity.COUNTS


def _judge_value(name: str, value: Any) -> tuple[str, Severity] | None:
    if name in {"ACCEPT_CONTENT", "RESULT_ACCEPT_CONTENT"} and {"pickle", "application/x-python-serialize"} & set(value or ()):
        return 'works, and a system check warns: who writes to the broker runs code. ["json"], and plain data as arguments', Severity.LOOK
    if name in {"TASK_SERIALIZER", "RESULT_SERIALIZER"} and value == "pickle":
        return '"json", and plain data as arguments; pickle is refused unless ACCEPT_CONTENT lists it', Severity.LOOK
    if name == "RESULT_BACKEND" and value in {"django-db", "django-cache"}:
        ours = "db://default, the model TaskResult of ours" if value == "django-db" else "cache://default"
        return f"the same as {ours}", Severity.COUNTS
    if name in {"TASK_SERIALIZER", "RESULT_SERIALIZER"} and value not in {"json", "yaml", "msgpack"}:
        return "works if it is registered with kombu in every process: in an AppConfig.ready, not in celery.py", Severity.LOOK
    return None


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return _UNREADABLE


def _shown(name: str, value: ast.expr) -> str:
    # URLs hold passwords, and reports are sent around.
    read = _value(value)
    short = ast.unparse(value) if isinstance(read, bool | int | float | list | tuple | None) else ""
    short = short or (repr(read) if isinstance(read, str) and "://" not in read and "KEY" not in name and "PASSWORD" not in name else "…")
    return f"{name} = {short}" if len(short) <= 60 and "://" not in short else f"{name} = …"
