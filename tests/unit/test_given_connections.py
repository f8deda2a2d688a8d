"""``connection=`` and ``producer=`` of a call: without effect where they lead to BROKER_URL, refused where they lead elsewhere."""

import sys

import kombu
import pytest
from kombu.pools import producers

from django_tasks import app
from django_tasks.canvas import chain, chord, group
from django_tasks.registry import registry
from django_tasks.tasks import shared_task
from django_tasks.testing.overriding import overridden

REDIS = "redis://:secret@localhost:6379/3"
SENTINELS = ["sentinel://a:26379?master_name=orders", "sentinel://b:26379"]
MASTER = {"master_name": "orders"}


@pytest.fixture(autouse=True)
def add():
    """A task to send."""

    @shared_task(name="given.add")
    def add(x=0, y=0):
        return x + y

    yield registry["given.add"]
    registry.unregister("given.add")


def count(world):
    """Return how many messages were published."""
    return sum(len(batch) for batch in world.published)


@pytest.mark.parametrize(
    ("broker_url", "given"),
    [
        ("redis://:secret@localhost:6379/3", "redis://:other@127.0.0.1/3"),
        ("redis://", "redis://localhost:6379/0"),
        ("rediss://shop.example:6380/0", "rediss://shop.example:6380"),
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("amqp://guest:guest@localhost:5672//", "pyamqp://"),
        ("amqp://a/shop;amqp://b/shop", "amqp://b:5672/shop"),
        ("amqps://a/shop", "amqps://a:5671/shop"),
        pytest.param("sqs://key:secret@", "sqs://key:secret@", marks=pytest.mark.needs("boto3")),
    ],
)
def test_the_same_broker_in_other_words(world, add, broker_url, given):
    """A connection or producer must be accepted that leads where BROKER_URL leads, with whatever user, port or fail-over list."""
    with overridden(BROKER_URL=broker_url):
        connection = kombu.Connection(given)
        add.apply_async((1, 2), connection=connection)
        add.apply_async((1, 2), connection=app.connection())
        app.send_task("given.add", (1, 2), connection=connection)
        add.s(1, 2).apply_async(connection=connection)
    assert count(world) == 4


@pytest.mark.parametrize(
    ("broker_url", "given"),
    [
        (REDIS, "redis://localhost:6379/4"),
        (REDIS, "redis://localhost:6380/3"),
        (REDIS, "redis://elsewhere:6379/3"),
        (REDIS, "amqp://localhost:6379/3"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=1"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/other.sock"),
        ("amqp://a/shop;amqp://b/shop", "amqp://c/shop"),
        ("amqp://a/shop", "amqp://a//"),
        pytest.param("sqs://key:secret@", "sqs://other:secret@", marks=pytest.mark.needs("boto3")),
        ("db://default", "redis://localhost:6379/0"),
        ("memory://", "redis://localhost:6379/0"),
    ],
)
def test_another_broker(world, add, broker_url, given):
    """A call that was meant for another broker must be refused, and sent nowhere: neither there nor to BROKER_URL."""
    with overridden(BROKER_URL=broker_url):
        connection = kombu.Connection(given)
        calls = (
            lambda: add.apply_async((1, 2), connection=connection),
            lambda: add.apply_async((1, 2), publisher=kombu.Producer(connection, auto_declare=False)),
            lambda: app.send_task("given.add", (1, 2), connection=connection),
            lambda: app.send_task("given.unknown", (1, 2), connection=connection),
            lambda: add.s(1, 2).set(connection=connection).delay(),
            lambda: chain(add.s(1), add.s(2)).apply_async(connection=connection),
            lambda: group(add.s(1), add.s(2)).apply_async(producer=connection),
            lambda: chord([add.s(1), add.s(2)], add.si()).apply_async(connection=connection),
        )
        for call in calls:
            with pytest.raises(ValueError, match="there is one broker, BROKER_URL"):
                call()
    assert world.published == []
    assert world.results.chords == {}


