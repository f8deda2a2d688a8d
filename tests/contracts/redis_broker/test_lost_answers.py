"""A connection that breaks after the server has done what it was asked, and before it could say so."""

import pytest
import redis

from django_tasks.brokers.redis import consumer as consuming_module
from django_tasks.brokers.redis.scripts import script
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Disposition
from django_tasks.testing.broker_probes import envelope, names, settled
from tests.contracts.redis_broker.conversing import acknowledge, consuming

pytestmark = pytest.mark.redis


@pytest.fixture
def lose_answer(monkeypatch):
    """Make a script's next answer get lost."""

    def lose(name: str) -> None:
        lost = []

        def losing(asked: str):
            found = script(asked)
            if asked != name or lost:
                return found
            lost.append(asked)
            return Deaf(found)

        monkeypatch.setattr(consuming_module, "script", losing)

    return lose


class Deaf:
    """A script that is run, and whose answer never arrives."""

    def __init__(self, script) -> None:
        self.script = script

    def call(self, *args):
        self.script.call(*args)
        raise redis.ConnectionError("Connection closed by server.")


def receive_all(consumer, count: int) -> list:
    """Receive until so many have come, or nothing comes."""
    found = []
    while len(found) < count and (more := consumer.receive(10, 0.2)):
        found += more
    return found


class TestLostAnswers:
    def test_what_a_claim_took_is_handed_out(self, opened, prefix, client, lose_answer):
        """The messages of a claim whose answer was lost come at once, each once, and not counted as delivered."""
        broker = opened()
        broker.publish([envelope(f"m{number}", queue="q") for number in range(4)])
        with consuming(broker, "q") as consumer:
            lose_answer("claim")
            with pytest.raises(OperationalError, match="Connection closed"):
                consumer.receive(2, 0)
            found = receive_all(consumer, 4)
            assert sorted(names(found)) == ["m0", "m1", "m2", "m3"]
            assert {one.deliveries for one in found} == {1}
            assert client.hlen(f"{prefix}unacked") == 4
            acknowledge(consumer, found)
            assert client.hlen(f"{prefix}unacked") == client.llen(f"{prefix}q") == 0

    def test_what_is_held_stays_held(self, opened, lose_answer):
        """Looking for what was lost gives nothing back that runs."""
        broker = opened()
        broker.publish([envelope("runs", queue="q"), envelope("lost", queue="q")])
        with consuming(broker, "q") as consumer, consuming(broker, "q") as other:
            (runs,) = consumer.receive(1, 0)
            lose_answer("claim")
            with pytest.raises(OperationalError):
                consumer.receive(1, 0)
            (lost,) = consumer.receive(10, 0.2)
            assert lost.envelope.headers["id"] == "lost"
            assert other.receive(10, 0.1) == []
            acknowledge(consumer, [runs, lost])

    def test_an_earlier_consumer_of_that_name_is_left_to_its_heirs(self, opened, lose_answer):
        """What a process held that died is settled by who knows what it had started, and not by the one that has its name now."""
        broker = opened()
        broker.publish([envelope("started", queue="q")])
        with consuming(broker, "q", name="same") as dead:
            (started,) = dead.receive(1, 0)
        broker.publish([envelope("lost", queue="q")])
        with consuming(broker, "q", name="same") as consumer:
            lose_answer("claim")
            with pytest.raises(OperationalError):
                consumer.receive(1, 0)
            assert names(receive_all(consumer, 2)) == ["lost"]
            (inherited,) = consumer.inherit("same", {started.tag})
            assert inherited.envelope.headers["id"] == "started"

    @pytest.mark.parametrize("disposition", [Disposition.ACK, Disposition.REQUEUE])
    def test_settling_again_does_nothing_twice(self, opened, prefix, client, lose_answer, disposition):
        """A worker settles again what it got no answer for."""
        broker = opened()
        broker.publish([envelope("m", queue="q")])
        with consuming(broker, "q") as consumer:
            deliveries = consumer.receive(1, 0)
            lose_answer("settle")
            with pytest.raises(OperationalError):
                consumer.settle(settled(deliveries, disposition))
            consumer.settle(settled(deliveries, disposition))
            assert client.llen(f"{prefix}q") == (disposition is Disposition.REQUEUE)
            assert client.hlen(f"{prefix}unacked") == 0
