"""The broker contract on Redis, with both orders of priorities."""

import json
import os
import statistics
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
import redis
from kombu import Connection, Exchange
from kombu.transport.virtual.base import UndeliverableWarning

from django_tasks import clock
from django_tasks.brokers import open_broker
from django_tasks.brokers.broker import Broker
from django_tasks.brokers.redis import RedisBroker, waiting
from django_tasks.brokers.redis.consumer import RedisConsumer
from django_tasks.exceptions import EncodeError, ImproperlyConfigured, OperationalError
from django_tasks.messages import Disposition, Settlement
from tests.processes import DEADLINE, SOON
from tests.services import SERVICES

# Before it is imported, so that its assertions say what they saw.
pytest.register_assert_rewrite("django_tasks.testing.broker_contract", "django_tasks.testing.lease_contract")

from django_tasks.testing.broker_contract import BrokerContract  # noqa: E402
from django_tasks.testing.broker_probes import envelope, names, settled  # noqa: E402

URL = SERVICES["redis"].url.rpartition("/")[0] + "/1"


@pytest.mark.redis
class TestRedis(BrokerContract):
    @pytest.fixture(params=["larger", "celery"])
    def broker(self, request: pytest.FixtureRequest, settings) -> Iterator[Broker]:
        prefix = f"contract-{uuid.uuid4().hex}:"
        options = {"global_keyprefix": prefix, "priority_order": request.param}
        settings.DJANGO_TASKS = {"BROKER_TRANSPORT_OPTIONS": options}
        broker = open_broker(URL)
        if request.param == "celery":
            # Celery's four steps, the other way round: what is told apart is tested elsewhere.
            broker.priorities = 4  # type: ignore[misc]
        yield broker
        with redis.Redis.from_url(URL) as client:
            for key in client.scan_iter(match=prefix + "*", count=1000):
                client.delete(key)
        broker.close()


# ------------------------------------------------------------------------------------------------ what others see of it


@pytest.fixture
def prefix() -> Iterator[str]:
    """What the keys of one test begin with."""
    prefix = f"test-{uuid.uuid4().hex}:"
    yield prefix
    with redis.Redis.from_url(URL) as client:
        for key in client.scan_iter(match=prefix + "*", count=1000):
            client.delete(key)


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(URL, decode_responses=True) as client:
        yield client


@pytest.fixture
def opened(settings, prefix) -> Iterator[Callable[..., RedisBroker]]:
    """Open brokers with the test's prefix."""
    brokers = []

    def opened(**options: object) -> RedisBroker:
        settings.DJANGO_TASKS = {"BROKER_TRANSPORT_OPTIONS": {"global_keyprefix": prefix, **options}}
        brokers.append(open_broker(URL))
        return brokers[-1]

    yield opened
    for broker in brokers:
        broker.close()


@contextmanager
def consuming(broker: Broker, *queues: str, name: str = "") -> Iterator[RedisConsumer]:
    with closing(broker.consume(queues or ("default",), consumer_id=name or uuid.uuid4().hex)) as consumer:
        yield consumer


@contextmanager
def kombu_channel(prefix: str, **options: object) -> Iterator[Connection]:
    with Connection(URL, transport_options={"global_keyprefix": prefix, **options}) as connection:
        yield connection


