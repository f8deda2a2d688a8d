"""What the contract tests share."""

from collections.abc import Iterator

import pytest

from tests import rabbitmq


@pytest.fixture(scope="session")
def virtual_host() -> Iterator[str]:
    """The URL of a virtual host of RabbitMQ's that belongs to this run."""
    with rabbitmq.virtual_host() as url:
        yield url
