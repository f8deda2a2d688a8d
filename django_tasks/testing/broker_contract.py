"""What every broker must do, as tests: subclass ``BrokerContract``, give it a ``broker`` fixture, run pytest.

    class TestMyBroker(BrokerContract):
        @pytest.fixture
        def broker(self):
            broker = open_broker("my://localhost")
            yield broker
            broker.close()

The fixture's broker must hold no messages. Tests that ask for what a broker's flags say it can't do pass at once.
"""
# ruff: noqa: S101  asserting is what a contract does

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

from django_tasks import clock
from django_tasks.brokers.broker import Broker
from django_tasks.messages import Disposition, Settlement
from django_tasks.testing.broker_probes import envelope, names, settled
from django_tasks.testing.lease_contract import LeaseContract


class BrokerContract(LeaseContract):
    """The conformance suite of brokers."""

    #: Queue names that must work. A broker whose server forbids some takes them out.
    ODD_NAMES: ClassVar[Sequence[str]] = (
        "with space",
        " leading",
        "trailing ",
        "ünï-çødé-☃-𝄞",
        "quo'te\"d`",
        "100%s %(x)s %%",
        "back\\slash",
        "Case",
        "case",
        "a;b--c/*d*/",
        "x" * 255,
    )
    #: How many messages the test of many publishes.
    MANY: ClassVar[int] = 10_000

    def test_a_published_message_arrives_unchanged(self, broker: Broker) -> None:
        """What is received is what was published; headers of the value None may be left out."""
        sent = envelope(headers={"id": "1", "task": "t", "none": None, "deep": {"a": [1, None, "é"]}, "flag": False}, priority=4)
        own = {"app_id": "shop", "message_id": "m-1", "type": "order"}
        sent = replace(sent, properties={**sent.properties, **own})
        broker.publish([sent])
        with self.consuming(broker) as consumer:
            (delivery,) = consumer.receive(10, 5)
            consumer.settle([Settlement(delivery, Disposition.ACK)])
        got = delivery.envelope
        assert {k: v for k, v in got.headers.items() if v is not None} == {k: v for k, v in sent.headers.items() if v is not None}
        assert got.properties["correlation_id"] == "1"
        assert {name: got.properties.get(name) for name in own} == own
        assert (got.body, got.content_type, got.content_encoding) == (sent.body, sent.content_type, sent.content_encoding)
        assert (got.queue, delivery.queue, delivery.deliveries) == ("default", "default", 1)
        if broker.priorities > 1:
            assert got.priority == 4

    def test_bodies_hold_any_bytes(self, broker: Broker) -> None:
        """A body is bytes: none of them means anything to the broker."""
        bodies = [b"", bytes(range(256)), b"\x00", b"\xff\xfe\\x00'%s\n", b"x" * 300_000]
        broker.publish([envelope(str(number), body=body) for number, body in enumerate(bodies)])
        broker.publish([envelope("single", body=bytes(range(256)))])
        with self.consuming(broker) as consumer:
            received = consumer.receive(100, 5)
            consumer.settle(settled(received, Disposition.ACK))
        assert [delivery.envelope.body for delivery in received] == [*bodies, bytes(range(256))]

    def test_publishing_nothing_does_nothing(self, broker: Broker) -> None:
        """An empty batch is no error, for publishing and for settling."""
        broker.publish([])
        with self.consuming(broker) as consumer:
            consumer.settle([])
            consumer.extend([])
            assert consumer.receive(10, 0) == []

    def test_first_come_first_served(self, broker: Broker) -> None:
        """Messages of one priority are handed out in the order of publishing."""
        broker.publish([envelope(str(number)) for number in range(20)])
        for number in range(20, 23):
            broker.publish([envelope(str(number))])
        with self.consuming(broker) as consumer:
            received = [*consumer.receive(7, 5), *consumer.receive(100, 5)]
            consumer.settle(settled(received, Disposition.ACK))
        assert names(received) == [str(number) for number in range(23)]

    def test_larger_priorities_come_first(self, broker: Broker) -> None:
        """Priorities are exact, and age decides within one."""
        if broker.priorities < 10:
            return
        given = [0, 9, 3, 9, 1, 0, 5, 3]
        broker.publish([envelope(str(number), priority=priority) for number, priority in enumerate(given)])
        with self.consuming(broker) as consumer:
            received = [delivery for _ in given for delivery in consumer.receive(1, 5)]
            consumer.settle(settled(received, Disposition.ACK))
        assert names(received) == [str(number) for number in sorted(range(len(given)), key=lambda number: (-given[number], number))]

    def test_priorities_count_across_queues(self, broker: Broker) -> None:
        """A consumer of several queues gets the best of all of them, wherever it lies; among equals a queue may go first."""
        if broker.priorities < 10:
            return
        given = [("a", 1), ("b", 5), ("c", 3), ("a", 5), ("b", 0), ("c", 9)]
        broker.publish([envelope(str(number), queue=queue, priority=priority) for number, (queue, priority) in enumerate(given)])
        with self.consuming(broker, "a", "b", "c") as consumer:
            received = [*consumer.receive(2, 5), *consumer.receive(1, 5), *consumer.receive(10, 5)]
            consumer.settle(settled(received, Disposition.ACK))
        assert [given[int(name)][1] for name in names(received)] == [9, 5, 5, 3, 1, 0]

    def test_only_the_queues_asked_for(self, broker: Broker) -> None:
        """A consumer sees its queues and no others, and ``set_queues`` changes which."""
        broker.publish([envelope("1", queue="a"), envelope("2", queue="b")])
        with self.consuming(broker, "a") as consumer:
            assert names(consumer.receive(10, 5)) == ["1"]
            assert consumer.receive(10, 0) == []
            consumer.set_queues(["b"])
            assert names(consumer.receive(10, 5)) == ["2"]

    def test_odd_queue_names(self, broker: Broker) -> None:
        """A queue's name is any text, and no two names are one."""
        broker.publish([envelope(str(number), queue=name) for number, name in enumerate(self.ODD_NAMES)])
        assert broker.queues() in (sorted(self.ODD_NAMES), [])
        for number, name in enumerate(self.ODD_NAMES):
            assert broker.size(name) in (1, None), name
            with self.consuming(broker, name) as consumer:
                received = consumer.receive(10, 5)
                assert names(received) == [str(number)], name
                assert received[0].queue == name
                consumer.settle(settled(received, Disposition.ACK))
        if broker.size("default") is not None:
            broker.publish([envelope("p", queue=self.ODD_NAMES[-1])])
            assert broker.purge(self.ODD_NAMES[-1]) == 1

    def test_size_purge_and_queues(self, broker: Broker) -> None:
        """Sizes count what waits; purging deletes that and leaves what is held."""
        if broker.size("a") is None:
            return
        assert (broker.size("a"), broker.queues(), broker.purge("a")) == (0, [], 0)
        broker.publish([*(envelope(str(number), queue="a") for number in range(4)), envelope("b", queue="b")])
        if broker.delays:
            broker.publish([envelope("later", queue="a", not_before=clock.after(60)), envelope("c", queue="c", not_before=clock.after(60))])
        later = int(broker.delays)
        with self.consuming(broker, "a") as consumer:
            held = consumer.receive(1, 5)
            assert broker.size("a") == 3 + later
            assert broker.queues() == ["a", "b", "c"][: 2 + later]
            assert broker.purge("a") == 3 + later
            assert (broker.size("a"), broker.size("b")) == (0, 1)
            consumer.settle(settled(held, Disposition.REQUEUE))
            assert broker.size("a") == 1

    def test_receive_waits_no_longer_than_it_may(self, broker: Broker) -> None:
        """An empty queue answers with an empty list when the time is up, and ``limit=0`` only waits."""
        with self.consuming(broker) as consumer:
            begun = clock.monotonic()
            assert consumer.receive(10, 0.2) == []
            assert 0.15 < clock.monotonic() - begun < 15
            broker.publish([envelope()])
            begun = clock.monotonic()
            assert consumer.receive(0, 0.2) == []
            assert 0.15 < clock.monotonic() - begun < 15
            assert len(consumer.receive(1, 5)) == 1

    def test_wake_ends_a_wait(self, broker: Broker) -> None:
        """``wake`` ends a waiting ``receive`` at once, with messages or without, also when it only waits."""
        with self.consuming(broker) as consumer:
            for limit in (10, 0):
                timer = threading.Timer(0.2, consumer.wake)
                timer.start()
                begun = clock.monotonic()
                assert consumer.receive(limit, 60) == []
                timer.join()
                assert clock.monotonic() - begun < 20

    def test_a_message_ends_a_wait(self, broker: Broker) -> None:
        """A waiting consumer gets a message that another thread publishes."""
        with self.consuming(broker) as consumer:

            def publish() -> None:
                broker.publish([envelope("late")])
                broker.close()
                _close_connections()

            timer = threading.Timer(0.2, publish)
            timer.start()
            assert names(consumer.receive(10, 20)) == ["late"]
            timer.join()

    def test_consumers_never_share(self, broker: Broker) -> None:
        """However many consumers ask at once, each message goes to one of them."""
        broker.publish([envelope(str(number), priority=number % 3, queue=f"q{number % 2}") for number in range(600)])
        got: list[list[str]] = [[], [], []]
        errors: list[BaseException] = []
        end = clock.monotonic() + 60

        def drain(number: int) -> None:
            try:
                with self.consuming(broker, "q0", "q1", name=f"drain-{number}") as consumer:
                    # Once more when all have come: nothing may come twice.
                    last = False
                    while not last and clock.monotonic() < end:
                        last = sum(map(len, got)) >= 600
                        deliveries = consumer.receive(25, 0.3)
                        got[number] += names(deliveries)
                        consumer.settle(settled(deliveries, Disposition.ACK))
            except BaseException as error:  # noqa: BLE001  reported by the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=drain, args=(number,)) for number in range(len(got))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        assert sorted(name for part in got for name in part) == sorted(str(number) for number in range(600))

    def test_many(self, broker: Broker) -> None:
        """Ten thousand messages go in as one batch, and come out in order, each once."""
        broker.publish([envelope(str(number)) for number in range(self.MANY)])
        received: list[str] = []
        with self.consuming(broker) as consumer:
            while len(received) < self.MANY:
                deliveries = consumer.receive(500, 5)
                assert deliveries
                received += names(deliveries)
                consumer.settle(settled(deliveries, Disposition.ACK))
            assert consumer.receive(1, 0) == []
        assert received == [str(number) for number in range(self.MANY)]

    def test_rolled_back_is_never_sent(self, broker: Broker) -> None:
        """A broker that joins the transaction publishes with it, or not at all."""
        if not broker.joins_transaction:
            return
        from django.db import transaction

        alias: str = broker.alias  # type: ignore[attr-defined]
        with transaction.atomic(using=alias):
            broker.publish([envelope("1")])
            broker.publish([envelope(str(number)) for number in range(100)])
            transaction.set_rollback(True, using=alias)
        assert broker.size("default") == 0
        with transaction.atomic(using=alias):
            broker.publish([envelope("2")])
        with self.consuming(broker) as consumer:
            assert names(consumer.receive(10, 5)) == ["2"]

    def test_a_replayed_envelope(self, broker: Broker) -> None:
        """What was received can be published again as it is."""
        broker.publish([envelope("1", priority=3)])
        with self.consuming(broker) as consumer:
            (first,) = consumer.receive(1, 5)
            consumer.settle([Settlement(first, Disposition.ACK)])
            broker.publish([replace(first.envelope, not_before=clock.now() - timedelta(seconds=1))])
            (second,) = consumer.receive(1, 5)
        assert replace(second.envelope, not_before=None) == first.envelope


def _close_connections() -> None:
    # The publishing thread ends here, and with it its database connections.
    from django.db import connections

    connections.close_all()
