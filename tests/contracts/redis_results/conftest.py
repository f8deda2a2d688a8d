"""Redis servers of the tests' own, with ours and Celery's results."""

from collections.abc import Iterator

import pytest
from celery import Celery

from django_tasks.result_backends.redis import RedisResultBackend
from tests.celeryclient import celery_client
from tests.contracts.redis_results.opening import opened
from tests.privateservers import PrivateRedis, private_redis


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[PrivateRedis]:
    """A server for the tests that do it no harm."""
    with private_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def victim(tmp_path) -> Iterator[PrivateRedis]:
    """A server for one test, which may harm it."""
    with private_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def client(shared) -> Iterator:
    client = shared.client()
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def backend(settings, shared, client) -> Iterator[RedisResultBackend]:
    with opened(settings, shared.url) as backend:
        yield backend


@pytest.fixture
def celery(shared) -> Iterator[Celery]:
    """A Celery app with its results in the same server."""
    with celery_client(shared.url) as app:
        app.conf.update(result_extended=True)
        yield app
