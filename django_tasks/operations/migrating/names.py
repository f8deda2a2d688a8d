"""Celery's importable names, and where ours are: data, and looking things up in it.

Modules that have the same names on both sides are not listed name by name: what our module has is asked when it is needed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Final

from django_tasks.operations.migrating.findings import Severity

#: Modules whose names are ours as well, for the most part.
SAME_NAMES: Final[Mapping[str, str]] = {
    "celery": "django_tasks",
    "celery.canvas": "django_tasks.canvas",
    "celery.contrib.abortable": "django_tasks.contrib.abortable",
    "celery.exceptions": "django_tasks.exceptions",
    "celery.result": "django_tasks.result",
    "celery.schedules": "django_tasks.schedules",
    "celery.signals": "django_tasks.signals",
    "celery.states": "django_tasks.states",
    "celery.utils.log": "django_tasks.log",
    "django_celery_results.models": "django_tasks.models",
}

#: ``module:name`` there to ``module:name`` here, where that does not follow from the modules.
MOVED: Final[Mapping[str, str]] = {
    "billiard.exceptions:SoftTimeLimitExceeded": "django_tasks.exceptions:SoftTimeLimitExceeded",
    "billiard.exceptions:Terminated": "django_tasks.exceptions:Terminated",
    "billiard.exceptions:TimeLimitExceeded": "django_tasks.exceptions:TimeLimitExceeded",
    "billiard.exceptions:WorkerLostError": "django_tasks.exceptions:WorkerLostError",
    "celery:canvas": "django_tasks:canvas",
    "celery:current_app": "django_tasks:app",
    "celery:exceptions": "django_tasks:exceptions",
    "celery:result": "django_tasks:result",
    "celery:schedules": "django_tasks:schedules",
    "celery:signals": "django_tasks:signals",
    "celery:states": "django_tasks:states",
    "celery:subtask": "django_tasks.canvas:subtask",
    "celery._state:current_app": "django_tasks:app",
    "celery._state:current_task": "django_tasks:current_task",
    "celery.app:app_or_default": "django_tasks:app",
    "celery.app:default_app": "django_tasks:app",
    "celery.app:shared_task": "django_tasks:shared_task",
    "celery.app.task:Task": "django_tasks:Task",
    "celery.beat:crontab": "django_tasks.schedules:crontab",
    "celery.contrib.django.task:DjangoTask": "django_tasks:Task",
    "celery.contrib.testing.worker:start_worker": "django_tasks.testing:start_worker",
    "celery.decorators:task": "django_tasks:shared_task",
    "celery.exceptions:CeleryError": "django_tasks.exceptions:TaskError",
    "celery.exceptions:NotConfigured": "django_tasks.exceptions:ImproperlyConfigured",
    "celery.exceptions:RetryTaskError": "django_tasks.exceptions:Retry",
    "celery.exceptions:SystemTerminate": "django_tasks.exceptions:WorkerTerminate",
    "celery.result:IncompleteStream": "django_tasks.exceptions:IncompleteStream",
    "celery.result:TimeoutError": "django_tasks.exceptions:TimeoutError",
    "celery.task:Task": "django_tasks:Task",
    "celery.task:chord": "django_tasks:chord",
    "celery.task:current": "django_tasks:current_task",
    "celery.task:group": "django_tasks:group",
    "celery.task:task": "django_tasks:shared_task",
    "kombu.exceptions:ContentDisallowed": "django_tasks.exceptions:ContentDisallowed",
    "kombu.exceptions:DecodeError": "django_tasks.exceptions:DecodeError",
    "kombu.exceptions:EncodeError": "django_tasks.exceptions:EncodeError",
    "kombu.exceptions:OperationalError": "django_tasks.exceptions:OperationalError",
}

_STAYS: Final = "no counterpart; Celery stays installed beside django-celery-beat, so the import goes on working"
_VERSION: Final = "`django_tasks.__version__`, whose numbers mean other things"
_WORKER: Final = "no counterpart: our worker has no such parts; watch it by the signals worker_* and task_*, change it by MIDDLEWARE"

#: What to say of names: how pressing it is, and the words.
Advices = Mapping[str, tuple[Severity, str]]


def _rated(severity: Severity, told: Mapping[str, str]) -> Advices:
    return {name: (severity, text) for name, text in told.items()}


#: What to say where there is no counterpart: by ``module:name``, or by module, which covers what lies below it.
ADVICE: Final[Advices] = {
    **_rated(
        Severity.CHANGE,
        {
            "celery:Celery": "no app of the project's own: `from django_tasks import app`",
            "celery:bugreport": "no counterpart; `manage.py tasks status` and `manage.py diffsettings` tell most of it",
            "celery:__version__": _VERSION,
            "celery:VERSION": _VERSION,
            "celery:VERSION_BANNER": _VERSION,
            "celery:SERIES": _VERSION,
            "celery:version_info": _VERSION,
            "celery._state:get_current_task": "`app.current_task` of `from django_tasks import app`, which is None outside of tasks",
            "celery._state:get_current_app": "`from django_tasks import app`, the one app of the project",
            "celery.app": "nearest: `from django_tasks import app`, the one app of the project",
            "celery.app.base:Celery": "no app of the project's own: `from django_tasks import app`",
            "celery.app.control": "nearest: `app.control` of `from django_tasks import app`",
            "celery.app.log": "no counterpart: Django's LOGGING counts; `django_tasks.log` adds task_id and task_name",
            "celery.app.task:Context": "nearest: `django_tasks.context.Request`, the class of `self.request`",
            "celery.backends": "nearest: `django_tasks.result_backends.backend.ResultBackend`, named by an entry point of"
            " django_tasks.result_backends; Celery's own stores work by their URLs in RESULT_BACKEND",
            "celery.beat": "no counterpart: `manage.py runbeat` reads BEAT_SCHEDULE and django-celery-beat's tables,"
            " and takes no scheduler class",
            "celery.bin": "no counterpart: workers are started by `manage.py runworker`, beat by `manage.py runbeat`",
            "celery.bootsteps": _WORKER,
            "celery.canvas": "no counterpart in django_tasks.canvas, which has Celery's public names only",
            "celery.concurrency": "no counterpart: the pools are prefork, threads, asyncio and solo",
            "celery.contrib.pytest": "remove it: our pytest plugin is loaded by itself and has the same fixtures",
            "celery.contrib.testing": "nearest: `django_tasks.testing`: in_memory, worker, eager, travel, and the fixtures",
            "celery.decorators": "gone since Celery 4; nearest: shared_task, and BEAT_SCHEDULE for periodic_task",
            "celery.events": "nearest: Receiver, Dispatcher and State of `app.events`; `manage.py tasks events` prints them",
            "celery.exceptions": "no counterpart; `django_tasks.exceptions.TaskError` is the class of all our errors",
            "celery.exceptions:SecurityError": "no counterpart: messages are not signed; refused content is ContentDisallowed",
            "celery.fixups": "not needed: this is part of Django's process",
            "celery.loaders": "no counterpart: settings are Django's, tasks are found in installed apps and IMPORTS",
            "celery.registry": "`app.tasks` of `from django_tasks import app`",
            "celery.result": "no counterpart in django_tasks.result; AsyncResult, GroupResult and ResultSet are there",
            "celery.security": "no counterpart: messages are not signed; ACCEPT_CONTENT = ['json'] can't run code",
            "celery.signals": "no such signal here: there are no eventlet or gevent pools; see django_tasks.signals",
            "celery.task": "gone since Celery 5; nearest: shared_task, Task of django_tasks, and BEAT_SCHEDULE for periodic_task",
            "celery.utils.log": "nearest: `logging.getLogger(name)`, or get_task_logger of django_tasks.log",
            "celery.worker": _WORKER,
            "celery.worker.request": f"{_WORKER}; `self.request` is django_tasks.context.Request",
            "celery.worker.control": "no counterpart yet: commands to workers come with a later release",
        },
    ),
    **_rated(
        Severity.LOOK,
        {
            "billiard": "not ours: workers here are plain processes; use multiprocessing or concurrent.futures",
            "celery.local": f"{_STAYS}; Django has django.utils.functional.SimpleLazyObject",
            "celery.platforms": f"{_STAYS}; daemons, users and umasks are the service manager's",
            "celery.schedules": f"{_STAYS}; our schedules are Celery's own classes",
            "celery.utils": f"{_STAYS}; Python and django.utils have most of it",
            "django_celery_results": "results are django_tasks.models.TaskResult, in the admin; old rows stay in their old table",
        },
    ),
    **_rated(
        Severity.COUNTS,
        {
            "kombu": "kombu stays: TASK_QUEUES takes its Queue and Exchange, and serializers registered with it are found",
        },
    ),
}

#: Packages around Celery, by the name that is imported: what becomes of them.
COMPANIONS: Final[Advices] = {
    **_rated(
        Severity.CHANGE,
        {
            "celery_batches": "no counterpart: a task that collects rows, started by beat, does the same",
            "celery_haystack": "sends Celery tasks of its own; index in a task of yours",
            "celery_once": "its base class is Celery's; take a lock or a unique row in the task",
            "celery_progress": "reads Celery's results; `self.progress(done, total)` notes how far a task is,"
            " AsyncResult(id).info of django_tasks tells it",
            "celery_singleton": "its base class is Celery's; take a lock or a unique row in the task",
            "django_structlog.celery": "connects to Celery's signals; ours have the same names, in django_tasks.signals",
            "djcelery": "long gone, with Celery 4; results and schedules are in django_tasks and django_celery_beat",
            "djcelery_email": "sends Celery tasks of its own; send mail in a task of yours",
            "flower": "a program of its own that stays: it watches the events of our workers, on Redis and RabbitMQ",
            "health_check.contrib.celery": "asks Celery; `manage.py tasks status` exits with 1 where no worker lives",
            "health_check.contrib.celery_ping": "asks Celery; `manage.py tasks status` exits with 1 where no worker lives",
            "opentelemetry.instrumentation.celery": "instruments Celery; write the spans in a MIDDLEWARE",
            "pytest_celery": "starts Celery's workers in containers; our pytest plugin has the fixtures of celery.contrib.pytest",
            "redbeat": "a scheduler of Celery's beat; put its entries into BEAT_SCHEDULE or django-celery-beat's models",
            "sentry_sdk.integrations.celery": "watches Celery; report by the signal task_failure of django_tasks.signals",
            "tenant_schemas_celery": "its task class is Celery's; set the tenant in a MIDDLEWARE",
        },
    ),
    **_rated(
        Severity.COUNTS,
        {
            "django_celery_beat": "stays: its models are our schedules",
        },
    ),
}

#: What a name is called, if it has a counterpart: its module and its name there.
Target = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do with a name that has no counterpart."""

    severity: Severity
    text: str


