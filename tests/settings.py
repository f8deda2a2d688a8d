"""Settings of the tests: a SQLite database in a file, and the other databases where a server answers.

Processes that a test starts use this module, too; the fixture ``child_environment`` tells them the names of the
test databases by the variables ``SQLITE_NAME``, ``POSTGRES_NAME`` and ``MYSQL_NAME``.
"""

import atexit
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import dj_database_url

from tests.services import SERVICES, missing

BASE_DIR = Path(__file__).resolve().parent.parent

if "SQLITE_NAME" in os.environ:
    SCRATCH = Path(os.environ["SQLITE_NAME"]).parent
else:
    SCRATCH = Path(tempfile.mkdtemp(prefix="django-tasks-tests-"))
    _owner = os.getpid()

    @atexit.register
    def _tidy() -> None:
        # Only the process that made it: forks run exit handlers, too.
        if os.getpid() == _owner:
            shutil.rmtree(SCRATCH, ignore_errors=True)


SECRET_KEY = "tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"

# A file, not memory: threads and processes of one test look at the same rows.
DATABASES: dict[str, Any] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SQLITE_NAME", SCRATCH / "db.sqlite3"),
        "TEST": {"NAME": SCRATCH / "test.sqlite3"},
    },
}
for _alias in ("postgres", "mysql"):
    # A process that a test starts is told what is there, and asks nobody.
    if f"{_alias.upper()}_NAME" in os.environ if "SQLITE_NAME" in os.environ else missing(_alias) is None:
        DATABASES[_alias] = dict(dj_database_url.parse(SERVICES[_alias].url))
        DATABASES[_alias]["NAME"] = os.environ.get(f"{_alias.upper()}_NAME", DATABASES[_alias]["NAME"])
        # The process id: test runs at the same time don't take each other's database away.
        DATABASES[_alias]["TEST"] = {"NAME": f"test_django_tasks_{os.getpid()}"}

if "POSTGRES_POOL" in os.environ and "postgres" in DATABASES:
    # Django's pool of connections, with these options of psycopg_pool.
    DATABASES["postgres"]["OPTIONS"] = {"pool": json.loads(os.environ["POSTGRES_POOL"])}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "django_tasks",
    "tests.sampleapp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Logging in is not what is tested here, so it may be quick.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


def _told() -> dict[str, Any]:
    # What a process that a test starts is told: DJANGO_TASKS keys as environment variables, in JSON where it is more than text:
    # TEST_BROKER_URL=db://default, TEST_WORKER_LEASE=2, TEST_BROKER_TRANSPORT_OPTIONS={"visibility_timeout": 5}.
    from django_tasks.conf_options import OPTIONS

    told: dict[str, Any] = {name: os.environ[f"TEST_{name}"] for name in OPTIONS if f"TEST_{name}" in os.environ}
    for name, text in list(told.items()):
        with suppress(ValueError):
            told[name] = json.loads(text)
    return told


DJANGO_TASKS: dict[str, Any] = _told()

if "TEST_CLOCK_FILE" in os.environ:
    from tests import shiftedclock

    shiftedclock.install(Path(os.environ["TEST_CLOCK_FILE"]))
