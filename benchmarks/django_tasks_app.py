"""django_tasks for the harness: broker and results in the database, or in what BENCH_BROKER names."""

import os

from apps import django_common

import config

django_common.setup()

from django_tasks_bench_tasks import noop  # noqa: E402

from django_tasks import brokers, group  # noqa: E402

BATCH = 10_000


def enqueue_one(i):
    """Send one task."""
    return noop.delay(i)


def wait(result):
    """Block until the result is there."""
    return result.get(timeout=60)


def _groups(n):
    for begin in range(0, n, BATCH):
        yield group(noop.s(i) for i in range(begin, min(n, begin + BATCH)))


def enqueue_bulk(n):
    """Send many at once, by the call that a user would make."""
    for batch in _groups(n):
        batch.apply_async()


def enqueue_delayed(n, seconds):
    """Send tasks that are due later."""
    for batch in _groups(n):
        batch.apply_async(countdown=seconds)


def reset():
    """Empty queue and results."""
    # Rows of heartbeats, of parked messages and of results in the database.
    django_common.reset(["django_tasks_message", "django_tasks_taskresult"])
    if broker := os.environ.get("BENCH_BROKER"):
        config.flush_redis()
        if broker == "rabbitmq":
            brokers.current().purge("default")
