"""System checks, and what the app does when it is ready, when settings change and when a database is connected."""

import sqlite3
from datetime import timedelta
from importlib import metadata

import pytest
from django.apps import apps
from django.core import checks as django_checks
from django.core.checks import run_checks
from django.core.signals import setting_changed
from django.db import connections
from django.db.backends.signals import connection_created
from django.test import override_settings

from django_tasks import brokers, checks, result_backends, routing
from django_tasks.apps import discover_tasks, tune_sqlite
from django_tasks.conf import settings
from django_tasks.registry import registry


def found(**django_settings):
    """Run our checks under these settings; identifiers to messages with their hints."""
    with override_settings(**django_settings):
        return {message.id: f"{message.msg} | {message.hint}" for message in run_checks(tags=[checks.TAG])}


def ours(**values):
    return found(DJANGO_TASKS=values)


def only(messages, identifier):
    assert list(messages) == [f"django_tasks.{identifier}"], messages
    return messages[f"django_tasks.{identifier}"]


def test_the_defaults_are_fine():
    """A project that sets nothing hears nothing."""
    assert ours() == {}


def test_every_check_is_registered():
    """``manage.py check`` runs them all, under our tag."""
    registered = django_checks.registry.registry.registered_checks
    assert set(checks.CHECKS) <= registered


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TASK_ROUTS", "TASK_ROUTES"),
        ("BROKERURL", "BROKER_URL"),
        ("task_routes", "Its name is TASK_ROUTES"),
        ("CELERY_TASK_ROUTES", "Its name is TASK_ROUTES"),
        ("ACKS_LATE", "Its name is TASK_ACKS_LATE"),
        ("CELERYD_CONCURRENCY", "Its name is WORKER_CONCURRENCY"),
        ("XYZZY", "No setting has a name like it"),
    ],
)
def test_e001_an_unknown_key_names_its_neighbour(name, nearest):
    """A misspelt, renamed or lower-case key is an error with the right name."""
    message = only(ours(**{name: {}}), "E001")
    assert repr(name) in message
    assert nearest in message


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("TASK_ACKS_LATE", 1, "bool"),
        ("WORKER_CONCURRENCY", "4", "int, None"),
        ("WORKER_CONCURRENCY", True, "int, None"),
        ("TASK_DEFAULT_QUEUE", None, "str"),
        ("RESULT_EXPIRES", "1 day", "timedelta"),
        ("TASK_PUBLISH_RETRY_POLICY", [], "dict"),
        ("ACCEPT_CONTENT", "json", "list, tuple, set"),
        ("BROKER_URL", 5, "str, list"),
        ("MIDDLEWARE", "a.b", "list"),
        ("IMPORTS", "a.b", "list"),
    ],
)
def test_e002_a_wrong_type_is_told_with_the_right_ones(name, value, allowed):
    """The message has the value and its type, the hint the types that a project may write."""
    message = only(ours(**{name: value}), "E002")
    assert f"DJANGO_TASKS['{name}'] is {value!r}, of type {type(value).__name__}" in message
    assert allowed in message


def test_e002_counts_for_celerys_names_too():
    """The setting is named as the project wrote it."""
    assert "CELERY_TASK_ACKS_LATE is 1" in only(found(DJANGO_TASKS={}, CELERY_TASK_ACKS_LATE=1), "E002")


def test_e003_a_value_out_of_the_choices():
    """The choices are listed, and the nearest is offered."""
    message = only(ours(WORKER_POOL="preforks"), "E003")
    assert "'prefork', 'threads', 'asyncio', 'solo'" in message
    assert "Did you mean 'prefork'" in message
    assert "2" in only(ours(TASK_PROTOCOL=1), "E003")


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("WORKER_CONCURRENCY", 0, "at least 1"),
        ("TASK_DEFAULT_PRIORITY", 256, "at least -100 and at most 255"),
        ("WORKER_LEASE", 0.5, "at least 1"),
        ("RESULT_EXPIRES", timedelta(seconds=-1), "at least 0"),
        ("TASK_MAX_DELIVERIES", -3, "at least 1"),
    ],
)
def test_e004_a_value_out_of_range(name, value, limit):
    """The limits are told."""
    message = only(ours(**{name: value}), "E004")
    assert repr(value) in message
    assert limit in message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("dbx://default", "db://"),
        ("postgresql://user:secret@host/db", "postgresql"),
        ("/tmp/queue", "no URL"),
        (["db://default", "db://default"], "fail-over"),
    ],
)
def test_e005_a_broker_url_that_leads_nowhere(url, words):
    """An unknown scheme is told with what there is, without the password."""
    message = only(ours(BROKER_URL=url), "E005")
    assert words in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        ("BROKER_URL", "db://defalt", "DATABASES has no 'defalt'"),
        ("RESULT_BACKEND", "db://defalt", "Did you mean db://default?"),
        ("RESULT_BACKEND", "cache://fast", "CACHES has no 'fast'"),
    ],
)
def test_e006_an_alias_that_is_not_there(name, url, words):
    """The aliases that there are are listed."""
    message = only(ours(**{name: url}), "E006")
    assert words in message
    assert "There are default" in message


