"""The broker contract over kombu's virtual transports."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_tasks import clock
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.brokers.kombu import KombuBroker
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Disposition
from django_tasks.urls import parse

# Before it is imported, so that its assertions say what they saw.
pytest.register_assert_rewrite("django_tasks.testing.broker_contract", "django_tasks.testing.lease_contract")

from django_tasks.testing.broker_contract import BrokerContract  # noqa: E402
from django_tasks.testing.broker_probes import envelope, names, settled  # noqa: E402


class KombuContract(BrokerContract):
    """kombu's virtual transports: what they can't do is said by ``ODD_NAMES`` and ``MANY``."""

    MANY = 500

    @pytest.fixture
    def broker(self, url: str, transport_options: dict[str, object]) -> Iterator[Broker]:
        broker = KombuBroker([parse(url)], **transport_options)
        yield broker
        for name in broker._queues:
            broker.purge(name)
        broker.close()


class TestKombuMemory(KombuContract):
    @pytest.fixture
    def url(self) -> str:
        return "memory://"

    @pytest.fixture
    def transport_options(self) -> dict[str, object]:
        return {}


class Unordered(KombuContract):
    """Transports that keep no order: nothing is lost and nothing comes twice, that is all."""

    def test_first_come_first_served(self, broker: Broker) -> None:
        """All that was sent arrives once, in any order."""
        broker.publish([envelope(str(number)) for number in range(20)])
        with self.consuming(broker) as consumer:
            assert sorted(map(int, _drained(consumer))) == list(range(20))

    def test_many(self, broker: Broker) -> None:
        """Many messages arrive, each once."""
        broker.publish([envelope(str(number)) for number in range(self.MANY)])
        with self.consuming(broker) as consumer:
            assert sorted(map(int, _drained(consumer))) == list(range(self.MANY))

    def test_bodies_hold_any_bytes(self, broker: Broker) -> None:
        """A body is bytes: none of them means anything to the transport."""
        bodies = [b"", bytes(range(256)), b"\x00", b"\xff\xfe\\x00'%s\n", b"x" * 100_000]
        broker.publish([envelope(str(number), body=body) for number, body in enumerate(bodies)])
        with self.consuming(broker) as consumer:
            received = {}
            while deliveries := consumer.receive(10, 1.5):
                received.update({int(one.envelope.headers["id"]): one.envelope.body for one in deliveries})
                consumer.settle(settled(deliveries, Disposition.ACK))
        assert received == dict(enumerate(bodies))


def _drained(consumer: Consumer) -> list[str]:
    found: list[str] = []
    while deliveries := consumer.receive(50, 1.5):
        found += names(deliveries)
        consumer.settle(settled(deliveries, Disposition.ACK))
    return found


class TestKombuFilesystem(Unordered):
    # kombu's own rule.
    ODD_NAMES = ("with_underscore", "with-dash", "with.dot", "Case", "case")

    @pytest.fixture
    def url(self) -> str:
        return "filesystem://"

    @pytest.fixture
    def transport_options(self, tmp_path: Path) -> dict[str, object]:
        for name in ("queue", "control"):
            (tmp_path / name).mkdir()
        return {
            "data_folder_in": str(tmp_path / "queue"),
            "data_folder_out": str(tmp_path / "queue"),
            "control_folder": str(tmp_path / "control"),
        }


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Moto's SQS at a free port."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.mark.slow
@pytest.mark.needs("moto")
@pytest.mark.needs("boto3")
class TestSQS(Unordered):
    """Against moto's server."""

    # kombu makes underscores of all else, and SQS takes 80 letters.
    ODD_NAMES = ("with_underscore", "with-dash", "Case", "case", "x" * 70)
    MANY = 100

    @pytest.fixture
    def url(self, server: str) -> str:
        return f"sqs://key:secret@{server}"

    @pytest.fixture
    def transport_options(self) -> dict[str, object]:
        # SQS purges a queue once a minute, so each test has its own.
        return {"is_secure": False, "region": "us-east-1", "queue_name_prefix": f"t{next(_runs)}-"}

    @pytest.fixture
    def broker(self, url: str, transport_options: dict[str, object]) -> Iterator[Broker]:
        broker = KombuBroker([parse(url)], **transport_options)
        # Its delays are whole seconds, which the contract's are not.
        broker.delays = False
        yield broker
        broker.close()

    def test_consumers_never_share(self, broker: Broker) -> None:
        """No message goes to two consumers."""
        broker.publish([envelope(str(number), queue="shared") for number in range(30)])
        with self.consuming(broker, "shared") as one, self.consuming(broker, "shared", name="two") as two:
            got = names(one.receive(10, 5)) + names(two.receive(10, 5)) + names(one.receive(10, 5))
        assert len(got) == len(set(got)) >= 20

    def test_size_purge_and_queues(self, broker: Broker) -> None:
        """Sizes count what waits, and purging deletes it."""
        broker.publish([envelope(str(number), queue="a") for number in range(4)])
        assert (broker.size("a"), broker.queues(), broker.size("b")) == (4, ["a"], 0)
        assert broker.purge("a") == 4
        assert broker.size("a") == 0

    def test_delayed_by_the_queue(self, broker: Broker) -> None:
        """SQS keeps a message aside for up to 15 minutes; what is longer is refused with words."""
        assert broker.longest_delay == 900
        broker.publish([envelope("later", not_before=clock.after(1.5)), envelope("now")])
        with self.consuming(broker) as consumer:
            assert names(consumer.receive(10, 5)) == ["now"]
            assert names(consumer.receive(10, 10)) == ["later"]
        with pytest.raises(OperationalError, match="900 s at most"):
            broker.publish([envelope("much later", not_before=clock.after(1000))])

    def test_received_twice_is_counted(self, broker: Broker) -> None:
        """A message whose visibility ran out comes again, and is counted; ``extend`` keeps it."""
        broker.publish([envelope("kept"), envelope("lost")])
        with self.consuming(broker) as consumer, self.consuming(broker, name="two") as other:
            held = {one.envelope.headers["id"]: one for one in consumer.receive(10, 5)}
            consumer.lease = 1
            consumer.extend([held["lost"]])
            (again,) = other.receive(10, 10)
            assert (names([again]), again.deliveries) == (["lost"], 2)


_runs = itertools.count()
