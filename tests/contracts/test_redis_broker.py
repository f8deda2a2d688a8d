"""The broker contract on Redis, with both orders of priorities."""

import uuid
from collections.abc import Iterator

import pytest
import redis

from django_tasks.brokers import open_broker
from django_tasks.brokers.broker import Broker
from tests.contracts.redis_broker.conversing import URL

# Before it is imported, so that its assertions say what they saw.
pytest.register_assert_rewrite("django_tasks.testing.broker_contract", "django_tasks.testing.lease_contract")

from django_tasks.testing.broker_contract import BrokerContract  # noqa: E402


@pytest.mark.redis
class TestRedis(BrokerContract):
    @pytest.fixture(params=["larger", "celery"])
    def broker(self, request: pytest.FixtureRequest, settings) -> Iterator[Broker]:
        prefix = f"contract-{uuid.uuid4().hex}:"
        options = {"global_keyprefix": prefix, "priority_order": request.param}
        settings.DJANGO_TASKS = {"BROKER_TRANSPORT_OPTIONS": options}
        broker = open_broker(URL)
        if request.param == "celery":
            # Celery's four steps, the other way round: what is told apart is tested elsewhere.
            broker.priorities = 4  # type: ignore[misc]
        yield broker
        with redis.Redis.from_url(URL) as client:
            for key in client.scan_iter(match=prefix + "*", count=1000):
                client.delete(key)
        broker.close()
