"""The pytest plugin, in projects of its own: a pytest run each, with pytest-django."""

import os
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

SETTINGS = """
SECRET_KEY = "tests"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3", "TEST": {"NAME": "test.sqlite3"}}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_celery_beat", "django_tasks", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
TASKS = """
from django.contrib.auth.models import User
from django_tasks import shared_task

@shared_task
def add(x, y):
    return x + y

@shared_task
def fail():
    raise ValueError("broken")

@shared_task
def register(name):
    return User.objects.create(username=name).pk
"""
INI = """
[pytest]
DJANGO_SETTINGS_MODULE = shopsettings
pythonpath = .
filterwarnings = error
addopts = --strict-markers --strict-config --nomigrations
"""
#: Where the package is installed with its entry point, pytest loads the plugin by itself.
LOADED = any(one.value == "django_tasks.testing.plugin" for one in entry_points(group="pytest11"))
LOAD = [] if LOADED else ["-p", "django_tasks.testing.plugin"]


@pytest.fixture
def project(pytester, monkeypatch):
    """A Django project with an app «shop», and a function that runs its tests in a process of their own."""
    for name in [name for name in os.environ if name.startswith(("DJANGO_", "TEST_", "PYTEST_ADDOPTS"))]:
        monkeypatch.delenv(name)
    pytester.makefile(".ini", pytest=INI)
    pytester.makepyfile(shopsettings=SETTINGS)
    shop = pytester.mkpydir("shop")
    (shop / "tasks.py").write_text(TASKS)

    def run(tests, *arguments, passed=0, **outcomes):
        pytester.makepyfile(test_shop=f"import pytest\nfrom shop.tasks import add, fail, register\n\n{tests}")
        done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:randomly", *LOAD, *arguments)
        done.assert_outcomes(passed=passed, **outcomes)
        return done

    return run


def test_the_queue_and_eager_mode(project):
    """The fixtures `tasks` and `tasks_eager` need no database."""
    project(
        """
def test_queue(tasks):
    result = add.delay(1, 2)
    tasks.assert_published(add, args=(1, 2))
    tasks.run_pending()
    assert result.get(timeout=0) == 3

def test_eager(tasks_eager):
    with pytest.raises(ValueError):
        fail.delay()

@pytest.mark.django_db
def test_in_a_transaction(tasks, django_capture_on_commit_callbacks):
    from django.contrib.auth.models import User
    with django_capture_on_commit_callbacks(execute=True):
        register.delay("ada")
    tasks.run_pending(raise_errors=True)
    assert User.objects.get().username == "ada"

def test_settings_are_back():
    from django_tasks.conf import settings
    assert (settings.BROKER_URL, settings.TASK_ALWAYS_EAGER) == ("db://default", False)
""",
        passed=4,
    )


def test_a_failed_assertion_reads_well(project):
    """A failure shows the message, without the plugin's own lines."""
    done = project(
        """
@pytest.mark.django_db
def test_it(tasks):
    register.delay("ada")
    tasks.assert_published(register)
""",
        failed=1,
    )
    done.stdout.fnmatch_lines(["E*AssertionError: shop.tasks.register was not published.", "E*1 message(s) wait for a commit:"])
    assert "inmemory.py" not in done.stdout.str()


def test_the_worker(project):
    """The fixture `task_worker` works on the messages of `tasks`, with the database where the test has one."""
    project(
        """
from django.contrib.auth.models import User

def test_without_database(task_worker):
    assert add.delay(1, 2).get(timeout=50) == 3

@pytest.mark.django_db(transaction=True)
def test_with_rows(task_worker):
    assert register.delay("ada").get(timeout=50) == User.objects.get().pk

def test_with_a_fixture_that_comes_later(task_worker, transactional_db):
    register.delay("eve").get(timeout=50)
    assert User.objects.count() == 1

@pytest.mark.django_db(transaction=True)
def test_the_projects_own_broker():
    from django_tasks.testing import worker
    with worker():
        assert register.delay("bob").get(timeout=50)
    assert User.objects.get().username == "bob"
""",
        passed=4,
    )


#: A suite as Celery's guide has it.
CELERYS_SUITE = """
def test_app(celery_app):
    assert celery_app.conf.task_default_queue == "tests"
    assert celery_app.conf.broker_url.startswith("memory://")

@pytest.mark.celery(task_always_eager=True, result_expires=60)
def test_marker(celery_app):
    assert celery_app.conf.result_expires == 60
    assert add.delay(1, 2).get() == 3

def test_new_task(celery_app, celery_worker):
    @celery_app.task
    def mul(x, y):
        return x * y

    celery_worker.reload()
    assert mul.delay(4, 4).get(timeout=50) == 16

def test_another_task_of_that_name(celery_app, celery_worker):
    @celery_app.task
    def mul(x, y):
        return x * y * 2

    assert mul.delay(4, 4).get(timeout=50) == 32

@pytest.mark.celery(result_backend="rpc")
def test_results_as_messages_of_a_broker_in_memory(celery_app, celery_worker):
    assert add.delay(1, 2).get(timeout=10) == 3

@pytest.mark.celery(CELERY_EAGER_PROPAGATES_EXCEPTIONS=True, CELERY_ALWAYS_EAGER=True)
def test_old_names(celery_app):
    with pytest.raises(ValueError):
        fail.delay()

@pytest.mark.usefixtures("celery_session_app", "celery_session_worker", "depends_on_current_app")
class TestSession:
    def test_one(self):
        assert add.delay(1, 1).get(timeout=50) == 2

    def test_other(self, celery_includes, celery_worker_pool, celery_parameters, use_celery_app_trap):
        assert (celery_includes, celery_worker_pool, celery_parameters, use_celery_app_trap) == ((), "solo", {}, False)
"""


