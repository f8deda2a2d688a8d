"""A project that uses Celery in every way that projects do, for what reads such projects. File name → text."""

FILES = {
    "Procfile": """\
web: gunicorn proj.wsgi
worker: celery -A proj worker -Q default,mail -c 4 -l info --without-gossip -Ofair
beat: celery -A proj beat -S django
""",
    "docker-compose.yml": """\
services:
  worker:
    command: celery --app=proj.celery:app worker --loglevel=FATAL --concurrency 8 -P gevent -E
  listed:
    command:
      - celery
      - -A
      - proj
      - worker
      - -n
      - mail@%h
  folded:
    command: >
      celery -A proj
      worker
      -l INFO
    healthcheck:
      test: ["CMD", "celery", "-A", "proj", "inspect", "ping"]
  # celery -A proj worker would be a comment
""",
    "deploy/worker.service": """\
[Service]
ExecStart=/srv/proj/venv/bin/celery -A proj worker \\
    --pidfile=/run/celery.pid \\
    --uid=www --max-tasks-per-child=100
""",
    "deploy/supervisor.conf": "[program:beat]\ncommand=/venv/bin/python -m celery -A proj beat -l info --max-interval 5 >> /tmp/log 2>&1\n",
    "compose/start": "#!/bin/sh\nset -e\nexec watchfiles --filter python celery.__main__.main --args '-A proj worker -l INFO'\n",
    "requirements/base.txt": "Django>=5.2\ncelery[redis]==5.4.0  # queue\ndjango-celery-beat\ndjango-celery-results==2.5.1\nflower\n",
    "pytest.ini": "[pytest]\naddopts = -p celery.contrib.pytest\n",
    "README.md": "Start a worker:\n\n    celery -A proj worker\n",
    "manage.py": "import sys\n",
    "proj/__init__.py": "from .celery import app as celery_app\n\n__all__ = ('celery_app',)\n",
    "proj/celery.py": """\
import os

from celery import Celery, signals
from celery import bootsteps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")

app = Celery("proj", broker="redis://localhost", include=["proj.more"])
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.task_track_started = True
app.conf.update(task_routes={}, no_such_setting=1)


class Step(bootsteps.StartStopStep):
    pass


app.steps["worker"].add(Step)


@app.task(bind=True)
def debug_task(self):
    print(self.request)


@signals.task_failure.connect
def failed(**kwargs):
    app.control.inspect().active()
""",
    "proj/settings.py": """\
INSTALLED_APPS = [
    "django.contrib.auth",
    "django_celery_results",
    "django_celery_beat",
    "shop",
]
CELERY_BROKER_URL = "redis://:secret@localhost:6379/0"
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_SERIALIZER = "pickle"
CELERY_ACCEPT_CONTENT = ["json", "pickle"]
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 43200}
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_POOL = "gevent"
CELERYD_CONCURRENCY = 4
CELERY_TASK_TIME_LIMIT = "long"
CELERY_FLAVOUR = "celeriac"
DJANGO_CELERY_RESULTS_TASK_ID_MAX_LENGTH = 191
LOGGING = {"version": 1, "loggers": {"celery": {"level": "INFO"}}}
""",
    "shop/__init__.py": "",
    "shop/tasks.py": """\
import celery
from celery import (
    chain,
    shared_task,
    bugreport,
)
from celery import current_app as capp  # the app
from celery.exceptions import CeleryError, MaxRetriesExceededError, SoftTimeLimitExceeded
from celery.result import AsyncResult
from celery.schedules import crontab
from celery.utils.log import get_task_logger
from celery.unheard_of import something
from django_celery_results.models import TaskResult

from proj import celery_app
from proj.celery import app

logger = get_task_logger(__name__)


class LoggedTask(celery.Task):
    abstract = True

    def on_bound(self, app):
        pass

    def on_failure(self, *args):
        pass


@celery.shared_task(base=LoggedTask)
def one(): ...


@shared_task(serializer="pickle")
def two(): ...


@celery_app.task
def three(): ...


def watch():
    if TYPE_CHECKING: from celery import states
    return capp.control.ping, celery.states.SUCCESS
""",
    "shop/tests.py": """\
from unittest import mock

from celery.contrib.testing.worker import start_worker
from django.test import override_settings

pytest_plugins = ("celery.contrib.pytest",)


@override_settings(CELERY_TASK_ALWAYS_EAGER=True)
@mock.patch("celery.app.task.Task.apply_async")
def test_it(patched): ...
""",
    "shop/broken.py": "from celery import group\ndef (:\n",
    "shop/clean.py": "from django.db import models\n",
    "shop/migrations/0001_initial.py": "from proj.settings import app\n",
    "shop/migrations/0002_tasks.py": "from celery import shared_task\n",
    "venv/pyvenv.cfg": "",
    "venv/lib/x.py": "from celery import shared_task\n",
}
