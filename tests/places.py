"""Where a test's messages wait and its results are kept: one of the databases, Redis or RabbitMQ."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
import redis

from tests.services import SERVICES

#: The database of the shared Redis that tests use; what they write there has a prefix of the test.
REDIS_DATABASE = 7

SQLITE = pytest.param("sqlite", id="sqlite")
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres, id="postgres")
REDIS = pytest.param("redis", marks=pytest.mark.redis, id="redis")
RABBITMQ = pytest.param("rabbitmq", marks=pytest.mark.rabbitmq, id="rabbitmq")
EVERYWHERE = [SQLITE, POSTGRES, REDIS, RABBITMQ]

#: For tests that look at rows of the database broker, or change them.
on_databases = pytest.mark.parametrize("place", [SQLITE, POSTGRES], indirect=True)
#: For tests of what needs a broker's own recovery, which RabbitMQ does by itself.
with_leases = pytest.mark.parametrize("place", [SQLITE, POSTGRES, REDIS], indirect=True)
#: For tests in which the broker hardly plays a part.
on_one_of_each = pytest.mark.parametrize("place", [SQLITE, REDIS], indirect=True)
#: For tests of brokers that are servers of their own.
on_servers = pytest.mark.parametrize("place", [REDIS, RABBITMQ], indirect=True)
on_redis = pytest.mark.parametrize("place", [REDIS], indirect=True)
on_rabbitmq = pytest.mark.parametrize("place", [RABBITMQ], indirect=True)


@dataclass
class Place:
    """A broker, a result backend, and the settings with which a test and its worker processes reach them."""

    name: str
    broker_url: str
    result_backend: str
    #: Further keys of DJANGO_TASKS.
    options: dict[str, Any] = field(default_factory=dict)
    #: Names of queues beside the default one.
    further: list[str] = field(default_factory=list)

    @property
    def alias(self) -> str | None:
        """The database whose rows the messages are; None for servers of messages."""
        return self.broker_url.removeprefix("db://") if self.broker_url.startswith("db://") else None

    @property
    def queue(self) -> str:
        """Name of the default queue."""
        return str(self.options.get("TASK_DEFAULT_QUEUE", "default"))

    def named(self, queue: str) -> str:
        """Name a further queue: of this test alone where others use the same server, and deleted after it."""
        name = f"{queue}-{self.queue}" if self.name == "rabbitmq" else queue
        self.further.append(name)
        return name

    def use(self, settings: Any, child_environment: dict[str, str]) -> None:
        """Let the test and the processes that it starts work here."""
        everything = {"BROKER_URL": self.broker_url, "RESULT_BACKEND": self.result_backend, **self.options}
        settings.DJANGO_TASKS = everything
        child_environment.update(
            (f"TEST_{name}", value if isinstance(value, str) else json.dumps(value)) for name, value in everything.items()
        )

    def left(self) -> int:
        """How many messages there are, claimed ones included where the broker can say; of all queues that it can list."""
        from django_tasks import brokers
        from django_tasks.models import Message

        parked = Message.objects.using(self.alias or "default").count()
        if self.alias:
            return parked
        broker = brokers.current()
        names = {self.queue, *self.further, *broker.queues()}
        return parked + sum(broker.size(name) or 0 for name in names) + self.claimed()

    def claimed(self) -> int:
        """How many messages workers hold, where the broker can say."""
        if not self.broker_url.startswith("redis"):
            return 0
        prefix = self.options.get("BROKER_TRANSPORT_OPTIONS", {}).get("global_keyprefix", "")
        with closing(redis.Redis.from_url(self.broker_url)) as client:
            return int(client.hlen(f"{prefix}unacked"))


@contextmanager
def open_place(name: str) -> Iterator[Place]:
    """Give a place of this name, with nothing in it; take away afterwards what the test left there."""
    if name in {"sqlite", "postgres"}:
        url = f"db://{'default' if name == 'sqlite' else name}"
        yield Place(name, url, url)
    elif name == "redis":
        yield from _redis()
    else:
        yield from _rabbitmq()


def redis_url(database: int = REDIS_DATABASE) -> str:
    """The shared Redis server, at this database."""
    return urlunsplit(urlsplit(SERVICES["redis"].url)._replace(path=f"/{database}"))


def _redis() -> Iterator[Place]:
    prefix = f"test-{uuid4().hex[:12]}-"
    url, prefixed = redis_url(), {"global_keyprefix": prefix}
    yield Place("redis", url, url, {"BROKER_TRANSPORT_OPTIONS": prefixed, "RESULT_BACKEND_TRANSPORT_OPTIONS": prefixed})
    with closing(redis.Redis.from_url(url)) as client:
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            client.delete(key)


def _rabbitmq() -> Iterator[Place]:
    queue = f"test-{uuid4().hex[:12]}"
    url = SERVICES["rabbitmq"].url
    place = Place("rabbitmq", url, "db://default", {"TASK_DEFAULT_QUEUE": queue})
    yield place
    delete_queues(url, queue, *place.further)


def delete_queues(url: str, *queues: str) -> None:
    """Delete queues of a RabbitMQ server, whatever is in them."""
    from kombu import Connection

    with Connection(url) as connection:
        for queue in queues:
            connection.default_channel.queue_delete(queue)
