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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

from django_tasks import clock
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.messages import Delivery, Disposition, Envelope, Settlement


def envelope(name: str = "1", **fields: Any) -> Envelope:
    """Make an envelope whose task id, and body, is ``name``."""
    queue = fields.get("queue", "default")
    parts: dict[str, Any] = {
        "body": name.encode(),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"id": name, "task": "contract.task", "retries": 0, "eta": None},
        "properties": {"correlation_id": name, "delivery_info": {"exchange": "", "routing_key": queue}},
        "queue": queue,
        "exchange": "",
        "routing_key": queue,
    }
    return Envelope(**{**parts, **fields})


def settled(deliveries: Sequence[Delivery], disposition: Disposition, **fields: Any) -> list[Settlement]:
    """Make the same settlement of each delivery."""
    return [Settlement(delivery, disposition, **fields) for delivery in deliveries]


def names(deliveries: Sequence[Delivery]) -> list[str]:
    """Task ids, in order."""
    return [delivery.envelope.headers["id"] for delivery in deliveries]


class BrokerContract:
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

    @contextmanager
    def consuming(self, broker: Broker, *queues: str, name: str = "one") -> Iterator[Consumer]:
        """Open a consumer, of the queue ``default`` unless others are named, and close it at the end."""
        consumer = broker.consume(queues or ("default",), consumer_id=f"contract-{name}")
        try:
            yield consumer
        finally:
            consumer.close()

    def test_a_published_message_arrives_unchanged(self, broker: Broker) -> None:
        """What is received is what was published; headers of the value None may be left out."""
        sent = envelope(headers={"id": "1", "task": "t", "none": None, "deep": {"a": [1, None, "é"]}, "flag": False}, priority=4)
        broker.publish([sent])
        with self.consuming(broker) as consumer:
            (delivery,) = consumer.receive(10, 5)
            consumer.settle([Settlement(delivery, Disposition.ACK)])
        got = delivery.envelope
        assert {k: v for k, v in got.headers.items() if v is not None} == {k: v for k, v in sent.headers.items() if v is not None}
        assert got.properties["correlation_id"] == "1"
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
        """A consumer of several queues gets the best of all of them, wherever it lies."""
        if broker.priorities < 10:
            return
        given = [("a", 1), ("b", 5), ("c", 3), ("a", 5), ("b", 0), ("c", 9)]
        broker.publish([envelope(str(number), queue=queue, priority=priority) for number, (queue, priority) in enumerate(given)])
        with self.consuming(broker, "a", "b", "c") as consumer:
            received = [*consumer.receive(2, 5), *consumer.receive(1, 5), *consumer.receive(10, 5)]
            consumer.settle(settled(received, Disposition.ACK))
        assert names(received) == ["5", "1", "3", "2", "0", "4"]

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

    def test_acknowledged_is_gone(self, broker: Broker) -> None:
        """ACK and DEAD take a message out of circulation for good."""
        broker.publish([envelope("1"), envelope("2")])
        with self.consuming(broker) as consumer:
            first, second = consumer.receive(10, 5)
            consumer.settle([Settlement(first, Disposition.ACK), Settlement(second, Disposition.DEAD, reason="test")])
            broker.recover(clock.after(10_000), limit=100)
            assert consumer.receive(10, 0) == []
        assert broker.queues() == []

    def test_requeued_comes_back_at_once(self, broker: Broker) -> None:
        """REQUEUE gives a message back to everyone, counting the delivery."""
        broker.publish([envelope("1")])
        with self.consuming(broker) as consumer:
            consumer.settle(settled(consumer.receive(1, 5), Disposition.REQUEUE))
            (again,) = consumer.receive(1, 5)
            assert (again.deliveries, again.envelope.body) == (2, b"1")
            consumer.settle([Settlement(again, Disposition.ACK)])

    def test_an_uncounted_requeue(self, broker: Broker) -> None:
        """``counted=False`` takes the delivery back: it was never started."""
        if not broker.recovers:
            return
        broker.publish([envelope("1")])
        with self.consuming(broker) as consumer:
            for _ in range(3):
                (delivery,) = consumer.receive(1, 5)
                assert delivery.deliveries == 1
                consumer.settle([Settlement(delivery, Disposition.REQUEUE, counted=False)])

    def test_delayed_by_settlement(self, broker: Broker) -> None:
        """DELAY keeps a message from everyone until its time."""
        if not broker.delays:
            return
        broker.publish([envelope("1"), envelope("2")])
        with self.consuming(broker) as consumer:
            first, second = consumer.receive(2, 5)
            until = clock.after(0.3)
            consumer.settle(
                [
                    Settlement(first, Disposition.DELAY, until=until),
                    Settlement(second, Disposition.DELAY, until=clock.after(900), counted=False),
                ]
            )
            assert consumer.receive(2, 0) == []
            (again,) = consumer.receive(2, 5)
            assert clock.now() >= until
            assert (names([again]), again.deliveries) == (["1"], 2)
            broker.promote(clock.after(1000), limit=10)
            (last,) = consumer.receive(2, 5)
            assert (names([last]), last.deliveries) == (["2"], 1)

    def test_a_batch_of_all_dispositions(self, broker: Broker) -> None:
        """One call settles each delivery in its own way."""
        if not broker.delays:
            return
        broker.publish([envelope(str(number)) for number in range(6)])
        with self.consuming(broker) as consumer:
            got = consumer.receive(6, 5)
            consumer.settle(
                [
                    Settlement(got[0], Disposition.ACK),
                    Settlement(got[1], Disposition.REQUEUE),
                    Settlement(got[2], Disposition.DELAY, until=clock.after(60)),
                    Settlement(got[3], Disposition.DEAD),
                    Settlement(got[4], Disposition.REQUEUE, counted=False),
                ]
            )
            again = consumer.receive(6, 5)
            assert [(name, one.deliveries) for name, one in zip(names(again), again, strict=True)] == [("1", 2), ("4", 1)]
            assert broker.size("default") == 1

    def test_not_before(self, broker: Broker) -> None:
        """A message with ``not_before`` waits until then, and is received soon after, without help."""
        if not broker.delays:
            return
        due = clock.after(0.4)
        broker.publish([envelope("later", not_before=due, priority=9), envelope("now", not_before=clock.after(-5))])
        with self.consuming(broker) as consumer:
            assert names(consumer.receive(10, 5)) == ["now"]
            assert consumer.receive(10, 0) == []
            assert names(consumer.receive(10, 5)) == ["later"]
            late = (clock.now() - due).total_seconds()
        assert 0 <= late < 0.25

    def test_promote(self, broker: Broker) -> None:
        """``promote`` makes what is due receivable, as much as it is allowed."""
        if not broker.delays:
            return
        broker.publish([envelope(str(number), not_before=clock.after(60 + number)) for number in range(5)])
        assert broker.size("default") in (5, None)
        assert broker.promote(clock.now(), limit=10) == 0
        assert broker.promote(clock.after(61.5), limit=1) == 1
        assert broker.promote(clock.after(63.5), limit=10) == 3
        with self.consuming(broker) as consumer:
            assert names(consumer.receive(10, 5)) == ["0", "1", "2", "3"]

    def test_many_delayed_messages(self, broker: Broker) -> None:
        """Delayed messages are in nobody's way."""
        if not broker.delays:
            return
        broker.publish([envelope(f"later-{number}", not_before=clock.after(600), priority=9) for number in range(500)])
        broker.publish([envelope("now")])
        with self.consuming(broker) as consumer:
            assert names(consumer.receive(10, 5)) == ["now"]
        assert broker.purge("default") == 500

    def test_a_lapsed_lease(self, broker: Broker) -> None:
        """What a silent consumer holds goes to another after the lease, as a second delivery; the first can't settle it any more."""
        if not broker.recovers:
            return
        broker.publish([envelope("1")])
        with self.consuming(broker) as first, self.consuming(broker, name="two") as second:
            held = first.receive(1, 5)
            assert broker.recover(clock.after(first.lease - 5), limit=10) == 0
            assert second.receive(1, 0) == []
            assert broker.recover(clock.after(first.lease + 1), limit=10) == 1
            (again,) = second.receive(1, 5)
            assert again.deliveries == 2
            for disposition in (Disposition.ACK, Disposition.REQUEUE, Disposition.DEAD):
                first.settle(settled(held, disposition))
            first.settle(settled(held, Disposition.DELAY, until=clock.after(1)))
            first.extend(held)
            assert broker.recover(clock.after(second.lease + 1), limit=10) == 1
            (last,) = second.receive(1, 5)
            assert last.deliveries == 3

    def test_recover_takes_no_more_than_it_may(self, broker: Broker) -> None:
        """``limit`` bounds what one call gives back."""
        if not broker.recovers:
            return
        broker.publish([envelope(str(number)) for number in range(5)])
        with self.consuming(broker) as consumer:
            assert len(consumer.receive(5, 5)) == 5
        assert broker.recover(clock.after(10_000), limit=3) == 3
        assert broker.recover(clock.after(10_000), limit=3) == 2

    def test_extend_keeps(self, broker: Broker) -> None:
        """A renewed lease lasts as long again; one that isn't renewed lapses."""
        if not broker.recovers:
            return
        broker.publish([envelope("kept"), envelope("lost")])
        with self.consuming(broker) as consumer:
            kept, _lost = consumer.receive(2, 5)
            lease, consumer.lease = consumer.lease, consumer.lease + 1000
            consumer.extend([kept])
            assert broker.recover(clock.after(lease + 100), limit=10) == 1
            assert names(consumer.receive(2, 5)) == ["lost"]

    def test_inherit(self, broker: Broker) -> None:
        """An heir gets what a dead consumer had started, and the queue gets the rest, uncounted."""
        if not broker.recovers:
            return
        broker.publish([envelope(str(number)) for number in range(4)])
        with self.consuming(broker, name="dead") as dead, self.consuming(broker, name="heir") as heir:
            held = dead.receive(3, 5)
            started = heir.inherit("contract-dead", [held[1].tag, "999999999", ""])
            assert [(name, one.deliveries) for name, one in zip(names(started), started, strict=True)] == [("1", 1)]
            assert started[0].envelope.body == b"1"
            dead.settle(settled(held, Disposition.ACK))
            heir.settle(settled(started, Disposition.ACK))
            rest = heir.receive(10, 5)
            assert [(name, one.deliveries) for name, one in zip(names(rest), rest, strict=True)] == [("0", 1), ("2", 1), ("3", 1)]
            assert heir.inherit("contract-nobody", []) == []

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
            assert 0.15 < clock.monotonic() - begun < 3
            broker.publish([envelope()])
            begun = clock.monotonic()
            assert consumer.receive(0, 0.2) == []
            assert 0.15 < clock.monotonic() - begun < 3
            assert len(consumer.receive(1, 5)) == 1

    def test_wake_ends_a_wait(self, broker: Broker) -> None:
        """``wake`` ends a waiting ``receive`` at once, with messages or without, also when it only waits."""
        with self.consuming(broker) as consumer:
            for limit in (10, 0):
                timer = threading.Timer(0.2, consumer.wake)
                timer.start()
                begun = clock.monotonic()
                assert consumer.receive(limit, 20) == []
                timer.join()
                assert clock.monotonic() - begun < 5

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

        def drain(number: int) -> None:
            try:
                with self.consuming(broker, "q0", "q1", name=f"drain-{number}") as consumer:
                    while deliveries := consumer.receive(25, 0.3):
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
