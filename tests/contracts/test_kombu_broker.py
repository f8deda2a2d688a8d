"""What only RabbitMQ can do, and what can go wrong with it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.test import override_settings
from kombu import Exchange, Queue
from kombu.common import Broadcast

from django_tasks import clock
from django_tasks.brokers import open_broker
from django_tasks.brokers.broker import Consumer
from django_tasks.brokers.kombu import KombuBroker
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.messages import Death, Delivery, Disposition, Settlement
from django_tasks.models import Redelivery
from django_tasks.testing.broker_probes import BrokerProbes, envelope, names, settled
from tests import rabbitmq
from tests.processes import DEADLINE, SOON, wait_until

pytestmark = [pytest.mark.rabbitmq, pytest.mark.django_db(transaction=True)]

consuming = BrokerProbes().consuming


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


def _break(consumer: Consumer) -> None:
    consumer._connection.transport.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]


def _receive(consumer: Consumer, limit: int = 10) -> list[Delivery]:
    """Receive as the worker does: an error is followed by another try."""
    deadline = clock.monotonic() + DEADLINE
    while clock.monotonic() < deadline:
        try:
            if deliveries := consumer.receive(limit, 1):
                return deliveries
        except OperationalError:
            continue
    return []


def test_a_wrong_password_is_named_at_once(virtual_host: str) -> None:
    """Nobody waits for a login that can't succeed, and the password is in no message."""
    broker = open_broker(virtual_host.replace("guest:guest", "guest:sesame"))
    begun = clock.monotonic()
    with pytest.raises(OperationalError, match="wrong user or password") as caught:
        broker.publish([envelope()])
    assert clock.monotonic() - begun < SOON
    assert "sesame" not in str(caught.value)
    assert "guest:**@" in str(caught.value)


def test_a_virtual_host_that_is_not_there(virtual_host: str) -> None:
    """A virtual host that is missing is named as such."""
    broker = open_broker(virtual_host.rpartition("/")[0] + "/nowhere")
    with pytest.raises(OperationalError, match="virtual host does not exist"):
        broker.publish([envelope()])


def test_a_server_that_is_not_there() -> None:
    """The error names the URL."""
    with pytest.raises(OperationalError, match=r"amqp://127\.0\.0\.1:1//: .*refused"):
        open_broker("amqp://127.0.0.1:1//").publish([envelope()])


def test_the_next_of_a_fail_over_list_is_used(virtual_host: str) -> None:
    """A dead first URL is passed over."""
    broker = open_broker(["amqp://guest:guest@127.0.0.1:1//", virtual_host])
    broker.publish([envelope("1", queue="failover")])
    with consuming(broker, "failover") as consumer:
        assert names(consumer.receive(1, 5)) == ["1"]
    rabbitmq.delete_queues(virtual_host, ["failover"])
    broker.close()


def test_an_option_that_nobody_knows_is_refused() -> None:
    """An unknown option of the URL is a mistake of the settings."""
    with pytest.raises(ImproperlyConfigured, match="can't be used"):
        open_broker("amqp://localhost//?nonsense=1")


def test_a_missing_client_library_is_named() -> None:
    """The error says what to install."""
    with pytest.raises(ImproperlyConfigured, match="pip install 'kombu\\[zookeeper\\]'"):
        open_broker("zookeeper://localhost").publish([envelope()])
    with pytest.raises(ImproperlyConfigured, match="pip install 'kombu\\[confluentkafka\\]'"):
        open_broker("kafka://localhost").publish([envelope()])


def test_a_vanished_queue_is_declared_again(broker: KombuBroker, virtual_host: str) -> None:
    """Nothing is dropped without a word: messages that no queue takes come back, the queue is made anew."""
    broker.publish([envelope("1", queue="vanishing")])
    rabbitmq.delete_queues(virtual_host, ["vanishing"])
    broker.publish([envelope("2", queue="vanishing")])
    rabbitmq.delete_queues(virtual_host, ["vanishing"])
    broker.publish([envelope(str(number), queue="vanishing") for number in range(3, 6)])
    assert broker.size("vanishing") == 3


def test_a_queue_that_vanishes_under_its_consumer(broker: KombuBroker, virtual_host: str) -> None:
    """The consumer says so once, and declares the queue again with its next connection."""
    broker.publish([envelope("1")])
    with consuming(broker) as consumer:
        consumer.settle(settled(consumer.receive(10, 5), Disposition.ACK))
        rabbitmq.delete_queues(virtual_host, ["default"])
        with pytest.raises(OperationalError, match="has its queue been deleted"):
            consumer.receive(10, 5)
        assert consumer.receive(1, 0) == []
        broker.publish([envelope("2")])
        assert names(consumer.receive(1, 5)) == ["2"]


