"""kill -9 while many nested workflows run: random child processes of the worker every 0.3 seconds, and now and then all of it.

Each workflow must end with its value, or fail with the error of one of its failing tasks; each task must run that has to, and
none may that comes after a failure; the bodies of chords run once (and again only as a redelivery allows); nothing is left.
Prints one JSON line; the exit status is 0 only if that held. ``DATABASE`` chooses the database (a new SQLite file);
``BROKER`` and ``RESULTS`` are URLs of others, as in ``BROKER=amqp:// RESULTS=redis://127.0.0.1/7``. In either, ``redis://private``
is a server of this script's own, which is killed and started again in the middle (it keeps every write).
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from kill import HERE, LEASE, Worker

PRIVATE = "redis://private"
#: Seconds after which a claim of a dead process has lapsed and its chord is sent by another, with some to spare.
CLAIM = 60


def main():
    """Measure, print, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=300, help="workflows (300)")
    parser.add_argument("--every", type=float, default=0.3, help="mean seconds between two kills (0.3)")
    parser.add_argument("--kills", type=int, default=150, help="most kills (150)")
    parser.add_argument("--whole", type=float, default=0.05, help="how many of the kills hit the whole worker (0.05)")
    parser.add_argument("--failures", type=float, default=0.005, help="how many of the tasks fail (0.005)")
    parser.add_argument("-c", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deadline", type=float, default=600, help="seconds after which the rest counts as stuck (600)")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="django-tasks-bench-") as name:
        folder = Path(name)
        os.environ.update(
            DJANGO_SETTINGS_MODULE="bench_settings",
            EFFECTS=f"{folder}/effects",
            LEASE=str(LEASE),
            TASKS="workflow_trees",
            # So many kills hit the same task now and then, and that would be a dead letter by right.
            MAX_DELIVERIES="20",
            QUEUE=f"kill-{os.getpid()}",
            PYTHONPATH=os.pathsep.join((str(HERE), str(HERE.parent))),
        )
        sys.path[:0] = [str(HERE), str(HERE.parent)]
        os.environ.setdefault("DATABASE", f"sqlite:///{folder}/bench.sqlite3")
        server = private_redis(folder)
        try:
            with Path(os.environ.get("WORKER_LOG") or f"{folder}/worker.log").open("ab") as log:
                return measure(options, folder, log, server)
        finally:
            if server is not None:
                server.stop()


def private_redis(folder):
    """Start a Redis of our own where one is asked for."""
    wanted = [name for name in ("BROKER", "RESULTS") if os.environ.get(name) == PRIVATE]
    if not wanted:
        return None
    from tests.privateservers import PrivateRedis

    server = PrivateRedis(folder / "redis", durable=True)
    server.start()
    os.environ.update(dict.fromkeys(wanted, server.url))
    return server


def measure(options, folder, log, server):
    """Send, run under fire, check."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    from django.db import close_old_connections, connection
    from workflow_trees import Grower

    from django_tasks import brokers
    from django_tasks.conf import settings

    for row in rows():
        row.objects.all().delete()
    grower = Grower(options.seed, failures=options.failures)
    trees = [grower.tree(number) for number in range(options.n)]
    begin = time.monotonic()
    results = [tree.canvas.apply_async() for tree in trees]
    worker = Worker(options.c, log)
    kills = shoot(worker, options, results, server)
    seconds = time.monotonic() - begin
    # Who claimed a chord and died is waited for: until its claim has lapsed, and another has taken it over.
    while any(leftovers().values()) and time.monotonic() - begin < seconds + CLAIM:
        time.sleep(0.5)
    worker.stop()
    # What was in the hands of the last one is back by now or when its lease has lapsed.
    time.sleep(LEASE)
    subprocess.run([*Worker.COMMAND, "-c", str(options.c), "--drain"], stdout=log, stderr=log, timeout=options.deadline)
    close_old_connections()
    wrong = [text for tree, result in zip(trees, results, strict=True) for text in verdict(tree, result)]
    effects, twice = ran(folder / "effects", trees)
    found = {**effects, "wrong": len(wrong), **leftovers()}
    brokers.current().purge(os.environ["QUEUE"])
    for text in wrong[:20]:
        print(text, file=sys.stderr)
    url = settings.BROKER_URL
    figures = {
        "benchmark": "kill_workflows",
        "broker": url.partition(":")[0] if not url.startswith("db:") else connection.vendor,
        "results": str(settings.RESULT_BACKEND).partition(":")[0],
        "n": options.n,
        "tasks": sum(len(tree.must) for tree in trees),
        "failing": sum(bool(tree.failures) for tree in trees),
        "kills": dict(kills),
        **found,
        **twice,
        "seconds": round(seconds, 1),
    }
    print(json.dumps(figures))
    return 1 if any(found.values()) or kills["worker ended by itself"] else 0


def rows():
    """The tables in which something may be left."""
    from django_tasks.models import ChordCounter, ChordPart, DeadLetter, Message, TaskResult

    return Message, TaskResult, DeadLetter, ChordCounter, ChordPart


def shoot(worker, options, results, server):
    """Kill processes until all workflows have ended; return how many of which kind."""
    kills, begin = Counter(), time.monotonic()
    next_kill = begin + 2
    left, outage_at = list(results), len(results) // 2
    while left and time.monotonic() - begin < options.deadline:
        if worker.process.poll() is not None:
            kills["worker ended by itself"] += 1
            worker.start()
        if time.monotonic() >= next_kill and kills["child"] + kills["whole worker"] < options.kills:
            if random.random() < options.whole:
                worker.kill_all()
                kills["whole worker"] += 1
            elif worker.kill_child():
                kills["child"] += 1
            next_kill = time.monotonic() + random.uniform(0.5, 1.5) * options.every
        if server is not None and len(left) <= outage_at and not kills["server"]:
            kills["server"] += 1
            server.kill()
            time.sleep(2)
            server.start()
        left = unfinished(left)
        time.sleep(0.05)
    return kills


def unfinished(results):
    """The workflows of the first hundred that have not ended, and all others."""
    from django_tasks.exceptions import OperationalError

    try:
        return [result for result in results[:100] if not ended(result)] + results[100:]
    except OperationalError:
        return results


def ended(result):
    """Whether nothing of it is to come."""
    return all(ended(one) for one in result.results) if hasattr(result, "results") else result.ready()


def verdict(tree, result):
    """Say what is wrong with the outcome of a workflow."""
    from workflow_trees import leaves

    if not ended(result):
        yield f"{tree.key} has not ended: {tree.canvas!r}"
        return
    try:
        value = result.get(timeout=5)
    except Exception as error:  # noqa: BLE001  whatever a task raised
        # Errors of nested chords quote one another.
        if not any(re.search(rf"\b{re.escape(key)}\b", repr(error)) for key in tree.failures):
            yield f"{tree.key} failed with {error!r}, expected {tree.failures or tree.value}"
        return
    if tree.failures:
        yield f"{tree.key} gave {value!r}, expected the failure of one of {tree.failures}"
    elif leaves(value) != leaves(tree.value):
        yield f"{tree.key} gave {value!r}, expected {tree.value!r}"


def ran(path, trees):
    """Compare what ran with what had to: losses, and how often something ran again and why."""
    runs = defaultdict(list)
    for line in path.read_text().splitlines():
        key, _, tag = line.split()
        runs[key].append(tag)
    bodies = set().union(*(tree.bodies for tree in trees))
    again = {key for key, found in runs.items() if len(found) > 1}
    # Only the database keeps a message's tag when it is handed out again; of others nobody can say.
    sent_twice = set() if "BROKER" in os.environ else {key for key in again if len(set(runs[key])) > 1}
    wrong = {
        "lost": sum(key not in runs for tree in trees for key in tree.must),
        "after_a_failure": sum(key in runs for tree in trees for key in tree.mustnt),
    }
    return wrong, {
        "ran_again": len(again),
        "bodies": len(bodies & set(runs)),
        "bodies_again": len(bodies & again),
        "sent_twice": len(sent_twice),
        "bodies_sent_twice": len(bodies & sent_twice),
    }


def leftovers():
    """Count what must not be there at the end."""
    from django_tasks import brokers
    from django_tasks.conf import settings
    from django_tasks.models import ChordCounter, ChordPart, DeadLetter, Message

    broker, queue = brokers.current(), os.environ["QUEUE"]
    found = {
        "stuck": broker.size(queue) + (0 if broker.joins_transaction else Message.objects.count()),
        "dead": DeadLetter.objects.count(),
        "chords_open": ChordCounter.objects.filter(date_done=None).count(),
        "chord_parts": ChordPart.objects.count(),
    }
    urls = {url for url in (settings.BROKER_URL, settings.RESULT_BACKEND) if str(url).startswith("redis")}
    for url in urls:
        for name, number in of_redis(url).items():
            found[name] = found.get(name, 0) + number
    return found


def of_redis(url):
    """Count chords and claims that are left in a Redis database."""
    import redis

    with redis.Redis.from_url(url) as client:
        names = [key.decode() for key in client.scan_iter(count=1000)]
        chords = [name for name in names if name.startswith("celery-taskset-meta-") and name[-2:] in {".s", ".t", ".j", ".d"}]
        return {
            "redis_chords": len({name[:-2] for name in chords}),
            "redis_claims": client.zcard("django-tasks-chord-claims") + client.hlen("django-tasks-chord-bodies"),
            "redis_unacked": client.hlen("unacked"),
        }


if __name__ == "__main__":
    sys.exit(main())
