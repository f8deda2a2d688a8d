"""A prefix, a client and brokers on the shared Redis, all of one test."""

import uuid
from collections.abc import Callable, Iterator

import pytest
import redis

from django_tasks.brokers import open_broker
from django_tasks.brokers.redis import RedisBroker
from tests.contracts.redis_broker.conversing import URL


@pytest.fixture
def prefix() -> Iterator[str]:
    """What the keys of one test begin with."""
    prefix = f"test-{uuid.uuid4().hex}:"
    yield prefix
    with redis.Redis.from_url(URL) as client:
        for key in client.scan_iter(match=prefix + "*", count=1000):
            client.delete(key)


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(URL, decode_responses=True) as client:
        yield client


@pytest.fixture
def opened(settings, prefix) -> Iterator[Callable[..., RedisBroker]]:
    """Open brokers with the test's prefix."""
    brokers = []

    def opened(**options: object) -> RedisBroker:
        settings.DJANGO_TASKS = {"BROKER_TRANSPORT_OPTIONS": {"global_keyprefix": prefix, **options}}
        brokers.append(open_broker(URL))
        return brokers[-1]

    yield opened
    for broker in brokers:
        broker.close()
