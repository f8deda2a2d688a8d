"""kill -9 during a drain: random child processes of the worker, and now and then all of it.

Every task must leave its effect at least once; none may be lost, stuck or dead. Prints one JSON line; the exit
status is 0 only if that held. ``DATABASE`` chooses the database (a new SQLite file).
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
LEASE = 5


class Worker:
    """A worker process that is started again whenever it is gone."""

    def __init__(self, concurrency, log):
        self.concurrency = concurrency
        self.log = log
        self.process = None
        self.start()

    def start(self):
        """Start it in a process group of its own."""
        command = [sys.executable, "-m", "django", "runworker", "-c", str(self.concurrency), "-l", "WARNING"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)

    def kill_child(self):
        """Kill one of its processes, if it has any by now."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        if children:
            random.choice(children).kill()
        return bool(children)

    def kill_all(self):
        """Kill all of its processes at once, and start it again."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.start()

    def stop(self):
        """End it the friendly way."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def seen(path):
    """How often each number is in the file."""
    from bench_tasks import RECORD

    return Counter(number for (number,) in RECORD.iter_unpack(path.read_bytes())) if path.exists() else Counter()


def main():
    """Measure, print, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20_000, help="tasks (20000)")
    parser.add_argument("--kills", type=int, default=100, help="how many kills (100)")
    parser.add_argument("--whole", type=int, default=10, help="how many of them hit the whole worker (10)")
    parser.add_argument("--milliseconds", type=float, default=4, help="mean run time of a task (4)")
    parser.add_argument("-c", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deadline", type=float, default=600, help="seconds after which the rest counts as stuck (600)")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="django-tasks-bench-") as folder:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="bench_settings",
            EFFECTS=f"{folder}/effects",
            LEASE=str(LEASE),
            PYTHONPATH=os.pathsep.join((str(HERE), str(HERE.parent))),
        )
        sys.path[:0] = [str(HERE), str(HERE.parent)]
        os.environ.setdefault("DATABASE", f"sqlite:///{folder}/bench.sqlite3")
        with Path(os.environ.get("WORKER_LOG") or f"{folder}/worker.log").open("ab") as log:
            return drain(options, Path(folder), log)


def drain(options, folder, log):
    """Fill the queue, drain it under fire, count."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    from bench_tasks import effect
    from django.db import close_old_connections, connection

    from django_tasks import group
    from django_tasks.models import DeadLetter, Message, TaskResult

    for table in (Message, TaskResult, DeadLetter):
        table.objects.all().delete()
    group(effect.s(i, options.milliseconds) for i in range(options.n)).apply_async()
    whole = set(random.sample(range(options.kills), options.whole))
    pause = options.n * options.milliseconds / 1000 / options.c / (options.kills + 1)
    effects = folder / "effects"
    begin = time.monotonic()
    worker = Worker(options.c, log)
    kills = Counter()
    next_kill = begin + 2
    while Message.objects.exists() and time.monotonic() - begin < options.deadline:
        if worker.process.poll() is not None:
            kills["worker ended by itself"] += 1
            worker.start()
        if time.monotonic() >= next_kill and sum(kills.values()) < options.kills:
            if sum(kills.values()) in whole:
                worker.kill_all()
                kills["whole worker"] += 1
            elif worker.kill_child():
                kills["child"] += 1
            next_kill = time.monotonic() + random.uniform(0.5, 1.5) * pause
        time.sleep(0.02)
    seconds = time.monotonic() - begin
    worker.stop()
    close_old_connections()
    counts = seen(effects)
    found = {
        "lost": sum(1 for i in range(options.n) if i not in counts),
        "stuck": Message.objects.count(),
        "dead": DeadLetter.objects.count(),
        "results_missing": options.n - TaskResult.objects.filter(status="SUCCESS").count(),
    }
    print(
        json.dumps(
            {
                "benchmark": "kill",
                "database": connection.vendor,
                "n": options.n,
                "kills": dict(kills),
                **found,
                "ran_more_than_once": sum(1 for count in counts.values() if count > 1),
                "seconds": round(seconds, 1),
            }
        )
    )
    return 1 if any(found.values()) or kills["worker ended by itself"] else 0


if __name__ == "__main__":
    sys.exit(main())