def test_a_suite_written_for_celery(project, pytester):
    """Celery's fixtures and its marker are there, with their overrides in conftest.py."""
    pytester.makeconftest(
        """
import pytest

@pytest.fixture(scope="session")
def celery_config():
    return {"broker_url": "memory://", "result_backend": "cache+memory://", "task_default_queue": "tests"}

@pytest.fixture(scope="session")
def celery_worker_parameters():
    return {"queues": ("tests",), "shutdown_timeout": 5, "perform_ping_check": False}

@pytest.fixture(scope="session")
def celery_enable_logging():
    return True
"""
    )
    project(CELERYS_SUITE, passed=8)


#: A suite's conftest.py that says all that Celery's fixtures can be told.
PARAMETERS = """
import pytest
from django_tasks import Task

class Ours(Task):
    flavour = "ours"

class Double(Task):
    name = "shop.double"

    def run(self, x):
        return 2 * x

@pytest.fixture(scope="session")
def celery_parameters():
    return {"task_cls": Ours, "strict_typing": False}

@pytest.fixture(scope="session")
def celery_worker_parameters():
    return {"queues": ("high", "low", "not-this"), "exclude_queues": "not-this", "concurrency": 2, "without_heartbeat": False}

@pytest.fixture(scope="session")
def celery_worker_pool():
    return "prefork"

@pytest.fixture(scope="session")
def celery_includes():
    return ["shop.more"]

@pytest.fixture(scope="session")
def celery_class_tasks():
    return [Double]
"""


def test_celerys_parameters_count(project, pytester):
    """What a suite gives the app and the worker counts: task class, typing, queues, includes, class tasks; prefork becomes threads."""
    (pytester.path / "shop" / "more.py").write_text(
        "from django_tasks import shared_task\n\n@shared_task\ndef found():\n    return 'found'\n"
    )
    pytester.makeconftest(PARAMETERS)
    project(
        """
def test_worker(celery_app, celery_worker):
    assert celery_worker.queues == ("high", "low")
    assert celery_worker.hostname == "tests@localhost"
    celery_worker.ensure_started()
    found, double = (celery_app.tasks[name] for name in ("shop.more.found", "shop.double"))
    assert found.apply_async(queue="high").get(timeout=50) == "found"
    assert double.apply_async((4,), queue="low").get(timeout=50) == 8

def test_class_and_typing(celery_app):
    @celery_app.task
    def one(x):
        return x

    assert one.flavour == "ours"
    one.delay(1, 2, 3)

def test_elsewhere():
    from django_tasks import app

    @app.task
    def strict(x):
        return x

    assert not hasattr(strict, "flavour")
    with pytest.raises(TypeError):
        strict.delay(1, 2, 3)
""",
        passed=3,
    )


def test_celerys_fixtures_wait_for_no_commit(project):
    """In a test's transaction the fixtures publish at once, as Celery does, unless they are told otherwise."""
    project(
        """
@pytest.mark.django_db
def test_at_once(celery_worker):
    assert add.delay(1, 2).get(timeout=50) == 3

@pytest.mark.django_db
@pytest.mark.celery(task_publish_on_commit=True)
def test_on_commit(celery_app, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as callbacks:
        add.delay(1, 2)
    assert len(callbacks) == 1
""",
        passed=2,
    )


def test_mocks_of_a_task(project):
    """A task's methods can be patched on it, as its users do in unit tests, and are its own again afterwards."""
    project(
        """
from unittest.mock import patch
from django_tasks import shared_task
from django_tasks.exceptions import Retry

@shared_task(bind=True)
def order(self, stock):
    try:
        stock()
    except ConnectionError as error:
        raise self.retry(exc=error)

def test_retry_is_patched():
    def stock():
        raise ConnectionError("gone")

    with patch("test_shop.order.retry", side_effect=Retry()) as retry, pytest.raises(Retry):
        order(stock)
    assert isinstance(retry.call_args.kwargs["exc"], ConnectionError)
    assert "retry" not in vars(order)

def test_delay_is_patched():
    with patch("shop.tasks.add.delay") as delay:
        add.delay(1, 2)
    delay.assert_called_once_with(1, 2)
    assert add(1, 2) == 3
""",
        passed=2,
    )


def test_celerys_own_plugin_keeps_its_fixtures(project):
    """Where celery.contrib.pytest is loaded, celery_app is Celery's; ours stay beside it."""
    project(
        """
def test_app(celery_app, tasks):
    assert type(celery_app).__module__.startswith("celery.")
    add.delay(1, 2)
    tasks.assert_published(add)
""",
        "-p",
        "celery.contrib.pytest",
        passed=1,
    )


def test_nothing_is_loaded_for_tests_that_dont_use_it(project, pytester):
    """The plugin loads neither models nor the worker, and no settings."""
    pytester.makefile(".ini", pytest="[pytest]\n")
    pytester.makepyfile(
        test_plain="""
import sys

def test_plain():
    from django.conf import settings
    loaded = [name for name in sys.modules if name.startswith(("django_tasks.models", "django_tasks.worker", "django_tasks.testing"))]
    assert set(loaded) <= {"django_tasks.testing.plugin", "django_tasks.testing.celery_fixtures", "django_tasks.testing"}
    assert not settings.configured
"""
    )
    done = pytester.runpytest_subprocess("-p", "no:django", *LOAD, "test_plain.py")
    done.assert_outcomes(passed=1)
