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
_WORKER: Final = "no counterpart: our worker has no such parts; watch it by the signals worker_* and task_*, change it by MIDDLEWARE"

#: What to say where there is no counterpart: by ``module:name``, or by module, which covers what lies below it.
ADVICE: Final[Mapping[str, tuple[Severity, str]]] = {
    "billiard": (Severity.LOOK, "not ours: workers here are plain processes; use multiprocessing or concurrent.futures"),
    "celery:Celery": (Severity.CHANGE, "no app of the project's own: `from django_tasks import app`"),
    "celery:bugreport": (Severity.CHANGE, "no counterpart; `manage.py tasks status` and `manage.py diffsettings` tell most of it"),
    "celery:uuid": (Severity.CHANGE, "`str(uuid.uuid4())`, or any text of your own as task_id"),
    "celery:__version__": (Severity.CHANGE, "`django_tasks.__version__`, whose numbers mean other things"),
    "celery:VERSION": (Severity.CHANGE, "`django_tasks.__version__`, whose numbers mean other things"),
    "celery:VERSION_BANNER": (Severity.CHANGE, "`django_tasks.__version__`, whose numbers mean other things"),
    "celery:SERIES": (Severity.CHANGE, "`django_tasks.__version__`, whose numbers mean other things"),
    "celery:version_info": (Severity.CHANGE, "`django_tasks.__version__`, whose numbers mean other things"),
    "celery.app": (Severity.CHANGE, "nearest: `from django_tasks import app`, the one app of the project"),
    "celery.app.base:Celery": (Severity.CHANGE, "no app of the project's own: `from django_tasks import app`"),
    "celery.app.control": (Severity.CHANGE, "nearest: `app.control` of `from django_tasks import app`"),
    "celery.app.log": (Severity.CHANGE, "no counterpart: Django's LOGGING counts; `django_tasks.log` adds task_id and task_name"),
    "celery.app.task:Context": (Severity.CHANGE, "nearest: `django_tasks.context.Request`, the class of `self.request`"),
    "celery.backends": (
        Severity.CHANGE,
        (
            "nearest: `django_tasks.result_backends.backend.ResultBackend`, named by an entry point of django_tasks.result_backends;"
            " Celery's own stores work by their URLs in RESULT_BACKEND"
        ),
    ),
    "celery.beat": (
        Severity.CHANGE,
        "no counterpart: `manage.py runbeat` reads BEAT_SCHEDULE and django-celery-beat's tables; it takes no scheduler class",
    ),
    "celery.bin": (Severity.CHANGE, "no counterpart: workers are started by `manage.py runworker`, beat by `manage.py runbeat`"),
    "celery.bootsteps": (Severity.CHANGE, _WORKER),
    "celery.canvas": (Severity.CHANGE, "no counterpart in django_tasks.canvas, which has Celery's public names only"),
    "celery.concurrency": (Severity.CHANGE, "no counterpart: the pools are prefork, threads, asyncio and solo"),
    "celery.contrib.abortable": (
        Severity.CHANGE,
        "no counterpart; `app.control.revoke(task_id, terminate=True)` ends a task, a row or cache key of your own asks it to end",
    ),
    "celery.contrib.pytest": (Severity.CHANGE, "remove it: our pytest plugin is loaded by itself and has the same fixtures"),
    "celery.contrib.testing.worker:start_worker": (
        Severity.CHANGE,
        "`from django_tasks.testing import worker`: `with worker():` needs no app, and runs in a thread as well",
    ),
    "celery.contrib.testing": (Severity.CHANGE, "nearest: `django_tasks.testing`: in_memory, worker, eager, travel, and the fixtures"),
    "celery.events": (Severity.CHANGE, "no counterpart yet: events come with a later release; signals tell a process of its own tasks"),
    "celery.exceptions": (Severity.CHANGE, "no counterpart; `django_tasks.exceptions.TaskError` is the class of all our errors"),
    "celery.exceptions:SecurityError": (Severity.CHANGE, "no counterpart: messages are not signed; refused content is ContentDisallowed"),
    "celery.exceptions:BackendError": (Severity.CHANGE, "nearest: BackendGetMetaError, BackendStoreError of django_tasks.exceptions"),
    "celery.fixups": (Severity.CHANGE, "not needed: this is part of Django's process"),
    "celery.loaders": (Severity.CHANGE, "no counterpart: settings are Django's, tasks are found in installed apps and IMPORTS"),
    "celery.local": (Severity.LOOK, f"{_STAYS}; Django has django.utils.functional.SimpleLazyObject"),
    "celery.platforms": (Severity.LOOK, f"{_STAYS}; daemons, users and umasks are the service manager's"),
    "celery.registry": (Severity.CHANGE, "`app.tasks` of `from django_tasks import app`"),
    "celery.result": (Severity.CHANGE, "no counterpart in django_tasks.result; AsyncResult, GroupResult and ResultSet are there"),
    "celery.schedules": (Severity.LOOK, f"{_STAYS}; our schedules are Celery's own classes"),
    "celery.security": (Severity.CHANGE, "no counterpart: messages are not signed; ACCEPT_CONTENT = ['json'] can't run code"),
    "celery.signals": (Severity.CHANGE, "no such signal here: there are no eventlet or gevent pools; see django_tasks.signals"),
    "celery.task": (
        Severity.CHANGE,
        "gone since Celery 5; nearest: shared_task, Task of django_tasks, and BEAT_SCHEDULE for periodic_task",
    ),
    "celery.utils": (Severity.LOOK, f"{_STAYS}; Python and django.utils have most of it"),
    "celery.utils.log": (Severity.CHANGE, "nearest: `logging.getLogger(name)`, or get_task_logger of django_tasks.log"),
    "celery.worker": (Severity.CHANGE, _WORKER),
    "celery.worker.request": (Severity.CHANGE, f"{_WORKER}; `self.request` is django_tasks.context.Request"),
    "celery.worker.control": (Severity.CHANGE, "no counterpart yet: commands to workers come with a later release"),
    "django_celery_results": (Severity.LOOK, "results are django_tasks.models.TaskResult, in the admin; old rows stay in their old table"),
    "kombu": (Severity.COUNTS, "kombu stays: TASK_QUEUES takes its Queue and Exchange, and serializers registered with it are found"),
}

