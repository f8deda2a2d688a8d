"""The broker contract, kept by every broker of this package."""

import sqlite3
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings

from django_tasks import clock
from django_tasks.brokers import open_broker
from django_tasks.brokers.broker import Broker
from django_tasks.brokers.database import DatabaseBroker
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.messages import Disposition

# Before it is imported, so that its assertions say what they saw.
pytest.register_assert_rewrite("django_tasks.testing.broker_contract", "django_tasks.testing.lease_contract")

from django_tasks.testing.broker_contract import BrokerContract  # noqa: E402
from django_tasks.testing.broker_probes import envelope, settled  # noqa: E402
from tests import rabbitmq  # noqa: E402


class TestMemoryBroker(BrokerContract):
    @pytest.fixture
    def broker(self) -> Iterator[Broker]:
        broker = MemoryBroker("contract")
        broker.clear()
        yield broker
        broker.clear()


@pytest.mark.django_db(transaction=True)
class TestSQLite(BrokerContract):
    @pytest.fixture
    def broker(self) -> Broker:
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
        assert sqlite3.sqlite_version_info >= (3, 35)
        return DatabaseBroker("default")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
class TestPostgreSQL(BrokerContract):
    @pytest.fixture
    def broker(self) -> Broker:
        return DatabaseBroker("postgres")


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True, databases=["default", "mysql"])
class TestMySQL(BrokerContract):
    @pytest.fixture
    def broker(self) -> Broker:
        return DatabaseBroker("mysql")


class RabbitMQContract(BrokerContract):
    """In a virtual host of its own: queues named ``default`` and ``a`` would meet those of a parallel run."""

    @pytest.fixture
    def options(self) -> dict[str, object]:
        return {}

    @pytest.fixture
    def broker(self, virtual_host: str, options: dict[str, object]) -> Iterator[Broker]:
        with override_settings(DJANGO_TASKS={**settings.DJANGO_TASKS, **options}):
            broker = open_broker(virtual_host)
            broker.quarantine = 0.05  # type: ignore[attr-defined]
            # Those of quorum queues are whole seconds, which the contract's are not.
            broker.delays = False
            yield broker
            rabbitmq.delete_queues(virtual_host, broker._queues)  # type: ignore[attr-defined]
            broker.close()


@pytest.mark.rabbitmq
@pytest.mark.django_db(transaction=True)
class TestRabbitMQClassic(RabbitMQContract):
    pass


@pytest.mark.rabbitmq
@pytest.mark.django_db(transaction=True)
class TestRabbitMQQuorum(RabbitMQContract):
    MANY = 2_000

    def test_size_purge_and_queues(self, broker: Broker) -> None:
        """A quorum queue's size follows what happened after a moment."""
        broker.publish([envelope(str(number), queue="a") for number in range(4)])
        with self.consuming(broker, "a") as consumer:
            held = consumer.receive(1, 5)
            self._becomes(broker, 3)
            assert (broker.queues(), broker.purge("a")) == (["a"], 3)
            self._becomes(broker, 0)
            consumer.settle(settled(held, Disposition.REQUEUE))
            self._becomes(broker, 1)

    @staticmethod
    def _becomes(broker: Broker, size: int) -> None:
        deadline = clock.monotonic() + 20
        while broker.size("a") != size and clock.monotonic() < deadline:
            pass
        assert broker.size("a") == size

    @pytest.fixture
    def options(self) -> dict[str, object]:
        return {"TASK_DEFAULT_QUEUE_TYPE": "quorum", "TASK_CREATE_MISSING_QUEUE_TYPE": "quorum"}
