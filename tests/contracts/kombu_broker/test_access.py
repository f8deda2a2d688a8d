"""Reaching RabbitMQ: wrong passwords, servers and queues that are not there, connections that end, threads that share."""

import socket
import threading

import pytest
from django.test import override_settings

from django_tasks import clock
from django_tasks.brokers import open_broker
from django_tasks.brokers.kombu import KombuBroker
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.messages import Disposition
from django_tasks.testing.broker_probes import envelope, names, settled
from tests import rabbitmq
from tests.contracts.kombu_broker.receiving import consuming
from tests.processes import SOON

pytestmark = [pytest.mark.rabbitmq, pytest.mark.django_db(transaction=True)]


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


def test_a_queue_that_is_refused_keeps_no_other_from_its_consumer(
    broker: KombuBroker, virtual_host: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs and how to mend it is said once; the queue is consumed when that has been done, without a new start."""
    with rabbitmq.connection(virtual_host) as opened:
        opened.channel().queue_declare("refused", durable=True, auto_delete=False, arguments={"x-max-priority": 3})
    broker.publish([envelope("1")])
    with consuming(broker, "refused", "default") as consumer:
        consumer.settle(settled(consumer.receive(10, 5), Disposition.ACK))
        monkeypatch.setattr("django_tasks.brokers.kombu.consumer._REFUSED_FOR", 0.0)
        consumer._refused_until = 0.0
        assert consumer.receive(10, 0) == []
        (said,) = caplog.messages
        for words in ("'refused' is not consumed", "x-max-priority", "delete it there or describe it as it is"):
            assert words in said
        assert [consumer.consumes(name) for name in ("refused", "default")] == [False, True]
        rabbitmq.delete_queues(virtual_host, ["refused"])
        assert consumer.receive(10, 0) == []
        broker.publish([envelope("2", queue="refused"), envelope("3")])
        assert sorted(names(consumer.receive(10, 5))) == ["2", "3"]
        assert "'refused' is consumed now" in caplog.messages[-1]


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
