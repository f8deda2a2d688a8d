"""Priorities, topics, broadcasts, dead-letter exchanges and delays on the server."""

from contextlib import closing

import pytest
from kombu import Exchange, Queue
from kombu.common import Broadcast

from django_tasks import clock
from django_tasks.brokers.kombu import KombuBroker
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Disposition, Settlement
from django_tasks.testing.broker_probes import envelope, names
from tests import rabbitmq
from tests.contracts.kombu_broker.receiving import consuming

pytestmark = [pytest.mark.rabbitmq, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("options", [{"TASK_QUEUE_MAX_PRIORITY": 5}])
def test_priorities(broker: KombuBroker) -> None:
    """A queue with priorities hands out the larger ones first, and cuts what is beyond its scale."""
    given = [0, 5, 3, 9, 1, -4]
    broker.publish([envelope(str(number), priority=priority) for number, priority in enumerate(given)])
    with consuming(broker) as consumer:
        received = [name for _ in given for name in names(consumer.receive(1, 5))]
    assert received == ["1", "3", "2", "4", "0", "5"]


@pytest.mark.parametrize(
    "options",
    [
        {
            "TASK_QUEUES": [
                Queue("images", Exchange("media", type="topic"), routing_key="image.#"),
                Queue("sounds", Exchange("media", type="topic"), routing_key="sound.*"),
            ]
        }
    ],
)
def test_topics(broker: KombuBroker, virtual_host: str) -> None:
    """A topic exchange of TASK_QUEUES leads by routing keys."""
    with consuming(broker, "images", "sounds") as consumer:
        assert consumer.receive(1, 0) == []
        broker.publish([envelope("1", queue="images", exchange="media", routing_key="image.png.small")])
        broker.publish([envelope("2", queue="sounds", exchange="media", routing_key="sound.ogg")])
        assert sorted((one.queue, one.envelope.body) for _ in range(2) for one in consumer.receive(1, 5)) == [
            ("images", b"1"),
            ("sounds", b"2"),
        ]
    rabbitmq.delete_queues(virtual_host, ["images", "sounds", "media"])


@pytest.mark.parametrize("options", [{"TASK_QUEUES": [Broadcast("everyone", queue="everyone-queue")]}])
def test_a_broadcast_reaches_every_consumer(broker: KombuBroker, virtual_host: str) -> None:
    """Each consumer has a queue of its own; with none, a message goes nowhere, and that is no error."""
    with consuming(broker, "everyone-queue") as one, consuming(broker, "everyone-queue", name="two") as two:
        assert one.receive(1, 0) == two.receive(1, 0) == []
        broker.publish([envelope("1", queue="everyone-queue")])
        assert names(one.receive(5, 5)) == names(two.receive(5, 5)) == ["1"]
    broker.publish([envelope("2", queue="everyone-queue")])
    rabbitmq.delete_queues(virtual_host, ["everyone"])


@pytest.mark.parametrize(
    "options",
    [
        {
            "TASK_QUEUES": {
                "work": {"queue_arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "morgue"}},
                "morgue": {},
            }
        }
    ],
)
def test_a_dead_letter_exchange_gets_its_copy(broker: KombuBroker) -> None:
    """What is buried here is rejected there, so that the server passes it on."""
    with consuming(broker, "morgue") as morgue, consuming(broker, "work") as work:
        assert morgue.receive(1, 0) == []
        broker.publish([envelope("1", queue="work"), envelope("2", queue="work")])
        first, second = work.receive(2, 5)
        work.settle([Settlement(first, Disposition.DEAD), Settlement(second, Disposition.ACK)])
        assert names(morgue.receive(5, 5)) == ["1"]


@pytest.mark.parametrize("options", [{"TASK_DEFAULT_QUEUE_TYPE": "quorum"}])
def test_delays_on_the_server(broker: KombuBroker) -> None:
    """With quorum queues RabbitMQ keeps delayed messages itself, in whole seconds and never less."""
    assert broker.longest_delay == 2**28 - 1
    due = clock.after(1.2)
    broker.publish([envelope("later", not_before=due), envelope("now"), envelope("past", not_before=clock.after(-5))])
    with consuming(broker) as consumer:
        assert sorted(names(consumer.receive(10, 5))) == ["now", "past"]
        (late,) = consumer.receive(10, 10)
        assert clock.now() >= due
        assert (names([late]), late.envelope.exchange, late.envelope.routing_key, late.deliveries) == (["later"], "", "default", 1)


def test_no_delays_without_quorum_queues(broker: KombuBroker) -> None:
    """Classic queues keep nothing aside: a delayed message is refused with words."""
    assert broker.longest_delay == 0
    with pytest.raises(OperationalError, match="0 s at most"):
        broker.publish([envelope(not_before=clock.after(60))])


def test_an_expiry_is_no_affair_of_the_server(broker: KombuBroker) -> None:
    """RabbitMQ would drop an expired message without a word; the worker records it as revoked."""
    broker.publish([envelope(properties={"correlation_id": "1", "expiration": "1"})])
    with consuming(broker) as consumer:
        (delivery,) = consumer.receive(1, 5)
    assert "expiration" not in delivery.envelope.properties


def test_kombus_own_consumer_reads_ours(broker: KombuBroker, virtual_host: str) -> None:
    """Queue, exchange and binding are declared as Celery declares them, so that both can."""
    from kombu import Connection

    broker.publish([envelope("1")])
    with closing(Connection(virtual_host)) as connection:
        channel = connection.channel()
        queue = Queue("default", Exchange("default"), routing_key="default").bind(channel)
        queue.declare()
        message = queue.get(no_ack=True)
        assert (message.body, message.headers["id"]) == ("1", "1")