def test_other_arguments_are_named(broker: KombuBroker, virtual_host: str) -> None:
    """A queue that exists with other arguments is an error that names the argument."""
    with rabbitmq.connection(virtual_host) as opened:
        opened.channel().queue_declare("default", durable=True, auto_delete=False, arguments={"x-max-priority": 3})
    with pytest.raises(OperationalError, match=r"x-max-priority.*other arguments than TASK_QUEUES"):
        broker.publish([envelope()])


def test_a_broken_connection_gives_back_what_it_held(broker: KombuBroker) -> None:
    """The next call raises, the one after it reconnects; what came back is counted, and handed out alone."""
    broker.publish([envelope("1"), envelope("2")])
    with consuming(broker) as consumer:
        held = consumer.receive(10, 5)
        assert names(held) == ["1", "2"]
        _break(consumer)
        with pytest.raises(OperationalError):
            consumer.receive(10, 5)
        # What an earlier connection received is passed over.
        again = _receive(consumer)
        consumer.settle(settled(held, Disposition.ACK))
        assert [(one.envelope.body, one.deliveries) for one in again] == [(b"1", 2)]
        # While the first is in hands, the second one waits: a crash now would not be its fault, and is not counted for it.
        assert consumer.receive(10, 0.2) == []
        assert Redelivery.objects.count() == 1
        consumer.settle(settled(again, Disposition.ACK))
        (last,) = consumer.receive(10, 5)
        assert (last.envelope.body, last.deliveries) == (b"2", 2)
        consumer.settle([Settlement(last, Disposition.ACK)])
        assert not Redelivery.objects.exists()


def test_what_came_again_does_not_wait_for_ever(broker: KombuBroker) -> None:
    """Beside a task that runs for long, it is handed out after a while all the same."""
    broker.publish([envelope("1"), envelope("2")])
    with consuming(broker) as consumer:
        consumer.receive(10, 5)
        _break(consumer)
        with pytest.raises(OperationalError):
            consumer.receive(10, 5)
        assert names(_receive(consumer)) == ["1"]
        begun = clock.monotonic()
        assert names(consumer.receive(10, 60)) == ["2"]
        assert 0.1 < clock.monotonic() - begun < SOON


def test_how_a_process_died_comes_with_the_message(broker: KombuBroker) -> None:
    """Whoever saw the process die writes it down within the quarantine, and the next consumer is told."""
    broker.quarantine = 120
    broker.publish([envelope("1")])
    with consuming(broker) as first:
        (held,) = first.receive(1, 5)
        broker.remember_deaths({held.tag: Death("overdue", "signal 9")})
        assert len(held.tag) <= 64
        _break(first)
        with consuming(broker, name="two") as second:
            begun = clock.monotonic()
            (again,) = _receive(second)
            # What is explained needs no quarantine.
            assert clock.monotonic() - begun < SOON
            assert (again.deliveries, again.death) == (2, Death("overdue", "signal 9"))
            second.settle([Settlement(again, Disposition.ACK)])


def test_what_was_never_started_is_not_counted(broker: KombuBroker) -> None:
    """However often a message is given back unread, it is at its first delivery."""
    broker.publish([envelope("1")])
    with consuming(broker) as consumer:
        for _ in range(3):
            (delivery,) = consumer.receive(1, 5)
            assert delivery.deliveries == 1
            consumer.settle([Settlement(delivery, Disposition.REQUEUE, counted=False)])