def test_e007_a_result_url_that_leads_nowhere():
    """An unknown result backend is told without the password."""
    message = only(ours(RESULT_BACKEND="postgresql://user:secret@host/"), "E007")
    assert "postgresql" in message
    assert "cache://" in message
    assert "secret" not in message


def test_e008_the_rival_distribution(monkeypatch):
    """Where django-tasks is installed beside us, both names and the way out are told."""
    genuine = metadata.distribution
    monkeypatch.setattr(metadata, "distribution", lambda name: object() if name == "django-tasks" else genuine(name))
    message = only(ours(), "E008")
    assert "import name django_tasks" in message
    assert "pip uninstall django-tasks django-tasks-engine" in message


def test_e009_django_celery_beat_is_missing(monkeypatch):
    """The app whose models hold the schedules must be installed."""
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django_celery_beat")
    messages = checks.check_installation()
    assert [message.id for message in messages] == ["django_tasks.E009"]
    assert '"django_celery_beat", "django_tasks"' in messages[0].hint


@pytest.mark.parametrize("value", [["a"], "db://default", 5])
def test_e010_no_dictionary(value):
    """DJANGO_TASKS must be a dictionary; no other check stumbles over one that is not."""
    assert repr(value) in only(found(DJANGO_TASKS=value), "E010")


@pytest.mark.parametrize(
    "values",
    [
        {"TASK_ROUTES": "no_such_module_here.router"},
        {"TASK_ROUTES": {"a": 5}},
        {"TASK_QUEUES": [5]},
        {"TASK_QUEUES": {"a\nb": {}}},
        {"TASK_DEFAULT_QUEUE": ""},
    ],
    ids=repr,
)
def test_e011_routes_and_queues_that_cant_be_read(values):
    """What the first publish would stumble over is told before."""
    assert "can't be read" in only(ours(**values), "E011")


@pytest.mark.parametrize("path", ["no_such_module_here.Cls", "django.conf.settings", "django.http.HttpRequest"])
def test_e012_middleware_that_is_none(path):
    """Each entry must be a subclass of Middleware that can be imported."""
    assert repr(path) in only(ours(MIDDLEWARE=[path]), "E012")
    assert ours(MIDDLEWARE=["django_tasks.middleware.Middleware"]) == {}


def test_e013_no_such_time_zone():
    """TIMEZONE is a name of the IANA database."""
    assert "'Mars/Olympus'" in only(ours(TIMEZONE="Mars/Olympus"), "E013")
    assert ours(TIMEZONE="Europe/Berlin") == {}


@pytest.mark.parametrize(
    "values",
    [{"TASK_SERIALIZER": "yml"}, {"RESULT_SERIALIZER": "yml"}, {"ACCEPT_CONTENT": ["json", "yml"]}, {"TASK_COMPRESSION": "gzpi"}],
    ids=repr,
)
def test_e014_serializers_and_compressions_that_are_not_there(values):
    """The name is told with the nearest one."""
    assert "did you mean" in only(ours(**values), "E014")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CELERY_TASK_QUEUS", "TASK_QUEUES"),
        ("CELERYD_CONCURRENCY", "WORKER_CONCURRENCY"),
        ("CELERYBEAT_SCHEDULE", "BEAT_SCHEDULE"),
        ("CELERY_ACKS_LATE", "TASK_ACKS_LATE"),
    ],
)
def test_w001_unknown_celery_settings(name, words):
    """They may be another app's, so they are a warning, with today's name."""
    message = only(found(**{"DJANGO_TASKS": {}, name: {}}), "W001")
    assert name in message
    assert words in message


def test_w002_settings_without_effect():
    """Celery's settings that change nothing are told, unless they say what holds anyway."""
    assert "BROKER_URL" in only(ours(BROKER_HOST="rabbit"), "W002")
    assert "CELERY_WORKER_LOST_WAIT" in only(found(DJANGO_TASKS={}, CELERY_WORKER_LOST_WAIT=7), "W002")
    assert ours(ENABLE_UTC=True, WORKER_HIJACK_ROOT_LOGGER=False) == {}


@pytest.mark.parametrize("content", ["pickle", "application/x-python-serialize"])
def test_w003_pickle(content):
    """Accepting pickle is allowed and warned of, by either name."""
    assert "run code" in only(ours(ACCEPT_CONTENT=["json", content]), "W003")


