"""Settings of the scripts in this folder. ``DATABASE`` chooses the database; ``WITHOUT_TASKS`` leaves our app out."""

import os
import sys
from pathlib import Path

import dj_database_url

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

SECRET_KEY = "benchmarks"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Django's default, said aloud: a connection a request.
CONN_MAX_AGE = 0
DATABASES = {"default": dj_database_url.parse(os.environ.get("DATABASE", "sqlite:///bench.sqlite3"), conn_max_age=CONN_MAX_AGE)}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
if not os.environ.get("WITHOUT_TASKS"):
    INSTALLED_APPS += ["django_celery_beat", "django_tasks"]
elif os.environ["WITHOUT_TASKS"] == "but beat":
    INSTALLED_APPS += ["django_celery_beat"]
DJANGO_TASKS = {"IMPORTS": [os.environ.get("TASKS", "bench_tasks")], "WORKER_LEASE": float(os.environ.get("LEASE", "60"))}
# BROKER=redis://... or amqp://...; RESULTS likewise. Both are the database otherwise.
DJANGO_TASKS |= {key: os.environ[name] for name, key in (("BROKER", "BROKER_URL"), ("RESULTS", "RESULT_BACKEND")) if name in os.environ}
if "MAX_DELIVERIES" in os.environ:
    DJANGO_TASKS["TASK_MAX_DELIVERIES"] = int(os.environ["MAX_DELIVERIES"])
if "QUEUE" in os.environ:
    DJANGO_TASKS["TASK_DEFAULT_QUEUE"] = os.environ["QUEUE"]
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING", "handlers": []}}
