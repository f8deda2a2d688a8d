"""Consumers, kombu's channels and acknowledgements on the tests' Redis."""

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

from kombu import Connection

from django_tasks.brokers.broker import Broker
from django_tasks.brokers.redis.consumer import RedisConsumer
from django_tasks.messages import Disposition
from django_tasks.testing.broker_probes import settled
from tests.services import SERVICES

URL = SERVICES["redis"].url.rpartition("/")[0] + "/1"


@contextmanager
def consuming(broker: Broker, *queues: str, name: str = "") -> Iterator[RedisConsumer]:
    with closing(broker.consume(queues or ("default",), consumer_id=name or uuid.uuid4().hex)) as consumer:
        yield consumer


@contextmanager
def kombu_channel(prefix: str, **options: object) -> Iterator[Connection]:
    with Connection(URL, transport_options={"global_keyprefix": prefix, **options}) as connection:
        yield connection


def acknowledge(consumer: RedisConsumer, deliveries) -> None:
    consumer.settle(settled(deliveries, Disposition.ACK))
