"""kill -9 during a drain: random child processes of the worker, and now and then all of it.

Every task must leave its effect at least once; none may be lost, stuck or dead. Prints one JSON line; the exit
status is 0 only if that held. ``DATABASE`` chooses the database (a new SQLite file); ``BROKER`` and ``RESULTS`` are URLs of
others, as in ``BROKER=redis://127.0.0.1/7 RESULTS=redis://127.0.0.1/7`` or ``BROKER=amqp://``, where the queue is a new one.
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
RECORD_SIZE = 8


class Worker:
    """A worker process that is started again whenever it is gone."""

    COMMAND = (sys.executable, "-m", "django", "runworker", "-l", "WARNING")

    def __init__(self, concurrency, log):
        self.concurrency = concurrency
        self.log = log
        self.process = None
        self.start()

    def start(self):
        """Start it in a process group of its own."""
        command = [*self.COMMAND, "-c", str(self.concurrency)]
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
        os.environ["QUEUE"] = f"kill-{os.getpid()}"
        os.environ.setdefault("DATABASE", f"sqlite:///{folder}/bench.sqlite3")
        with Path(os.environ.get("WORKER_LOG") or f"{folder}/worker.log").open("ab") as log:
            return drain(options, Path(folder), log)


def shoot(worker, options, unfinished):
    """Kill processes of the worker until the work is done; return how many of which kind."""
    whole = set(random.sample(range(options.kills), options.whole))
    pause = options.n * options.milliseconds / 1000 / options.c / (options.kills + 1)
    kills = Counter()
    begin = time.monotonic()
    next_kill = begin + 2
    while unfinished() and time.monotonic() - begin < options.deadline:
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
    return kills


def drain(options, folder, log):
    """Fill the queue, drain it under fire, count."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    from bench_tasks import effect
    from django.db import close_old_connections, connection

    from django_tasks import brokers, group, result_backends
    from django_tasks.conf import settings
    from django_tasks.models import DeadLetter, Message, TaskResult

    for table in (Message, TaskResult, DeadLetter):
        table.objects.all().delete()
    broker, queue = brokers.current(), os.environ["QUEUE"]
    results = group(effect.s(i, options.milliseconds) for i in range(options.n)).apply_async()
    effects = folder / "effects"

    def unfinished():
        size = effects.stat().st_size if effects.exists() else 0
        return size < options.n * RECORD_SIZE or len(seen(effects)) < options.n or bool(broker.size(queue))

    begin = time.monotonic()
    worker = Worker(options.c, log)
    kills = shoot(worker, options, unfinished)
    seconds = time.monotonic() - begin
    worker.stop()
    # What was in the hands of the last one is back by now or when its lease has lapsed.
    time.sleep(LEASE)
    subprocess.run([*Worker.COMMAND, "-c", str(options.c), "--drain"], stdout=log, stderr=log, timeout=options.deadline)
    close_old_connections()
    counts = seen(effects)
    ids = [one.id for one in results.results]
    stored = [meta for at in range(0, len(ids), 500) for meta in result_backends.current().fetch(ids[at : at + 500]).values()]
    found = {
        "lost": sum(1 for i in range(options.n) if i not in counts),
        "stuck": broker.size(queue) + (0 if broker.joins_transaction else Message.objects.count()),
        "dead": DeadLetter.objects.count(),
        "results_missing": options.n - sum(meta.status == "SUCCESS" for meta in stored),
    }
    broker.purge(queue)
    url = settings.BROKER_URL
    print(
        json.dumps(
            {
                "benchmark": "kill",
                "broker": url.partition(":")[0] if not url.startswith("db:") else connection.vendor,
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
