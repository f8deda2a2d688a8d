"""The part of the broker contract about what becomes of messages: settling, delays, leases and their heirs."""
# ruff: noqa: S101  asserting is what a contract does

from django_tasks import clock
from django_tasks.brokers.broker import Broker
from django_tasks.messages import Disposition, Settlement
from django_tasks.testing.broker_probes import BrokerProbes, envelope, names, settled


class LeaseContract(BrokerProbes):
    """What becomes of messages, whoever holds them. Part of ``BrokerContract``."""

    def test_acknowledged_is_gone(self, broker: Broker) -> None:
        """ACK and DEAD take a message out of circulation for good."""
        broker.publish([envelope("1"), envelope("2")])
        with self.consuming(broker) as consumer:
            first, second = consumer.receive(10, 5)
            assert consumer.kept([first, second]) == {first.tag, second.tag}
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
            until = clock.after(1.5)
            consumer.settle(
                [
                    Settlement(first, Disposition.DELAY, until=until),
                    Settlement(second, Disposition.DELAY, until=clock.after(900), counted=False),
                ]
            )
            assert consumer.receive(2, 0) == []
            (again,) = consumer.receive(2, 30)
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
        due = clock.after(1.5)
        broker.publish([envelope("later", not_before=due, priority=9), envelope("now", not_before=clock.after(-5))])
        with self.consuming(broker) as consumer:
            assert names(consumer.receive(10, 5)) == ["now"]
            assert consumer.receive(10, 0) == []
            assert names(consumer.receive(10, 60)) == ["later"]
            late = (clock.now() - due).total_seconds()
        # Generous: a machine may have much else to do.
        assert 0 <= late < 10

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
            assert broker.recover(clock.after(first.lease / 2), limit=10) == 0
            assert second.receive(1, 0) == []
            assert broker.recover(clock.after(first.lease + 1), limit=10) == 1
            (again,) = second.receive(1, 5)
            assert again.deliveries == 2
            assert (first.kept(held), second.kept([again])) == (set(), {again.tag})
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
