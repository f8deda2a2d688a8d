"""Which tests can run here, and what all of them may use."""

import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator

import pytest

from tests import emptying, planplugin, rabbitmq
from tests.absent import fail_if_absent, leave_out
from tests.services import SERVICES, missing, missing_package

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # Of a run in the background, whose shell lets it ignore Ctrl-C: the processes that it starts would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Hundreds of tests start a process: each would compile all our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """--plan and --write-durations."""
    planplugin.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Show and order the run where --plan asks for it."""
    planplugin.configure(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core, and no more than eight: tests with real processes wait most of their time."""
    return min(2 * (os.cpu_count() or 1), 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by name what needs a server that doesn't answer, or a package that isn't here; where CI is set, that is a failure."""
    for item in items:
        absent = [missing(name) for name in SERVICES if item.get_closest_marker(name)]
        absent += [missing_package(mark.args[0]) for mark in item.iter_markers("needs")]
        for reason in filter(None, absent):
            leave_out(item, reason)
        _leave_out_missing_databases(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where CI is set, what can't run fails."""
    fail_if_absent(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what was logged and printed fit to be sent: a process of tests beside others ends at half a surrogate pair."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def _leave_out_missing_databases(item: pytest.Item) -> None:
    # pytest-django refuses a test that asks for a database that the settings don't have.
    mark = item.get_closest_marker("django_db")
    wanted = mark.kwargs.get("databases") if mark else None
    if mark and wanted and wanted != "__all__":
        here = [name for name in wanted if name not in SERVICES or missing(name) is None]
        item.add_marker(pytest.mark.django_db(*mark.args, **{**mark.kwargs, "databases": here}), append=False)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """The test databases, emptied in our way after a test."""
    emptying.install()


@pytest.fixture(
    params=[
        "default",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("mysql", marks=pytest.mark.mysql),
    ]
)
def alias(request: pytest.FixtureRequest) -> str:
    """Run the test for every database: SQLite always, the others where a server answers.

    Beside ``@pytest.mark.django_db(databases=["default", "postgres", "mysql"])``: aliases that are missing
    here are left out of that list.
    """
    return request.param


@pytest.fixture(scope="session")
def virtual_host() -> Iterator[str]:
    """The URL of a virtual host of RabbitMQ's that belongs to this process of tests."""
    with rabbitmq.virtual_host() as url:
        yield url


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    """Leave no broker, event channel, result backend or router of one test to the next."""
    yield
    for name in ("brokers", "events", "result_backends", "routing"):
        module = sys.modules.get(f"django_tasks.{name}")
        if module is not None and hasattr(module, "reset"):
            module.reset()


@pytest.fixture
def child_environment() -> dict[str, str]:
    """The environment for a process that is to work on this test's databases (``transaction=True`` tests)."""
    from django.db import connections

    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONUNBUFFERED": "1"}
    variables = {"default": "SQLITE_NAME", "postgres": "POSTGRES_NAME", "mysql": "MYSQL_NAME"}
    for alias in connections:
        environment[variables[alias]] = str(connections[alias].settings_dict["NAME"])
    return environment
