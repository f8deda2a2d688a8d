"""A SQLite file that can't grow: callers are told, and a worker keeps what it has until there is room."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from django_tasks import brokers, result_backends, shared_task, states
from django_tasks.canvas.links import followups
from django_tasks.exceptions import OperationalError
from django_tasks.executor import Executor
from django_tasks.models import Message, TaskResult
from django_tasks.registry import registry
from django_tasks.worker.admission import Admission
from django_tasks.worker.completer import Completer
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.revoked import RevokedTasks

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="tests.large")
def large(text=""):
    """Return more than a page holds."""
    return "x" * 1_000_000


@contextmanager
def full() -> Iterator[None]:
    """Let the file grow no more inside the block."""
    with connection.cursor() as cursor:
        # Without the pages that other tests' rows have left free.
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA page_count")
        (pages,) = cursor.fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        yield
        cursor.execute("PRAGMA max_page_count = 1073741823")


def test_publishing_into_a_full_file_is_told_and_sends_nothing() -> None:
    """The caller gets OperationalError with SQLite's own words, and no message lies there by half."""
    with full(), pytest.raises(OperationalError, match="full"):
        large.apply_async(("y" * 1_000_000,), retry=False)
    assert not Message.objects.exists()
    large.delay()
    assert Message.objects.count() == 1


def test_a_result_that_finds_no_room_is_kept_until_it_does() -> None:
    """The flush fails without losing the outcome or acknowledging the message; once there is room it succeeds."""
    sent = large.delay()
    broker = brokers.current()
    consumer = broker.consume(["default"], consumer_id="tests")
    completer = Completer(broker=broker, backend=result_backends.current(), hostname="tests", wake=lambda: None)
    admission = Admission(
        find=registry.find,
        accept=["json"],
        hostname="tests",
        pid=1,
        max_deliveries=3,
        unknown_grace=0.0,
        revoked=RevokedTasks(),
        rates=RateLimits([]),
    )
    try:
        (request,), _ = admission.admit(consumer.receive(1, 5))
        completer.add(Executor(follow=followups).execute(request))
        with full(), pytest.raises(OperationalError, match="full"):
            completer.flush(consumer)
        assert completer.pending() == 1
        assert Message.objects.get().claimed_by == "tests"
        assert len(completer.flush(consumer)) == 1
    finally:
        consumer.close()
    assert TaskResult.objects.get(task_id=sent.id).status == states.SUCCESS
    assert not Message.objects.exists()
