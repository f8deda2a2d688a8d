"""What workflows cost: a chord of no-ops beside a plain drain of as many, and a step of a chain beside a single task on an idle worker.

Prints one JSON line. ``DATABASE`` chooses the database (a new SQLite file); ``BROKER`` and ``RESULTS`` are URLs of others,
as in ``BROKER=redis://127.0.0.1/7 RESULTS=redis://127.0.0.1/7``. Rates are medians of ``--rounds``, chords and groups by turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

#: Tasks in a chain of ``nest``.
NEST = 8
HERE = Path(__file__).resolve().parent


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1_000, help="parts of the chord (1000)")
    parser.add_argument("--nested", type=int, default=200, help="chains with a chord of five in them (200)")
    parser.add_argument("--steps", type=int, default=20, help="steps of the chain (20)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured (7)")
    options = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    os.environ["DJANGO_SETTINGS_MODULE"] = "bench_settings"
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    with tempfile.TemporaryDirectory(prefix="django-tasks-bench-") as folder:
        os.environ.setdefault("DATABASE", f"sqlite:///{folder}/bench.sqlite3")
        os.environ["EFFECTS"] = f"{folder}/effects"
        measure(options)


def measure(options):
    """Start a worker, warm it up, measure."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    from bench_tasks import noop

    worker = subprocess.Popen([sys.executable, "-m", "django", "runworker", "-l", "WARNING", "-c", "2"], start_new_session=True)
    try:
        noop.delay(0).get(timeout=60)
        found = {"benchmark": "workflows", "broker": os.environ.get("BROKER", os.environ["DATABASE"]), "n": options.n}
        found["worker_mb"] = [megabytes(worker)]
        found |= figures(options)
        found["worker_mb"].append(megabytes(worker))
        print(json.dumps(found))
    finally:
        worker.terminate()
        worker.wait(30)


def figures(options):
    """All figures; rates are parts a second, times milliseconds."""
    from bench_tasks import noop

    from django_tasks import chain, chord, group

    n, steps = options.n, options.steps
    groups, chords, ends, singles, chains, nests, flats = [], [], [], [], [], [], []
    for _ in range(options.rounds):
        groups.append(seconds(lambda: group(noop.s(i) for i in range(n)).apply_async()))
        chords.append(seconds(lambda: chord([noop.s(i) for i in range(n)], noop.s()).apply_async()))
        nests.append(seconds(lambda: group(nest() for _ in range(options.nested)).apply_async()))
        flats.append(seconds(lambda: group(noop.s(i) for i in range(options.nested * NEST)).apply_async()))
        ends.append(seconds(lambda: group(noop.s(i) for i in range(n)).apply_async()))
        singles += [seconds(lambda: noop.delay(1)) for _ in range(steps)]
        chains.append(seconds(lambda: chain(noop.s(1), *(noop.s() for _ in range(steps - 1))).apply_async()) / steps)
    plain, bound = statistics.median(groups + ends), statistics.median(chords)
    return {
        "group_per_second": round(n / plain),
        "chord_per_second": round(n / bound),
        "chord_of_drain": round(plain / bound, 2),
        "nested_per_second": round(options.nested * NEST / statistics.median(nests)) if options.nested else None,
        "nested_of_drain": round(statistics.median(flats) / statistics.median(nests), 2) if options.nested else None,
        "single_ms": round(1000 * statistics.median(singles), 2),
        "chain_step_ms": round(1000 * statistics.median(chains), 2),
    }


def nest():
    """Make a chain with a chord of five in it: eight tasks."""
    from bench_tasks import noop

    from django_tasks import chain, group

    return chain(noop.s(1), group(noop.s() for _ in range(5)), noop.s(), noop.s())


def megabytes(worker):
    """Memory of the largest process of the worker."""
    process = psutil.Process(worker.pid)
    return round(max(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 2**20)


def seconds(send):
    """Seconds from the call until the result is there, on a worker that has been idle for a moment."""
    time.sleep(0.05)
    begin = time.perf_counter()
    send().get(timeout=600)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
