"""How fast tasks are sent: one by one, many in one transaction, many in one call, with and without a delay.

Prints one JSON line. ``DATABASE`` chooses the database (a new SQLite file).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def rate(n, call):
    """Calls a second."""
    begin = time.perf_counter()
    call()
    return round(n / (time.perf_counter() - begin))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="tasks in one call")
    n = parser.parse_args().n
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    os.environ["DJANGO_SETTINGS_MODULE"] = "bench_settings"
    with tempfile.TemporaryDirectory(prefix="django-tasks-bench-") as folder:
        os.environ.setdefault("DATABASE", f"sqlite:///{folder}/bench.sqlite3")
        measure(n)


def measure(n):
    """All variants, on an empty table each."""
    import django
    from django.core.management import call_command
    from django.db import connection, transaction

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)

    from bench_tasks import noop

    from django_tasks import group
    from django_tasks.models import Message

    few = n // 5

    def each(count):
        for i in range(count):
            noop.delay(i)

    def together():
        with transaction.atomic():
            each(few)

    rates = {}
    for name, count, call in (
        ("one_by_one", few, lambda: each(few)),
        ("one_transaction", few, together),
        ("bulk", n, lambda: group(noop.s(i) for i in range(n)).apply_async()),
        ("bulk_delayed", n, lambda: group(noop.s(i) for i in range(n)).apply_async(countdown=3600)),
    ):
        each(5)
        Message.objects.all().delete()
        rates[name] = rate(count, call)
        assert Message.objects.count() == count, (name, Message.objects.count(), count)
    Message.objects.all().delete()
    print(json.dumps({"benchmark": "publish", "database": connection.vendor, "n": n, "per_second": rates}))


if __name__ == "__main__":
    main()