def is_celerys(module: str) -> bool:
    """Whether a module is Celery's, or one of the packages around it that are listed here."""
    return module.partition(".")[0] == "celery" or any(prefix in COMPANIONS or prefix in ADVICE for prefix in prefixes(module))


@cache
def counterpart(module: str, name: str) -> Target | None:
    """Return where ours is of what ``from module import name`` brings, or None."""
    moved = MOVED.get(f"{module}:{name}")
    if moved is not None:
        home, _, own = moved.partition(":")
        return home, own
    home = SAME_NAMES.get(module, "")
    if not home or f"{module}:{name}" in ADVICE:
        return None
    return (home, name) if name == "*" or name in _public(home) else None


def module_counterpart(module: str) -> str | None:
    """Return the module of ours that has a module's names."""
    return SAME_NAMES.get(module)


def advice(module: str, name: str = "") -> Advice:
    """Say what to do with a name, or a module, that has no counterpart. Nothing is passed over: the last word is a guess."""
    told = ADVICE.get(f"{module}:{name}") or _listed(f"{module}.{name}".rstrip("."), COMPANIONS)
    told = told or _listed(f"{module}.{name}".rstrip("."), ADVICE)
    if told is not None:
        return Advice(*told)
    nearest = get_close_matches(name or module.rpartition(".")[2], sorted(_everything()), n=1, cutoff=0.7)
    guess = f"; the nearest name is {_everything()[nearest[0]]}.{nearest[0]}" if nearest else ""
    return Advice(Severity.CHANGE, f"no counterpart is known{guess}")


def _listed(module: str, table: Advices) -> tuple[Severity, str] | None:
    return next((table[prefix] for prefix in prefixes(module) if prefix in table), None)


def prefixes(module: str) -> Iterator[str]:
    """Yield a dotted name and what it lies in, the longest first."""
    while module:
        yield module
        module = module.rpartition(".")[0]


@cache
def _public(module: str) -> frozenset[str]:
    found = import_module(module)
    names = getattr(found, "__all__", None) or [name for name in vars(found) if _is_own(vars(found)[name], name)]
    return frozenset(names)


def _is_own(value: object, name: str) -> bool:
    # Constants, such as the states, have no module; what was imported has another one.
    home = getattr(value, "__module__", "django_tasks")
    return not name.startswith("_") and type(value).__name__ != "module" and str(home).startswith("django_tasks")


@cache
def _everything() -> Mapping[str, str]:
    return {name: module for module in sorted(set(SAME_NAMES.values()), reverse=True) for name in _public(module)}
