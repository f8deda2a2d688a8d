"""Queues in Redis: many messages at once, delayed ones, what is left behind."""

import pytest

from django_tasks import clock
from django_tasks.exceptions import EncodeError, OperationalError
from django_tasks.messages import Disposition, Settlement
from django_tasks.testing.broker_probes import envelope, names
from tests.contracts.redis_broker.conversing import acknowledge, consuming


@pytest.mark.redis
class TestManyAtOnce:
    """They leave in pieces while the rest is still being written, and yet all of them or none."""

    def test_all_arrive_in_order(self, opened):
        """Thousands of messages, small and large, of two priorities, are all there, each list in its order."""
        broker = opened()
        sent = [envelope(str(number), body=b"x" * (number % 7 * 3000), priority=number % 2) for number in range(3000)]
        broker.publish(sent)
        with consuming(broker) as consumer:
            received = []
            while len(received) < len(sent) and (found := consumer.receive(1000, 1)):
                received += found
                acknowledge(consumer, found)
        assert names(received) == [name for priority in (1, 0) for name in names_of(sent, priority)]

    def test_what_cannot_be_written_stops_all(self, opened):
        """One message that has no JSON, after thousands that have left already: nothing arrives, and the broker goes on."""
        broker = opened()
        good = [envelope(str(number)) for number in range(3000)]
        with pytest.raises(EncodeError):
            broker.publish([*good, envelope("bad", headers={"id": "bad", "what": object()})])
        assert broker.size("default") == 0
        broker.publish(good[:2])
        assert broker.size("default") == 2


def names_of(envelopes, priority: int) -> list[str]:
    return [one.headers["id"] for one in envelopes if one.priority == priority]


@pytest.mark.redis
class TestQueues:
    def test_unreadable_messages_are_handed_out(self, opened, prefix, client):
        """Whatever lies in a list is handed out, between the others, can be settled, and never troubles kombu."""
        broker = opened()
        broker.publish([envelope("1")])
        for junk in ("no JSON", "[]", '{"body": 1'):
            client.lpush(f"{prefix}default", junk)
        broker.publish([envelope("2")])
        with consuming(broker) as consumer:
            got = consumer.receive(10, 5)
            assert [delivery.envelope.body for delivery in got] == [b"1", b"no JSON", b"[]", b'{"body": 1', b"2"]
            consumer.settle([Settlement(got[1], Disposition.REQUEUE), Settlement(got[2], Disposition.DELAY, until=clock.after(-1))])
            assert sorted(delivery.envelope.body for delivery in consumer.receive(10, 5)) == [b"[]", b"no JSON"]
            acknowledge(consumer, got)
        broker.recover(clock.after(10_000), limit=10)

    def test_twenty_megabytes(self, opened):
        """A message of 20 MB, and what waits behind it."""
        broker = opened()
        broker.publish([envelope("big", body=bytes(20_000_000)), envelope("small")])
        with consuming(broker) as consumer:
            got = consumer.receive(10, 5)
            assert (names(got), len(got[0].envelope.body)) == (["big", "small"], 20_000_000)
            acknowledge(consumer, got)

    def test_queues_take_turns(self, opened):
        """A full queue doesn't keep others of the same priority waiting."""
        broker = opened()
        broker.publish([envelope(f"{queue}{number}", queue=queue) for queue in "ab" for number in range(20)])
        with consuming(broker, "a", "b") as consumer:
            got = [name for _ in range(4) for name in names(consumer.receive(3, 5))]
        assert {name[0] for name in got[:6]} == {"a", "b"}

    def test_scripts_that_the_server_forgot(self, opened, client):
        """SCRIPT FLUSH, or a restart, costs one round trip."""
        broker = opened()
        with consuming(broker) as consumer:
            for number in range(2):
                broker.publish([envelope(str(number))])
                client.script_flush()
                got = consumer.receive(10, 5)
                assert names(got) == [str(number)]
                client.script_flush()
                consumer.extend(got)
                client.script_flush()
                acknowledge(consumer, got)

    def test_delayed_messages_slow_no_claim(self, opened):
        """With 20,000 of them a claim takes no longer than a few milliseconds."""
        broker = opened()
        broker.publish([envelope(str(number), not_before=clock.after(1000 + number)) for number in range(20_000)])
        broker.publish([envelope(f"now{number}") for number in range(200)])
        with consuming(broker) as consumer:
            consumer.receive(1, 5)
            took = []
            for _ in range(100):
                begun = clock.monotonic()
                assert len(consumer.receive(1, 5)) == 1
                took.append(clock.monotonic() - begun)
        # The quickest: what else the machine does holds up some of them, and what looks at each delayed message is slow always.
        assert min(took) < 0.02
        assert broker.purge("default") == 20_099

    def test_nothing_is_left_behind(self, opened, prefix, client):
        """When all is done there are only the registers of queues, and kombu's tables of them."""
        broker = opened()
        broker.publish([envelope("1"), envelope("2", not_before=clock.after(0.05)), envelope("3", priority=5)])
        with consuming(broker) as consumer:
            done = 0
            while done < 3:
                got = consumer.receive(10, 5)
                done += len(got)
                acknowledge(consumer, got)
            assert consumer.receive(1, 0) == []
        assert sorted(key.removeprefix(prefix) for key in client.scan_iter(match=f"{prefix}*")) == [
            *("_django_tasks.queues", "_kombu.binding.default", "_kombu.binding_permanent.default")
        ]

    def test_one_publishing_is_all_or_nothing(self, opened, prefix, client):
        """A batch of which Redis refuses a part has not happened."""
        broker = opened()
        broker.publish([envelope("1")])
        with consuming(broker) as consumer:
            acknowledge(consumer, consumer.receive(1, 5))
        client.set(f"{prefix}default\x06\x16+9", "not a list")
        with pytest.raises(OperationalError, match="WRONGTYPE"):
            broker.publish([envelope("1", priority=9)])
        assert broker._lines._idle
