"""Kombu reads ours and we read kombu's, in Redis."""

import json
import time
import warnings
from contextlib import closing

import pytest
from kombu import Exchange
from kombu.transport.virtual.base import UndeliverableWarning

from django_tasks import clock
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.testing.broker_probes import envelope, names
from tests.contracts.redis_broker.conversing import acknowledge, consuming, kombu_channel


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