def test_what_the_refusal_says(world, add):
    """It must name the task, the option and both brokers without their passwords, and say what can be done."""
    with overridden(BROKER_URL=REDIS), pytest.raises(ValueError, match=r"calling given\.add: ") as refused:
        add.apply_async((1, 2), connection=kombu.Connection("amqp://me:hidden@elsewhere/shop"))
    text = str(refused.value)
    assert "connection= leads to amqp://me:**@elsewhere:5672/shop" in text
    assert "BROKER_URL redis://:**@localhost:6379/3" in text
    assert "Nothing was sent" in text
    assert "Celery(broker=url).send_task('given.add'" in text
    assert "secret" not in text
    assert "hidden" not in text


def test_sentinels_of_another_master(world, add):
    """Behind the same sentinels there may be several brokers: the master's name must count, at each address of the list."""
    with overridden(BROKER_URL=SENTINELS):
        add.apply_async((1, 2), connection=kombu.Connection("sentinel://b:26379", transport_options=MASTER))
        with pytest.raises(ValueError, match="one broker"):
            add.apply_async((1, 2), connection=kombu.Connection("sentinel://b:26379", transport_options={"master_name": "mail"}))
    assert count(world) == 1


def test_producers_of_kombus_pool(world, add):
    """A producer must be judged by its connection, also when it comes from kombu's pool."""
    with overridden(BROKER_URL="memory://"), app.connection() as ours:
        add.apply_async((1, 2), connection=ours)
        with (
            producers[kombu.Connection("memory://")].acquire(block=True) as producer,
            pytest.raises(ValueError, match="producer= leads to"),
        ):
            add.apply_async((1, 2), producer=producer)
    assert count(world) == 1


def test_aliases_are_brokers_of_their_own(world, add):
    """With the database as the broker, a connection of app.connection() to another alias must be refused, its own accepted."""
    with overridden(BROKER_URL="db://"):
        add.apply_async((1, 2), connection=app.connection())
        add.apply_async((1, 2), connection=app.connection("db://default"))
        with pytest.raises(ValueError, match="db://reports"):
            add.apply_async((1, 2), connection=app.connection("db://reports"))
    assert count(world) == 2


def test_what_is_no_connection(world, add):
    """Whatever else is given must be refused by name: it can't be told where it leads."""
    with pytest.raises(TypeError, match=r"producer=<object object.* is no connection"):
        add.apply_async((1, 2), producer=object())
    assert world.published == []


def test_a_retry_for_another_broker(world):
    """A retry must not leave for BROKER_URL when another broker was asked for: the task fails, and says why."""

    @shared_task(name="given.retried", bind=True)
    def retried(self):
        self.retry(connection=kombu.Connection("redis://elsewhere"))

    try:
        result = retried.delay()
        world.run()
    finally:
        registry.unregister("given.retried")
    meta = world.results.metas[result.id]
    assert (meta.status, count(world)) == ("FAILURE", 1)
    assert "one broker" in meta.result


def test_none_is_no_connection(world, add, monkeypatch):
    """None, as Celery's own code hands it on, and calls without these options must not as much as load kombu's connections."""
    monkeypatch.setitem(sys.modules, "django_tasks.kombuaccess", None)
    add.apply_async((1, 2), connection=None, producer=None)
    add.delay(1, 2)
    group(add.s(1), add.s(2)).apply_async(producer=None)
    assert count(world) == 4
    with pytest.raises(ImportError):
        add.apply_async((1, 2), connection=object())


def test_purging_another_broker(monkeypatch):
    """``app.control.purge(connection)`` must not empty this project's queues in the place of another broker's."""
    monkeypatch.setattr("django_tasks.brokers.current", lambda: pytest.fail("the broker was reached"))
    with overridden(BROKER_URL=REDIS), pytest.raises(ValueError, match="Nothing was deleted"):
        app.control.purge(connection=kombu.Connection("redis://elsewhere"))