def acknowledge(consumer: RedisConsumer, deliveries) -> None:
    consumer.settle(settled(deliveries, Disposition.ACK))


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
class TestBesideKombu:
    """Both ways, by kombu itself."""

    def test_kombu_reads_what_we_publish(self, opened, prefix):
        """Body, headers and properties arrive, and nothing is left when kombu has acknowledged."""
        broker = opened()
        broker.publish([envelope("1", body=b'{"x": 1}')])
        broker.publish([envelope(str(number), body=b'{"x": 1}') for number in (2, 3)])
        with kombu_channel(prefix) as connection, closing(connection.SimpleQueue("default")) as queue:
            for number in (1, 2, 3):
                message = queue.get(timeout=50)
                assert (message.payload, message.headers["id"]) == ({"x": 1}, str(number))
                assert message.delivery_info["routing_key"] == "default"
                message.ack()
        assert broker.size("default") == 0

    def test_we_read_what_kombu_publishes(self, opened, prefix, client):
        """Kombu's message arrives with its queue, its headers, and one hand-out."""
        broker = opened()
        with kombu_channel(prefix) as connection:
            connection.Producer().publish([[1], {}, {}], routing_key="default", headers={"id": "k", "task": "t"}, priority=0)
        with consuming(broker) as consumer:
            (delivery,) = consumer.receive(10, 5)
            assert (delivery.envelope.body, delivery.envelope.headers["id"], delivery.deliveries) == (b"[[1], {}, {}]", "k", 1)
            held = client.hgetall(f"{prefix}unacked")
            assert list(held) == [delivery.tag]
            message, exchange, routing_key = json.loads(held[delivery.tag])
            assert (message["headers"]["id"], exchange, routing_key) == ("k", "", "default")
            assert abs(client.zscore(f"{prefix}unacked_index", delivery.tag) - time.time()) < 30
            acknowledge(consumer, [delivery])
        assert not client.exists(f"{prefix}unacked", f"{prefix}unacked_index", f"{prefix}_django_tasks.leases")

    def test_kombu_finds_our_queues_by_exchange(self, opened, prefix):
        """A producer that sends to the exchange of a queue's name reaches a worker of ours."""
        broker = opened()
        with consuming(broker) as consumer, kombu_channel(prefix) as connection:
            assert consumer.receive(1, 0) == []
            connection.Producer().publish([], exchange="default", routing_key="default", headers={"id": "named"})
            assert names(consumer.receive(1, 5)) == ["named"]

    def test_queues_of_named_exchanges(self, opened, prefix, settings):
        """Direct and topic exchanges of TASK_QUEUES are bound where kombu looks; a fanout is refused, by whoever publishes or consumes."""
        broker = opened()
        queues = {
            "direct": {"exchange": "media", "routing_key": "video"},
            "topic": {"exchange": "news", "exchange_type": "topic", "routing_key": "sport.#"},
            "all": {"exchange": "all", "exchange_type": "fanout"},
        }
        settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "TASK_QUEUES": queues}
        with consuming(broker, "direct", "topic") as consumer, kombu_channel(prefix) as connection:
            assert consumer.receive(1, 0) == []
            producer = connection.Producer()
            producer.publish([], exchange="media", routing_key="video", headers={"id": "video"})
            news = Exchange("news", "topic")
            for key in ("sport", "sport.ball.foot", "sports"):
                with warnings.catch_warnings():
                    # The last one finds no queue.
                    warnings.simplefilter("ignore", UndeliverableWarning)
                    producer.publish([], exchange=news, routing_key=key, headers={"id": key}, declare=[news])
            assert sorted(names(consumer.receive(10, 5))) == ["sport", "sport.ball.foot", "video"]
        with pytest.raises(ImproperlyConfigured, match="fanout"):
            broker.publish([envelope("1", queue="all")])
        with consuming(broker, "all") as consumer, pytest.raises(ImproperlyConfigured, match="fanout"):
            consumer.receive(1, 0)

    def test_kombu_restores_what_we_abandoned(self, opened, prefix):
        """When ours are gone for longer than kombu's visibility timeout, kombu puts our messages back; they count as handed out."""
        broker = opened()
        broker.publish([envelope("1")])
        with consuming(broker) as consumer:
            (held,) = consumer.receive(1, 5)
            with kombu_channel(prefix, visibility_timeout=0.001) as connection:
                time.sleep(0.01)
                connection.default_channel.qos.restore_visible(interval=1)
            (again,) = consumer.receive(1, 5)
            assert (again.deliveries, again.envelope.body) == (2, b"1")
            # Too late: it is the other one's.
            acknowledge(consumer, [held])
            consumer.extend([held])
            broker.recover(clock.after(10_000), limit=10)
            assert names(consumer.receive(1, 5)) == ["1"]

    def test_renewed_leases_keep_kombu_away(self, opened, prefix, client):
        """What is renewed is young in kombu's index, however old it was before."""
        broker = opened()
        broker.publish([envelope("1")])
        with consuming(broker) as consumer, kombu_channel(prefix, visibility_timeout=60) as connection:
            (held,) = consumer.receive(1, 5)
            client.zincrby(f"{prefix}unacked_index", -100, held.tag)
            consumer.extend([held])
            connection.default_channel.qos.restore_visible(interval=1)
            assert consumer.receive(1, 0) == []

    def test_we_restore_what_kombu_abandoned(self, opened, prefix, client):
        """Not before the visibility timeout, at the front, marked as kombu marks it; broken entries are dropped from the index."""
        broker = opened(visibility_timeout=100)
        with kombu_channel(prefix) as connection:
            producer = connection.Producer()
            producer.publish([], routing_key="default", headers={"id": "k"}, priority=6)
            queue = connection.SimpleQueue("default")
            message = queue.get(timeout=50)
            client.zadd(f"{prefix}unacked_index", {"gone": 5, "broken": 6})
            client.hset(f"{prefix}unacked", "broken", "no JSON")
            assert broker.recover(clock.after(90), limit=10) == 0
            assert broker.recover(clock.after(110), limit=10) == 1
            assert client.zcard(f"{prefix}unacked_index") == 0
            assert client.llen(f"{prefix}default\x06\x166") == 1
            with consuming(broker) as consumer:
                (again,) = consumer.receive(10, 5)
                assert (names([again]), again.deliveries, again.envelope.priority) == (["k"], 2, -6)
            # kombu must not put it back at the end, since it is no longer its own.
            connection.default_channel.qos._delivered.clear()
            del message
            queue.close()

    def test_priorities_lie_where_celery_looks(self, opened, prefix, client):
        """In Celery's order our numbers are Celery's; in ours, what has no priority lies in the plain list."""
        opened(priority_order="celery").publish([envelope(str(number), priority=number) for number in (0, 4, 9)])
        opened().publish([envelope(str(number), queue="ours", priority=number) for number in (0, 4, -7)])
        lengths = {key.removeprefix(prefix): client.llen(key) for key in client.scan_iter(match=f"{prefix}*") if client.type(key) == "list"}
        assert {key: length for key, length in lengths.items() if "bell" not in key} == {
            "default": 1,
            "default\x06\x163": 1,
            "default\x06\x169": 1,
            "ours": 1,
            "ours\x06\x16+4": 1,
            "ours\x06\x166": 1,
        }

    def test_celerys_messages_keep_celerys_order(self, opened, prefix):
        """Behind ours, 0 first."""
        broker = opened()
        with kombu_channel(prefix) as connection:
            for number in (9, 6, 0, 3):
                connection.Producer().publish([], routing_key="default", headers={"id": f"k{number}"}, priority=number)
        broker.publish([envelope("ours", priority=1)])
        with consuming(broker) as consumer:
            assert names(consumer.receive(10, 5)) == ["ours", "k0", "k3", "k6", "k9"]


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
