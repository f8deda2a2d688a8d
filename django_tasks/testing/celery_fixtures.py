"""Celery's fixtures by their names, so that a suite written for ``celery.contrib.pytest`` runs here.

Override ``celery_config`` and the others in ``conftest.py`` as there. The app is the project's one, with broker and
results in memory for the time of the fixture, unless ``celery_config`` names others. Tasks are published at once, as
Celery does it, unless ``task_publish_on_commit`` is set.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from django_tasks.application import App
    from django_tasks.testing.threadworker import ThreadWorker

#: Celery's ways of naming places in memory.
_IN_MEMORY: Final = ("memory://", "cache+memory://", "memory", "cache")
#: Results as messages: those of a broker in memory are in memory.
_AS_MESSAGES: Final = ("rpc", "rpc://")
_PLACES: Final = ("BROKER_URL", "RESULT_BACKEND")


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Settings for the app, in Celery's lower-case names. Override it."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """What Celery's constructor is given: ``broker``, ``backend``, ``include``, ``task_cls`` and ``strict_typing`` count. Override it.

    The class and the typing are those of tasks that are declared while the app is there.
    """
    return {}


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Accepted from Celery: the project's logging is never touched."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Modules to import for the worker fixtures, beside every app's ``tasks``. Override it."""
    return ()


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """The pool of the worker fixtures: solo, threads or asyncio; prefork becomes threads. Override it."""
    return "solo"


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Options of the worker fixtures, those of ``start_worker``: ``queues``, ``concurrency`` and so on. Override it."""
    return {}


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Accepted from Celery: there is one app, so none can be used by mistake."""
    return False


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Task classes to register for the app. Override it."""
    return ()


@pytest.fixture(scope="session")
def celery_session_app(
    celery_config: Mapping[str, Any], celery_parameters: Mapping[str, Any], celery_class_tasks: Sequence[Any]
) -> Iterator["App"]:
    """The app for the whole session, on a broker in memory."""
    with _app(celery_config, celery_parameters, celery_class_tasks) as app:
        yield app


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: "App", celery_includes: Sequence[str], celery_worker_pool: str, celery_worker_parameters: Mapping[str, Any]
) -> Iterator["ThreadWorker"]:
    """A worker in a thread for the whole session."""
    with _worker(celery_includes, celery_worker_pool, celery_worker_parameters) as running:
        yield running


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_class_tasks: Sequence[Any],
) -> Iterator["App"]:
    """The project's app, on a broker in memory; ``@pytest.mark.celery(task_always_eager=True)`` gives it settings."""
    config = dict(celery_config)
    for mark in reversed(list(request.node.iter_markers("celery"))):
        config.update(mark.kwargs)
    # What a worker of the session reads is not replaced under its feet.
    fresh = not {"celery_session_app", "celery_session_worker"} & set(request.fixturenames)
    with _app(config, celery_parameters, celery_class_tasks, fresh=fresh) as app:
        yield app


@pytest.fixture
def celery_worker(
    request: pytest.FixtureRequest,
    celery_app: "App",
    celery_includes: Sequence[str],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator["ThreadWorker"]:
    """A worker in a thread, for one test."""
    from django_tasks.testing.plugin import use_database_first

    use_database_first(request)
    with _worker(celery_includes, celery_worker_pool, celery_worker_parameters) as running:
        yield running


@pytest.fixture
def depends_on_current_app(celery_app: "App") -> None:
    """Accepted from Celery: the project's app is always the current one."""


@contextmanager
def _app(config: Mapping[str, Any], parameters: Mapping[str, Any], classes: Sequence[Any], *, fresh: bool = True) -> Iterator["App"]:
    from django_tasks.application import app
    from django_tasks.testing.inmemory import in_memory, local_tasks
    from django_tasks.testing.overriding import overridden

    values = dict(config)
    for option, setting in (("broker", "broker_url"), ("backend", "result_backend"), ("include", "include")):
        if parameters.get(option) is not None:
            values.setdefault(setting, parameters[option])
    # Places in memory are this fixture's own, fresh for each use.
    settings = {_current(name): value for name, value in values.items() if not (name.upper().endswith(_PLACES) and value in _IN_MEMORY)}
    if "BROKER_URL" not in settings and settings.get("RESULT_BACKEND") in _AS_MESSAGES:
        del settings["RESULT_BACKEND"]
    # Around a test is a transaction that never commits, and Celery waits for none.
    settings.setdefault("TASK_PUBLISH_ON_COMMIT", False)
    with in_memory() if fresh else local_tasks(), overridden(**settings), _task_class(app, parameters):
        for cls in classes:
            app.register_task(cls() if isinstance(cls, type) else cls)
        yield app


@contextmanager
def _task_class(app: "App", parameters: Mapping[str, Any]) -> Iterator[None]:
    """Let tasks that are declared inside the block be of Celery's ``task_cls``, and unchecked without ``strict_typing``."""
    from django.utils.module_loading import import_string

    before: Any = app.Task
    cls = before
    if (wanted := parameters.get("task_cls")) is not None:
        cls = import_string(wanted.replace(":", ".")) if isinstance(wanted, str) else wanted
    if not parameters.get("strict_typing", True):
        cls = type(cls.__name__, (cls,), {"typing": False, "__module__": cls.__module__, "__doc__": cls.__doc__})
    app.Task = cls
    try:
        yield
    finally:
        app.Task = before


def _current(name: str) -> str:
    """Return today's name of a setting, which may be written as before Celery 4."""
    from django_tasks.conf_options import OPTIONS
    from django_tasks.conf_options.renamed import current_name

    upper = name.upper().removeprefix("CELERY_")
    return upper if upper in OPTIONS else current_name(name.upper(), OPTIONS) or name


@contextmanager
def _worker(includes: Sequence[str], pool: str, parameters: Mapping[str, Any]) -> Iterator["ThreadWorker"]:
    from django_tasks.testing.threadworker import start_worker

    for module in includes:
        importlib.import_module(module)
    with start_worker(**{"pool": pool, **parameters}) as running:
        yield running
