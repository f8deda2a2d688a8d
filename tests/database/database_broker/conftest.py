"""The broker on the test's database, and a consumer."""

from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks.brokers.database import DatabaseBroker


@pytest.fixture
def broker(alias: str) -> DatabaseBroker:
    return DatabaseBroker(alias)


@pytest.fixture
def consumer(broker: DatabaseBroker) -> Iterator[Any]:
    consumer = broker.consume(["default"], consumer_id="one")
    yield consumer
    consumer.close()