def test_w007_options_of_routes_without_effect():
    """A route that holds more than an address is told what it may hold."""
    message = only(ours(TASK_ROUTES={"a.*": {"queue": "q", "expires": 3}}), "W007")
    assert "'expires'" in message
    assert "queue, exchange, routing_key, priority, serializer, compression" in message


def test_w008_results_in_a_cache_that_is_not_shared():
    """Each process has a local-memory cache for itself."""
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    message = only(found(DJANGO_TASKS={"RESULT_BACKEND": "cache://default"}, CACHES=caches), "W008")
    assert "no two processes share" in message


def test_w010_what_is_written_is_not_accepted():
    """A serializer that the accept list lacks would fill the queue with refused messages."""
    assert "'yaml'" in only(ours(TASK_SERIALIZER="yaml"), "W010")
    assert ours(TASK_SERIALIZER="yaml", ACCEPT_CONTENT=["json", "application/x-yaml"]) == {}
    assert "RESULT_ACCEPT_CONTENT" in only(ours(RESULT_SERIALIZER="yaml", RESULT_ACCEPT_CONTENT=["json"]), "W010")


# ---------------------------------------------------------------------------------------------------------------- SQLite


def sqlite_settings(path, **options):
    return {"default": {**connections["default"].settings_dict, "NAME": str(path), "OPTIONS": options}}


def database_checks(monkeypatch, database, **values):
    monkeypatch.setattr("django.conf.settings.DATABASES", database, raising=False)
    return ours(**values)


def test_w004_a_sqlite_file_without_wal(monkeypatch, tmp_path):
    """With SQLITE_TUNING off, what the project does not set itself is told."""
    path = tmp_path / "db.sqlite3"
    sqlite3.connect(path).execute("create table t (x)")
    message = only(database_checks(monkeypatch, sqlite_settings(path), SQLITE_TUNING=False), "W004")
    assert "no write-ahead log and no immediate transactions" in message
    assert database_checks(monkeypatch, sqlite_settings(path)) == {}


def test_w004_knows_what_is_set(monkeypatch, tmp_path):
    """A file in WAL mode and a transaction mode in OPTIONS are recognised, each for itself."""
    path = tmp_path / "db.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode = wal")
    connection.execute("create table t (x)")
    connection.close()
    message = only(database_checks(monkeypatch, sqlite_settings(path), SQLITE_TUNING=False), "W004")
    assert "write-ahead" not in message.partition("|")[0]
    assert database_checks(monkeypatch, sqlite_settings(path, transaction_mode="IMMEDIATE"), SQLITE_TUNING=False) == {}
    other = sqlite_settings(tmp_path / "new", transaction_mode="immediate", init_command="PRAGMA journal_mode=WAL;")
    assert database_checks(monkeypatch, other, SQLITE_TUNING=False) == {}


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory&cache=shared"])
def test_w005_a_sqlite_database_in_memory(monkeypatch, name):
    """A worker would see none of its messages."""
    assert "in memory" in only(database_checks(monkeypatch, sqlite_settings(name)), "W005")
    assert database_checks(monkeypatch, sqlite_settings(name), BROKER_URL="memory://", RESULT_BACKEND="memory://") == {}


@pytest.fixture
def sqlite_file(tmp_path):
    """A connection of Django's to a new SQLite file; OPTIONS may be changed before it connects."""
    from django.db.backends.sqlite3.base import DatabaseWrapper

    made = DatabaseWrapper({**connections["default"].settings_dict, "NAME": str(tmp_path / "db.sqlite3"), "OPTIONS": {}}, alias="probe")
    yield made
    if made.connection is not None:
        made.connection.close()


def pragmas(connection):
    execute = connection.connection.execute
    return {name: execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "busy_timeout", "synchronous")}


@pytest.mark.django_db
def test_sqlite_files_are_tuned(sqlite_file):
    """WAL, patience, and transactions that take the lock at once; nothing of it counts as a query of the project's."""
    sqlite_file.force_debug_cursor = True
    sqlite_file.connect()
    assert pragmas(sqlite_file) == {"journal_mode": "wal", "busy_timeout": 30_000, "synchronous": 1}
    assert sqlite_file.transaction_mode == "IMMEDIATE"
    assert sqlite_file.queries_log.maxlen
    assert not sqlite_file.queries_log


@pytest.mark.django_db
def test_what_the_project_sets_stays(sqlite_file):
    """OPTIONS win: the timeout, the transaction mode, and each pragma of init_command."""
    sqlite_file.settings_dict["OPTIONS"] = {
        "timeout": 2,
        "transaction_mode": "DEFERRED",
        "init_command": "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;",
    }
    sqlite_file.connect()
    assert pragmas(sqlite_file) == {"journal_mode": "delete", "busy_timeout": 2000, "synchronous": 2}
    assert sqlite_file.transaction_mode == "DEFERRED"


