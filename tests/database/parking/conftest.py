"""A broker that is not the database, and a forwarder that nobody has started."""

from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks import brokers, deadletters, parking
from django_tasks.parking import forwarder as forwarding
from tests.database.parking.lot import RecordingBroker


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, settings: Any, alias: str) -> RecordingBroker:
    """The current broker, one that delays nothing; the parking lot is in ``alias``."""
    found = RecordingBroker()
    monkeypatch.setattr(brokers, "current", lambda: found)
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://", "TASK_OUTBOX_DATABASE": alias, "WORKER_LEASE": 1.0}
    return found


@pytest.fixture
def outbox(broker: RecordingBroker, settings: Any) -> RecordingBroker:
    """The same with TASK_PUBLISH_OUTBOX, and a broker that delays."""
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "TASK_PUBLISH_OUTBOX": True}
    broker.delays, broker.longest_delay = True, float("inf")
    return broker


@pytest.fixture
def forwarder(broker: RecordingBroker) -> Iterator[parking.Forwarder]:
    forwarder = parking.Forwarder(broker, consumer_id="tests", bury=deadletters.record)
    yield forwarder
    forwarder.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses."""
    monkeypatch.setattr(forwarding, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(forwarding, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(forwarding, "LONGEST_REFUSAL", 0.01)
    monkeypatch.setattr(forwarding, "RECOVER_EVERY", 0.1)
