"""The outbox in front of real brokers: from a transaction's row to a message that a worker would get."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from django_tasks import brokers, clock, deadletters, parking, shared_task
from django_tasks.messages import Disposition, Settlement
from django_tasks.models import Message
from tests.services import SERVICES

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


@shared_task(name="tests.outboxed")
def outboxed(number=0):
    """Return the number."""
    return number


@pytest.fixture
def queue() -> str:
    return f"outbox-{uuid.uuid4()}"


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis)])
def broker(request: pytest.FixtureRequest, settings: Any, alias: str, queue: str) -> Iterator[Any]:
    """The current broker, with an outbox in ``alias``."""
    url = SERVICES[request.param].url
    # A database of its own: others' tests run beside these.
    url = url.rpartition("/")[0] + "/4"
    settings.DJANGO_TASKS = {"BROKER_URL": url, "TASK_PUBLISH_OUTBOX": True, "TASK_OUTBOX_DATABASE": alias}
    broker = brokers.current()
    yield broker
    broker.purge(queue)


def test_from_a_transaction_to_a_worker(broker, alias, queue):
    """Nothing before the commit, nothing of what is rolled back; then each call once, with its priority, args and id."""
    forwarder = parking.Forwarder(broker, consumer_id=f"tests-{queue}", bury=deadletters.record)
    consumer = broker.consume([queue], consumer_id=f"consumer-{queue}")
    try:
        with transaction.atomic(using=alias):
            outboxed.apply_async((1,), queue=queue)
            transaction.set_rollback(True, using=alias)
        with transaction.atomic(using=alias):
            calm = outboxed.apply_async((2,), queue=queue)
            urgent = outboxed.apply_async((3,), queue=queue, priority=9)
            later = outboxed.apply_async((4,), queue=queue, countdown=1)
            assert not consumer.receive(5, 0)
        assert forwarder.turn(5) == 3
        assert parking.waiting() == 0
        seen = []
        deadline = clock.monotonic() + 15
        while len(seen) < 3 and clock.monotonic() < deadline:
            got = consumer.receive(5, 1)
            consumer.settle([Settlement(one, Disposition.ACK) for one in got])
            seen += [one.envelope.headers["id"] for one in got]
            broker.promote(clock.now(), limit=10)
        assert seen == [urgent.id, calm.id, later.id]
        assert not Message.objects.using(alias).exists()
    finally:
        consumer.close()
        forwarder.close()