def test_without_its_table_the_consumer_goes_on(broker: KombuBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away stops no message: what comes again counts as started once."""
    from django.db import DatabaseError

    def fail(*_: Any, **__: Any) -> None:
        raise DatabaseError("no database")

    broker.publish([envelope("1")])
    with consuming(broker) as consumer:
        consumer.settle(settled(consumer.receive(1, 5), Disposition.REQUEUE))
        monkeypatch.setattr(Redelivery.objects, "filter", fail)
        monkeypatch.setattr(Redelivery.objects, "bulk_create", fail)
        (again,) = consumer.receive(1, 5)
        assert again.deliveries == 2
        consumer.settle([Settlement(again, Disposition.ACK)])


def test_what_nobody_wants_goes_to_others(broker: KombuBroker) -> None:
    """A consumer that has no room for a second gives back what was pushed to it."""
    broker.publish([envelope(str(number)) for number in range(40)])
    with consuming(broker) as busy, consuming(broker, name="two") as idle:
        assert len(busy.receive(30, 5)) == 30
        begun = clock.monotonic()
        while clock.monotonic() - begun < 1.5:
            busy.receive(0, 0.1)
        assert len(_receive(idle, 40)) == 10


def test_a_ring_is_heard_while_messages_arrive(broker: KombuBroker) -> None:
    """Whoever has something for the worker to do is not put off until the pushes end."""
    broker.publish([envelope(str(number)) for number in range(5)])
    with consuming(broker) as consumer:
        consumer.settle(settled(consumer.receive(5, 5), Disposition.ACK))
        broker.publish([envelope(str(number)) for number in range(5)])
        deadline = clock.monotonic() + SOON
        while broker.size("default") and clock.monotonic() < deadline:
            pass
        consumer.wake()
        begun = clock.monotonic()
        assert consumer.receive(0, 60) == []
        assert clock.monotonic() - begun < SOON
        assert len(consumer.receive(5, 5)) == 5


def test_messages_of_any_size_in_one_batch(broker: KombuBroker) -> None:
    """Those of several frames, of one frame, and without a body come as they were sent, in order."""
    sizes = [0, 3, 131_064, 131_065, 5, 700_000, 0, 8]
    sent = [envelope(str(number), body=b"%d" % number * size) for number, size in enumerate(sizes)]
    broker.publish(sent)
    broker.publish(sent[5:6])
    with consuming(broker) as consumer:
        got: list[Delivery] = []
        while len(got) <= len(sent) and (more := consumer.receive(20, 5)):
            got += more
        assert [one.envelope.body for one in got] == [one.body for one in [*sent, sent[5]]]
        assert [one.envelope.headers for one in got] == [one.headers for one in [*sent, sent[5]]]
        consumer.settle(settled(got, Disposition.ACK))
    assert broker.size("default") == 0


def test_acknowledged_out_of_order(broker: KombuBroker) -> None:
    """Acknowledging many with one frame takes only what was settled."""
    broker.publish([envelope(str(number)) for number in range(9)])
    with consuming(broker) as consumer:
        got = consumer.receive(9, 5)
        for chosen in ([3, 5], [0, 1], [2, 4, 8], [7]):
            consumer.settle(settled([got[number] for number in chosen], Disposition.ACK))
        consumer.settle(settled([got[3]], Disposition.ACK))
    with consuming(broker) as consumer:
        assert names(_receive(consumer)) == ["6"]


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


def test_a_connection_that_ended_while_idle_is_replaced(broker: KombuBroker) -> None:
    """A pooled connection that ended unnoticed costs no error."""
    assert broker._amqp is not None
    broker.publish([envelope("1")])
    for line in broker._amqp.pool._idle:
        line.raw.transport.sock.shutdown(socket.SHUT_RDWR)
    broker.publish([envelope("2")])
    assert broker.size("default") == 2


def test_a_blocked_server_is_an_error_in_time(broker: KombuBroker) -> None:
    """RabbitMQ says that it is short of memory: nothing is sent, and nobody waits for ever."""
    assert broker._amqp is not None
    broker.publish([envelope("1")])
    with override_settings(DJANGO_TASKS={"BROKER_CONNECTION_TIMEOUT": 0.3}):
        for line in broker._amqp.pool._idle:
            line._on_blocked("low on memory")
        begun = clock.monotonic()
        with pytest.raises(OperationalError, match="short of memory or disk"):
            broker.publish([envelope("2")])
        assert 0.2 < clock.monotonic() - begun < SOON
    assert broker.size("default") == 1


def test_threads_share_the_pool(broker: KombuBroker) -> None:
    """More threads than connections wait for each other."""
    assert broker._amqp is not None
    errors: list[BaseException] = []

    def publish(number: int) -> None:
        try:
            for _ in range(5):
                broker.publish([envelope(str(number))])
        except BaseException as error:
            errors.append(error)

    with override_settings(DJANGO_TASKS={"BROKER_POOL_LIMIT": 2}):
        threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not errors
        assert len(broker._amqp.pool._idle) <= 2
    assert broker.size("default") == 40


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


def test_what_is_under_way_is_here_after_catching_up(broker: KombuBroker) -> None:
    """Whether the server has sent anything can be known without waiting for a time: what it counts no more has arrived then."""
    with consuming(broker, "sent") as consumer:
        assert consumer.pushed
        consumer.catch_up()  # nothing to catch up with before the first receive
        for name in ("1", "2", "3"):
            broker.publish([envelope(name, queue="sent")])
            if name == "1":
                received = _receive(consumer, 1)
            else:
                wait_until(lambda: broker.size("sent") == 0, "the server has sent it")
                consumer.catch_up()
                received = consumer.receive(1, 0)
            assert names(received) == [name]
            consumer.settle([Settlement(received[0], Disposition.ACK)])


def test_catching_up_waits_for_no_explanation(broker: KombuBroker) -> None:
    """What comes again, and nobody says why, can be received at once by whoever asks for all there is."""
    broker.quarantine = 60
    broker.publish([envelope("1", queue="again")])
    with consuming(broker, "again") as lost:
        assert names(_receive(lost, 1)) == ["1"]
        _break(lost)
        with consuming(broker, "again") as consumer:
            wait_until(lambda: broker.size("again") == 1, "the server has it back")
            assert consumer.receive(1, 1) == []
            consumer.catch_up()
            received = consumer.receive(1, 0)
            assert names(received) == ["1"]
            consumer.settle([Settlement(received[0], Disposition.ACK)])
