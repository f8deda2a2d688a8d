"""What the app adds to a project's start: ``import django_tasks`` and ``manage.py check``, in milliseconds.

Prints one JSON line. Each figure is a median; the variants take turns, so that noise hits all alike.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECK = "from django.core.management import execute_from_command_line as run; run(['manage.py', 'check'])"
VARIANTS = {
    "python": ("pass", None),
    "import_django": ("import django.conf, django.db.models, django.dispatch", None),
    "import_django_tasks": ("import django.conf, django.db.models, django.dispatch, django_tasks", None),
    "check_without": (CHECK, "all"),
    "check_with_beat_only": (CHECK, "but beat"),
    "check_with": (CHECK, ""),
}


def once(code, without):
    """Milliseconds of one Python process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent))), "DJANGO_SETTINGS_MODULE": "bench_settings"}
    environment.pop("WITHOUT_TASKS", None)
    if without:
        environment["WITHOUT_TASKS"] = without
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1000


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    times = {name: [] for name in VARIANTS}
    for number in range(rounds + 1):
        for name, (code, without) in VARIANTS.items():
            spent = once(code, without)
            if number:  # the first round writes the bytecode
                times[name].append(spent)
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    print(
        json.dumps(
            {
                "benchmark": "startup",
                "rounds": rounds,
                "ms": medians,
                "import_adds_ms": round(medians["import_django_tasks"] - medians["import_django"], 1),
                "check_adds_ms": round(medians["check_with"] - medians["check_without"], 1),
                "check_adds_beside_beat_ms": round(medians["check_with"] - medians["check_with_beat_only"], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
