"""The pytest plugin: fixtures for tests of code that sends tasks. pytest loads it by itself where the package is installed.

Everything is imported by the fixtures, when a test asks for one: before that there may be no settings.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from django_tasks.testing.inmemory import TaskQueue
    from django_tasks.testing.threadworker import ThreadWorker

#: Plugins that bring Celery's fixtures themselves.
_CELERYS_OWN: Final = ("celery.contrib.pytest", "pytest_celery")
#: pytest-django's fixtures that must outlive a worker.
_DATABASE: Final = ("transactional_db", "django_db_reset_sequences", "db", "live_server")


def pytest_configure(config: pytest.Config) -> None:
    """Add Celery's fixture names, unless Celery's own plugin is there, which keeps them."""
    plugins = (plugin for plugin in config.pluginmanager.get_plugins() if isinstance(plugin, ModuleType))
    if any(plugin.__name__.startswith(_CELERYS_OWN) for plugin in plugins):
        return
    config.addinivalue_line("markers", "celery(**config): settings for the fixture celery_app, in Celery's lower-case names")
    config.pluginmanager.import_plugin("django_tasks.testing.celery_fixtures")


@pytest.fixture
def tasks() -> Iterator["TaskQueue"]:
    """Messages and results in memory: ``tasks.assert_published(...)``, ``tasks.run_pending()``."""
    from django_tasks.testing.inmemory import in_memory

    with in_memory() as queue:
        yield queue


@pytest.fixture
def tasks_eager() -> Iterator[None]:
    """Tasks run at once, where they are called; what they raise is raised there."""
    from django_tasks.testing.overriding import eager

    with eager():
        yield


@pytest.fixture
def task_worker(request: pytest.FixtureRequest, tasks: "TaskQueue") -> Iterator["ThreadWorker"]:
    """A worker in a thread, on the messages and results in memory of ``tasks``."""
    from django_tasks.testing.threadworker import worker

    use_database_first(request)
    with worker() as running:
        yield running


def use_database_first(request: pytest.FixtureRequest) -> None:
    """Set up the test's database before what uses it, so that it is torn down after it."""
    for name in _DATABASE:
        if name in request.fixturenames:
            request.getfixturevalue(name)
