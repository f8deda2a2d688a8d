"""Checks of what is installed, and of what settings name: serializers, routes, middleware."""

import importlib.metadata
from typing import Any, Final

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from django_tasks import routing, serializers, urls
from django_tasks.checks.findings import failures, well_typed, where, works
from django_tasks.conf import settings
from django_tasks.conf_options import OPTIONS
from django_tasks.middleware import Middleware

#: The PyPI distribution of Django's task backport, which installs a package of our import name.
RIVAL: Final = "django-tasks"

_JSON: Final = frozenset({"json", serializers.JSON_TYPE})
_PICKLE: Final = frozenset({"pickle", serializers.PICKLE_TYPE})


def check_installation(**_kwargs: Any) -> list[CheckMessage]:
    """E008, E009: what must be installed beside us, and what must not."""
    found: list[CheckMessage] = []
    if _is_distributed(RIVAL):
        found.append(
            Error(
                f"The distributions {RIVAL} and django-tasks-engine are both installed, and both install the import name django_tasks:"
                " each has overwritten files of the other.",
                hint=f"pip uninstall {RIVAL} django-tasks-engine, then pip install django-tasks-engine.",
                id="django_tasks.E008",
            )
        )
    if not apps.is_installed("django_celery_beat"):
        found.append(
            Error(
                "django_celery_beat is not in INSTALLED_APPS: its models hold the schedules of periodic tasks.",
                hint='INSTALLED_APPS = [..., "django_celery_beat", "django_tasks"]',
                id="django_tasks.E009",
            )
        )
    return found


def check_content(**_kwargs: Any) -> list[CheckMessage]:
    """E014, W003, W010: serializers and compressions that are unknown, dangerous, or refused by our own workers."""
    if not well_typed("ACCEPT_CONTENT", "RESULT_ACCEPT_CONTENT", "TASK_SERIALIZER", "RESULT_SERIALIZER", "TASK_COMPRESSION"):
        return []
    found: list[CheckMessage] = []
    for name in ("ACCEPT_CONTENT", "RESULT_ACCEPT_CONTENT"):
        accepted = set(getattr(settings, name) or ())
        found += [_not_there(name, f"the content {each!r}", error) for each, error in failures(_accepted, accepted - _JSON)]
        if accepted & _PICKLE:
            found.append(
                Warning(
                    f"{where(name)} accepts pickle: whoever can write to the broker or the results can run code in your processes.",
                    hint="Use json, and turn arguments into plain data; keep pickle only where the broker is as safe as the database.",
                    id="django_tasks.W003",
                )
            )
    for name in ("TASK_SERIALIZER", "RESULT_SERIALIZER"):
        written = {getattr(settings, name)} - {"json"}
        found += [
            _not_there(name, f"the serializer {each!r}", error) for each, error in failures(lambda s: serializers.dumps(None, s), written)
        ]
    compressions = {settings.TASK_COMPRESSION} - {None}
    found += [
        _not_there("TASK_COMPRESSION", f"the compression {each!r}", error)
        for each, error in failures(lambda c: serializers.dumps(0, "json", c), compressions)
    ]
    return found or _check_acceptance()


def check_routing(**_kwargs: Any) -> list[CheckMessage]:
    """E011, W007: TASK_ROUTES and TASK_QUEUES that can't be read, and options in routes that have no effect."""
    if not all(well_typed(name) for name in OPTIONS if name.startswith("TASK_")):
        return []
    try:
        unused = routing.current().unused_route_options
    except Exception as error:  # noqa: BLE001  a project's router may raise anything when it is imported
        return [
            Error(
                f"The routes or queues can't be read: {error}",
                hint="TASK_ROUTES is a dictionary of patterns, a list of pairs or a function; TASK_QUEUES a list of names or kombu Queues.",
                id="django_tasks.E011",
            )
        ]
    return [
        Warning(
            f"TASK_ROUTES has routes with the option {name!r}, which has no effect.",
            hint=f"A route may hold {', '.join(routing.ROUTE_OPTIONS)}; set others at the task.",
            id="django_tasks.W007",
        )
        for name in unused
    ]


def check_middleware(**_kwargs: Any) -> list[CheckMessage]:
    """E012: MIDDLEWARE entries that are no Middleware classes."""
    if not well_typed("MIDDLEWARE"):
        return []
    return [
        Error(
            f"MIDDLEWARE lists {path!r}: {error}",
            hint="Write dotted paths of subclasses of django_tasks.middleware.Middleware.",
            id="django_tasks.E012",
        )
        for path, error in failures(_middleware_class, settings.MIDDLEWARE)
    ]


def _is_distributed(name: str) -> bool:
    return works(importlib.metadata.distribution, name)


def _accepted(name: Any) -> None:
    serializers.accepted_types([name])


def _not_there(name: str, what: str, error: Exception) -> CheckMessage:
    return Error(
        f"{where(name)} names {what}, which is not there: {urls.mask_within(str(error))}",
        hint="Install what it needs, or name another.",
        id="django_tasks.E014",
    )


def _check_acceptance() -> list[CheckMessage]:
    pairs = (("TASK_SERIALIZER", "ACCEPT_CONTENT"), ("RESULT_SERIALIZER", "RESULT_ACCEPT_CONTENT"))
    found: list[CheckMessage] = []
    for written, read in pairs:
        serializer, accepted = getattr(settings, written), getattr(settings, read) or settings.ACCEPT_CONTENT
        if serializer not in accepted and serializers.dumps(None, serializer).content_type not in serializers.accepted_types(accepted):
            found.append(
                Warning(
                    f"{where(written)} is {serializer!r}, which {read} does not accept: {sorted(accepted)!r}.",
                    hint=f"Add {serializer!r} to {read}, or nobody will read what is written.",
                    id="django_tasks.W010",
                )
            )
    return found


def _middleware_class(path: str) -> None:
    cls = import_string(path)
    if not (isinstance(cls, type) and issubclass(cls, Middleware)):
        raise TypeError("it is no subclass of django_tasks.middleware.Middleware")
