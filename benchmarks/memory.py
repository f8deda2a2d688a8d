"""What a worker weighs: the memory of its processes when it is idle, and after a drain of no-ops.

Prints one JSON line: proportional set size (a page that N processes share counts 1/N for each) and private dirty memory, in MB,
for the supervisor, the node and the children, and the sum. ``DATABASE`` chooses the database (a new SQLite file); ``BROKER`` and
``RESULTS`` are URLs of others, as in ``BROKER=redis://127.0.0.1/7 RESULTS=redis://127.0.0.1/7``. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
#: Fields of smaps_rollup, and what they are called here.
FIELDS = {"Pss": "pss", "Private_Dirty": "private_dirty"}


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="tasks (10000)")
    parser.add_argument("-c", type=int, default=2, help="children (2)")
    parser.add_argument("--drains", type=int, default=1, help="how often as many are run (1)")
    options = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    os.environ["DJANGO_SETTINGS_MODULE"] = "bench_settings"
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["QUEUE"] = f"memory-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="django-tasks-bench-") as folder:
        os.environ.setdefault("DATABASE", f"sqlite:///{folder}/bench.sqlite3")
        measure(options)


def measure(options):
    """Start a worker, weigh it, let it work, weigh it again."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    from bench_tasks import noop

    from django_tasks import group

    command = [sys.executable, "-m", "django", "runworker", "-l", "WARNING", "-c", str(options.c)]
    worker = subprocess.Popen(command, start_new_session=True)
    try:
        await_processes(worker, options.c + 1)
        # Its first heartbeat, and its first look at what there is to maintain.
        time.sleep(4)
        found = {"benchmark": "memory", "broker": os.environ.get("BROKER", os.environ["DATABASE"]), "n": options.n, "idle": weigh(worker)}
        cpu = seconds_of_cpu(worker)
        for _ in range(options.drains):
            group(noop.s(i) for i in range(options.n)).apply_async().get(timeout=600)
        time.sleep(1)
        found |= {"drained": weigh(worker), "cpu_s": round(seconds_of_cpu(worker) - cpu, 2)}
        print(json.dumps(found))
    finally:
        worker.terminate()
        worker.wait(30)


def await_processes(worker, count):
    """Wait until the worker has forked all of its processes."""
    deadline = time.monotonic() + 60
    while len(psutil.Process(worker.pid).children()) < count:
        if worker.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("The worker did not start")
        time.sleep(0.05)


def weigh(worker):
    """Give the megabytes of each process (the node is the first to be forked), and the sum of all."""
    pids = [worker.pid, *sorted(child.pid for child in psutil.Process(worker.pid).children())]
    names = ["supervisor", "node", *(f"child{number}" for number in range(1, len(pids) - 1))]
    weights = {name: weight(pid) for name, pid in zip(names, pids, strict=True)}
    return {**weights, "sum": {field: round(sum(one[field] for one in weights.values()), 1) for field in FIELDS.values()}}


def weight(pid):
    """Give the megabytes of a process."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    kib = {name.rstrip(":"): int(amount) for name, amount, *_ in lines}
    return {name: round(kib[field] / 1024, 1) for field, name in FIELDS.items()}


def seconds_of_cpu(worker):
    """Give the processor time of all of its processes."""
    processes = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
