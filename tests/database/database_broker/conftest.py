"""The broker on the test's database, and a consumer."""

from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks.brokers.database import DatabaseBroker, wakeup


@pytest.fixture
def broker(alias: str) -> DatabaseBroker:
    return DatabaseBroker(alias)


@pytest.fixture
def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the table once a second in any case: what ends a wait in time is a wake-up, or a time that is known."""
    monkeypatch.setattr(wakeup, "LOOK", 60.0)


@pytest.fixture
def consumer(broker: DatabaseBroker) -> Iterator[Any]:
    consumer = broker.consume(["default"], consumer_id="one")
    yield consumer
    consumer.close()
