"""Our entries for the side-by-side harness, which runs this file with ``django`` and ``LATE`` already there.

``BENCH_DT_VENV`` is a virtual environment with Django, psycopg, psutil and this package's dependencies.
"""

import os
from pathlib import Path

VENV = os.environ.get("BENCH_DT_VENV") or str(Path(__file__).resolve().parent.parent / ".venv")

for kind in ("postgres", "sqlite"):
    for pool in ("prefork", "threads"):
        django(  # noqa: F821  given by the harness
            f"django_tasks-{kind}" + ("" if pool == "prefork" else f"-{pool}"),
            "extra:django_tasks_app",
            kind,
            "{python} -m django runworker -c 2 -l WARNING -P " + pool,
            20_000,
            "django_celery_beat django_tasks",
            env={"DJANGO_SETTINGS_MODULE": "django_tasks_bench_settings", "BENCH_CONN_MAX_AGE": "0"},
            venv=VENV,
            delivery=LATE,  # noqa: F821
            results="Django DB row, arguments included",
            delayed_n=50_000 if pool == "prefork" else 0,
            note="CONN_MAX_AGE = 0" + ("" if pool == "prefork" else "; one process, 2 threads"),
        )

for broker in ("redis", "rabbitmq"):
    for pool in ("prefork", "threads"):
        django(  # noqa: F821
            f"django_tasks-{broker}" + ("" if pool == "prefork" else f"-{pool}"),
            "extra:django_tasks_app",
            broker,
            "{python} -m django runworker -c 2 -l WARNING -P " + pool,
            20_000,
            "django_celery_beat django_tasks",
            # SQLite has the heartbeats of workers and nothing else, unless RabbitMQ's delayed messages are parked in it.
            env={
                "DJANGO_SETTINGS_MODULE": "django_tasks_bench_settings",
                "BENCH_CONN_MAX_AGE": "0",
                "BENCH_BROKER": broker,
                "BENCH_DB": "sqlite",
            },
            venv=VENV,
            drain_n=100_000 if broker == "redis" else 0,
            delivery=LATE,  # noqa: F821
            results="Redis key, arguments included",
            delayed_n=50_000 if pool == "prefork" else 0,
            note="" if pool == "prefork" else "one process, 2 threads",
        )
