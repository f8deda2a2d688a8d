"""The harness' Django settings with ours on top. Puts the repository on the path, so nothing needs to be installed.

``BENCH_BROKER`` is ``redis`` or ``rabbitmq``, with results in Redis as the peers keep them; without it, both are the database.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from apps.django_settings import *  # noqa: F403

import config

# The task's module belongs to no Django app.
DJANGO_TASKS = {"IMPORTS": ["django_tasks_bench_tasks"]}
if broker := os.environ.get("BENCH_BROKER"):
    DJANGO_TASKS["BROKER_URL"] = {"redis": config.REDIS_URL, "rabbitmq": config.AMQP_URL}[broker]
    DJANGO_TASKS["RESULT_BACKEND"] = config.REDIS_URL