#: Packages around Celery, by the name that is imported: what becomes of them.
COMPANIONS: Final[Mapping[str, tuple[Severity, str]]] = {
    "celery_batches": (Severity.CHANGE, "no counterpart: a task that collects rows, started by beat, does the same"),
    "celery_haystack": (Severity.CHANGE, "sends Celery tasks of its own; index in a task of yours"),
    "celery_once": (Severity.CHANGE, "its base class is Celery's; take a lock or a unique row in the task"),
    "celery_progress": (
        Severity.CHANGE,
        "reads Celery's results; update_state, and AsyncResult(id).info of django_tasks, have the progress",
    ),
    "celery_singleton": (Severity.CHANGE, "its base class is Celery's; take a lock or a unique row in the task"),
    "django_celery_beat": (Severity.COUNTS, "stays: its models are our schedules"),
    "django_structlog.celery": (Severity.CHANGE, "connects to Celery's signals; ours have the same names, in django_tasks.signals"),
    "djcelery": (Severity.CHANGE, "long gone, with Celery 4; results and schedules are in django_tasks and django_celery_beat"),
    "djcelery_email": (Severity.CHANGE, "sends Celery tasks of its own; send mail in a task of yours"),
    "flower": (Severity.CHANGE, "watches events, which our workers don't send yet; the admin shows results, queues and workers"),
    "health_check.contrib.celery": (Severity.CHANGE, "asks Celery; `manage.py tasks status` exits with 1 where no worker lives"),
    "health_check.contrib.celery_ping": (Severity.CHANGE, "asks Celery; `manage.py tasks status` exits with 1 where no worker lives"),
    "opentelemetry.instrumentation.celery": (Severity.CHANGE, "instruments Celery; write the spans in a MIDDLEWARE"),
    "pytest_celery": (
        Severity.CHANGE,
        "starts Celery's workers in containers; our pytest plugin has the fixtures of celery.contrib.pytest",
    ),
    "redbeat": (Severity.CHANGE, "a scheduler of Celery's beat; put its entries into BEAT_SCHEDULE or django-celery-beat's models"),
    "sentry_sdk.integrations.celery": (Severity.CHANGE, "watches Celery; report by the signal task_failure of django_tasks.signals"),
    "tenant_schemas_celery": (Severity.CHANGE, "its task class is Celery's; set the tenant in a MIDDLEWARE"),
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


def _listed(module: str, table: Mapping[str, tuple[Severity, str]]) -> tuple[Severity, str] | None:
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
