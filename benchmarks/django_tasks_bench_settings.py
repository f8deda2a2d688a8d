"""The harness' Django settings with ours on top. Puts the repository on the path, so nothing needs to be installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from apps.django_settings import *  # noqa: F403

# The task's module belongs to no Django app.
DJANGO_TASKS = {"IMPORTS": ["django_tasks_bench_tasks"]}