@pytest.mark.django_db
def test_tuning_can_be_turned_off(sqlite_file):
    """SQLITE_TUNING = False leaves a connection as Django makes it."""
    with override_settings(DJANGO_TASKS={"SQLITE_TUNING": False}):
        sqlite_file.connect()
    assert pragmas(sqlite_file) == {"journal_mode": "delete", "busy_timeout": 5000, "synchronous": 2}
    assert sqlite_file.transaction_mode is None


@pytest.mark.django_db
def test_a_database_in_memory_is_left_alone(sqlite_file):
    """There is nothing to share, so nothing to tune."""
    sqlite_file.settings_dict["NAME"] = ":memory:"
    sqlite_file.connect()
    assert sqlite_file.transaction_mode is None


@pytest.mark.django_db
def test_a_locked_file_is_no_error(sqlite_file, tmp_path):
    """A connection succeeds while another process writes; a later one tunes the file."""
    other = sqlite3.connect(tmp_path / "db.sqlite3", isolation_level=None)
    other.execute("begin exclusive")
    other.execute("create table t (x)")
    sqlite_file.settings_dict["OPTIONS"] = {"timeout": 0.01}
    sqlite_file.connect()
    other.execute("commit")
    other.close()
    tune_sqlite(connection=sqlite_file)
    assert pragmas(sqlite_file)["journal_mode"] == "wal"


def test_the_app_listens():
    """The receivers are connected once, when the app is ready."""
    assert "django_tasks.tune_sqlite" in str(connection_created.receivers)
    assert "django_tasks.forget_settings" in str(setting_changed.receivers)


def test_changed_settings_are_seen_everywhere():
    """Router, broker and result backend are made anew, and again when the block ends."""
    before = routing.current()
    with override_settings(DJANGO_TASKS={"BROKER_URL": "memory://", "RESULT_BACKEND": "disabled://"}):
        assert routing.current() is not before
        assert type(brokers.current()).__name__ == "MemoryBroker"
        assert type(result_backends.current()).__name__ == "DisabledResultBackend"
    assert type(brokers.current()).__name__ == "DatabaseBroker"


def test_other_settings_leave_everything_as_it_is():
    """A setting that is none of ours does not close the broker."""
    before = routing.current()
    with override_settings(LANGUAGE_CODE="de"):
        assert routing.current() is before


# --------------------------------------------------------------------------------------------------------- autodiscovery


def test_every_installed_apps_tasks_are_known():
    """A process that never imported them by itself finds the sample app's and the built-in tasks by name."""
    assert registry.find("tests.sampleapp.tasks.add") is not None
    assert registry.find("celery.backend_cleanup") is not None


def test_modules_of_imports_are_loaded(tmp_path, monkeypatch):
    """IMPORTS and INCLUDE both count, and an error in one is raised as it is."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported_by_test_one.py").write_text("")
    (tmp_path / "imported_by_test_two.py").write_text("")
    (tmp_path / "imported_by_test_bad.py").write_text("1 / 0")
    with override_settings(DJANGO_TASKS={"IMPORTS": ["imported_by_test_one"], "INCLUDE": ("imported_by_test_two",)}):
        assert {"imported_by_test_one", "imported_by_test_two", "tests.sampleapp.tasks"} <= set(discover_tasks())
    with override_settings(DJANGO_TASKS={"IMPORTS": ["imported_by_test_bad"]}), pytest.raises(ZeroDivisionError):
        discover_tasks()
    with override_settings(DJANGO_TASKS={"IMPORTS": "imported_by_test_bad"}):
        discover_tasks()
    assert settings.IMPORTS == ()


def test_e015_an_outbox_in_no_database():
    """The nearest name of DATABASES is offered."""
    message = only(ours(TASK_OUTBOX_DATABASE="defalt"), "E015")
    assert "DATABASES has no 'defalt'" in message
    assert "Did you mean 'default'?" in message
    assert "E002" in next(iter(ours(TASK_OUTBOX_DATABASE=5)))


def test_w011_an_outbox_beside_the_database_broker():
    """It changes nothing there, and something with any other broker."""
    assert "has no effect" in only(ours(TASK_PUBLISH_OUTBOX=True), "W011")
    assert ours(TASK_PUBLISH_OUTBOX=True, BROKER_URL="memory://") == {}


@pytest.mark.parametrize("values", [{"TASK_DEFAULT_QUEUE": "django_tasks.parked"}, {"TASK_QUEUES": ["a", "django_tasks.parked"]}])
def test_the_parking_lots_queue_is_reserved(values):
    """No queue of the project's may have its name."""
    (message,) = ours(**values).values()
    assert "reserved" in message
