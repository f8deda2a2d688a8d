"""A broker on RabbitMQ."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_tasks.brokers import open_broker
from django_tasks.brokers.kombu import KombuBroker
from tests import rabbitmq


@pytest.fixture
def options() -> dict[str, Any]:
    return {}


@pytest.fixture
def broker(virtual_host: str, options: dict[str, Any]) -> Iterator[KombuBroker]:
    with override_settings(DJANGO_TASKS=options):
        broker = open_broker(virtual_host)
        assert isinstance(broker, KombuBroker)
        broker.quarantine = 0.05
        yield broker
        rabbitmq.delete_queues(virtual_host, {*broker._queues, "default"})
        broker.close()
