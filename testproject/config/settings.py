"""Settings of the test project. Three variables choose where its data, its messages and its results lie.

``DATABASE``        a database URL: ``sqlite:///shop.sqlite3``, ``postgres://...``, ``mysql://...`` (SQLite beside this project)
``BROKER_URL``      where messages wait (``db://default``: that same database)
``RESULT_BACKEND``  where results are kept (``db://default``; the demonstration's site shows those of the database)
"""

import os
from pathlib import Path

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent
#: Where the reports are written.
OUTPUT_DIR = Path(os.environ.get("OUTPUT_DIR") or BASE_DIR / "output")

SECRET_KEY = "no secret: this project is a demonstration"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {"default": dj_database_url.parse(os.environ.get("DATABASE") or f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    # The whole integration of django-tasks-engine:
    "django_celery_beat",
    "django_tasks",
    "shop",
]

DJANGO_TASKS = {
    "BROKER_URL": os.environ.get("BROKER_URL") or "db://default",
    "RESULT_BACKEND": os.environ.get("RESULT_BACKEND") or "db://default",
    "TASK_QUEUES": ["default", "mail"],
    "TASK_ROUTES": {"shop.tasks.mail_*": {"queue": "mail"}},
    "MIDDLEWARE": ["shop.middleware.Stopwatch"],
    # Beside the schedules of the admin: what belongs to the code rather than to the data.
    "BEAT_SCHEDULE": {
        "sweep old snapshots": {"task": "shop.tasks.sweep_snapshots", "schedule": 30.0, "kwargs": {"keep": 200}},
    },
}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"task": {"()": "django_tasks.log.TaskContextFilter"}},
    "formatters": {"short": {"format": "{levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short", "filters": ["task"]}},
    "loggers": {
        "shop": {"level": "INFO"},
        "django_tasks": {"level": "INFO"},
        "django.server": {"level": "WARNING", "handlers": ["console"], "propagate": False},
    },
    "root": {"level": "WARNING", "handlers": ["console"]},
}
