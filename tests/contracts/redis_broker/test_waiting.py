"""Who waits on Redis is called at once, and costs nothing meanwhile."""

import os
import statistics
import threading
import time
import warnings
from datetime import timedelta

import pytest

from django_tasks import clock
from django_tasks.brokers.redis import waiting
from django_tasks.brokers.redis.consumer import RedisConsumer
from django_tasks.messages import Disposition
from django_tasks.testing.broker_probes import envelope, names, settled
from tests.contracts.redis_broker.conversing import acknowledge, consuming, kombu_channel
from tests.processes import DEADLINE, SOON


@pytest.fixture
def only_bells(monkeypatch) -> None:
    """Nobody looks by himself."""
    monkeypatch.setattr(waiting, "SELDOM", 30.0)


@pytest.mark.redis
class TestWaiting:
    def test_a_waiting_consumer_is_called_at_once(self, opened, only_bells):
        """The bell, not the look every quarter of a second: the median of many is some milliseconds on a quiet machine."""
        broker, waits = opened(), []
        with consuming(broker) as consumer:
            consumer.receive(1, 0)
            for number in range(15):
                sent: list[float] = []

                def publish(number=number, sent=sent) -> None:
                    sent.append(clock.monotonic())
                    broker.publish([envelope(str(number))])

                timer = threading.Timer(0.03, publish)
                timer.start()
                got = consumer.receive(1, 10)
                waits.append(clock.monotonic() - sent[0])
                timer.join()
                acknowledge(consumer, got)
        assert statistics.median(waits) < 5

    def test_several_waiting_consumers_share_a_burst(self, opened, only_bells):
        """One token wakes one of them, who wakes the next."""
        broker = opened()
        got: list[tuple[int, bool]] = []
        ready = threading.Barrier(5)

        def one() -> None:
            with consuming(broker) as consumer:
                assert consumer.receive(1, 0) == []
                ready.wait(DEADLINE)
                begun = clock.monotonic()
                got.append((len(consumer.receive(1, 30)), clock.monotonic() - begun < SOON))

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        ready.wait(DEADLINE)
        broker.publish([envelope(str(number)) for number in range(4)])
        for thread in threads:
            thread.join(DEADLINE)
        assert got == [(1, True)] * 4

    def test_lists_that_were_empty_are_not_claimed_from_before_a_bell(self, opened, only_bells, monkeypatch):
        """A message to an idle consumer costs one claim; none is made before it, and none after it."""
        broker, claims = opened(), []
        claim = RedisConsumer._claim
        monkeypatch.setattr(RedisConsumer, "_claim", lambda *args: claims.append(1) or claim(*args))
        with consuming(broker) as consumer:
            assert consumer.receive(10, 0) == []
            assert consumer.receive(10, 0.1) == []
            assert len(claims) == 1
            broker.publish([envelope("1")])
            acknowledge(consumer, consumer.receive(10, 5))
            assert consumer.receive(10, 0.1) == []
            assert len(claims) == 2
            assert consumer.receive(10, 0) == []
            assert len(claims) == 3

    @pytest.mark.parametrize("delay", [None, 0.2])
    def test_who_gives_something_back_looks_again(self, opened, only_bells, delay):
        """What a consumer gives back, now or for a moment, reaches it again without a bell."""
        until = None if delay is None else clock.now() + timedelta(seconds=delay)
        broker = opened()
        with consuming(broker) as consumer:
            broker.publish([envelope("1")])
            held = consumer.receive(10, 5)
            consumer.settle(settled(held, Disposition.REQUEUE if until is None else Disposition.DELAY, until=until))
            assert names(consumer.receive(10, 5)) == ["1"]

    def test_celerys_messages_are_found_without_a_bell(self, opened, prefix):
        """Within a look; once there were some, the looks come closer together."""
        broker = opened()
        with consuming(broker) as consumer, kombu_channel(prefix) as connection:
            consumer.receive(1, 0)
            slow = consumer._ear.pace()
            timer = threading.Timer(0.1, connection.Producer().publish, ([],), {"routing_key": "default", "headers": {"id": "k"}})
            timer.start()
            assert names(consumer.receive(1, 10)) == ["k"]
            timer.join()
            assert consumer._ear.pace() < slow

    def test_who_has_no_room_passes_the_bell_on(self, opened):
        """A token that reaches a busy consumer goes to an idle one."""
        broker = opened()
        with consuming(broker) as busy, consuming(broker) as idle:
            busy.receive(1, 0.05)
            # Its blocking wait is still open; now it has no room.
            broker.publish([envelope("1")])
            assert busy.receive(0, 0.1) == []
            assert broker._lines.server.client.llen(broker.keys.bell("default")) == 1
            assert names(idle.receive(1, 5)) == ["1"]

    def test_waiting_costs_next_to_nothing(self, opened):
        """An idle second takes a few milliseconds of processor time."""
        with consuming(opened()) as consumer:
            consumer.receive(1, 0.1)
            begun = time.process_time()
            consumer.receive(1, 1)
            assert time.process_time() - begun < 0.1

    def test_a_fork_leaves_the_parents_connections_alone(self, opened):
        """The child publishes over its own, and the parent goes on over the old ones."""
        broker = opened()
        broker.publish([envelope("parent")])
        (line,) = broker._lines._idle
        with warnings.catch_warnings():
            # Python 3.12: other tests' threads may still live.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                broker.publish([envelope("child")])
                os._exit(0 if line not in broker._lines._idle else 3)
            except BaseException:
                os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        broker.publish([envelope("after")])
        assert broker._lines._idle == [line]
        with consuming(broker) as consumer:
            assert names(consumer.receive(10, 5)) == ["parent", "child", "after"]
