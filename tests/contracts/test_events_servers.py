"""Events and servers in trouble: away, cut off, silent, back again, and lists of several."""

import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest
import redis

from django_tasks import clock
from django_tasks.events import EventReceiver, open_channel
from django_tasks.events.channel import Event, EventChannel
from django_tasks.exceptions import OperationalError
from django_tasks.testing.event_contract import heard, task_event
from tests.privateservers import free_port
from tests.processes import SOON, wait_until
from tests.proxy import Proxy
from tests.services import SERVICES

#: Seconds in which a server must answer, in these tests.
PATIENCE = 1.0


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis), pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def address(request, settings) -> str:
    """A URL with ``{port}`` in it."""
    settings.DJANGO_TASKS = {"BROKER_CONNECTION_TIMEOUT": PATIENCE}
    if request.param == "redis":
        return "redis://127.0.0.1:{port}/6"
    return request.getfixturevalue("virtual_host").replace(":5672/", ":{port}/")


@pytest.fixture
def relay(address) -> Iterator[Proxy]:
    parts = urlsplit(SERVICES["redis" if address.startswith("redis") else "rabbitmq"].url)
    with Proxy(parts.hostname or "127.0.0.1", parts.port or (6379 if address.startswith("redis") else 5672)) as relay:
        yield relay


@pytest.fixture
def channel(address, relay) -> Iterator[EventChannel]:
    channel = open_channel(address.format(port=relay.port))
    yield channel
    channel.close()


def hears_something_new(channel: EventChannel, receiver: EventReceiver) -> bool:
    """Whether an event that is sent now is heard; news of before may come along, or get lost."""
    said: Event = task_event("started", int(clock.monotonic() * 1000))
    with suppress(OperationalError):
        channel.send([said])
        return said in heard_within(receiver, 2.0)
    return False


def heard_within(receiver: EventReceiver, seconds: float) -> list[Event]:
    found: list[Event] = []
    end = clock.monotonic() + seconds
    while (left := end - clock.monotonic()) > 0 and not found:
        found += receiver.receive(left)
    return found


def test_a_server_that_is_away_is_told_at_once(address):
    """Sending and listening raise OperationalError with the address, and without the password."""
    url = address.format(port=free_port()).replace("guest:guest@", "guest:geheim@")
    with_password = url.replace("redis://127", "redis://:geheim@127")
    channel = open_channel(with_password)
    begun = clock.monotonic()
    with pytest.raises(OperationalError, match=r"Sending 1 event\(s\) failed at .*127.0.0.1") as caught:
        channel.send([task_event("started")])
    with pytest.raises(OperationalError, match="Listening to events failed"):
        channel.listen()
    assert clock.monotonic() - begun < 2 * PATIENCE + SOON
    assert "geheim" not in str(caught.value)


def test_a_server_that_says_nothing_holds_nobody(address, relay, channel):
    """A connection that is taken and then not answered ends after BROKER_CONNECTION_TIMEOUT, twice at most."""
    relay.stall()
    begun = clock.monotonic()
    with pytest.raises(OperationalError, match=r"no answer in time|timed out|Timeout"):
        channel.send([task_event("started")])
    assert clock.monotonic() - begun < 2 * PATIENCE + SOON


def test_a_connection_that_falls_silent_holds_nobody(address, relay, channel):
    """Redis answers each event, so silence shows, and is an error; to RabbitMQ they are sent without waiting."""
    channel.send([task_event("started")])
    relay.stall()
    begun = clock.monotonic()
    with suppress(OperationalError):
        channel.send([task_event("started")])
    assert clock.monotonic() - begun < 3 * PATIENCE + SOON


def test_a_connection_that_was_cut_is_opened_again(relay, channel):
    """Without an error for whoever sends; whoever listens hears what is sent from then on."""
    with channel.listen() as receiver:
        channel.send([task_event("started", 1)])
        assert len(heard(receiver, 1)) == 1
        relay.cut()
        channel.send([task_event("started", 2)])
        wait_until(lambda: hears_something_new(channel, receiver), "the receiver to hear again")


def test_a_server_that_comes_back(relay, channel):
    """While it is away sending and receiving raise OperationalError; then both go on."""
    with channel.listen() as receiver:
        channel.send([task_event("started", 1)])
        assert len(heard(receiver, 1)) == 1
        relay.close()
        with pytest.raises(OperationalError, match="Receiving events failed"):
            receiver.receive(20)
        with pytest.raises(OperationalError, match="Sending 1 event"):
            channel.send([task_event("started", 2)])
        relay.open()
        wait_until(lambda: hears_something_new(channel, receiver), "the receiver to hear again")


def test_of_a_list_the_first_that_answers(address, relay):
    """A fail-over list reaches whoever is there."""
    channel = open_channel([address.format(port=free_port()), address.format(port=relay.port)])
    with channel.listen() as receiver:
        channel.send([task_event("started", 1)])
        assert len(heard(receiver, 1)) == 1
    channel.close()


@pytest.mark.redis
def test_receivers_leave_nothing_in_redis(settings):
    """Of any number of receivers that were closed, no key is left but one of kombu's, which doesn't grow."""
    settings.DJANGO_TASKS = {"BROKER_TRANSPORT_OPTIONS": {"global_keyprefix": f"left-{uuid.uuid4().hex}:"}}
    url = SERVICES["redis"].url.rpartition("/")[0] + "/6"
    with closing(open_channel(url)) as channel:
        for _ in range(3):
            with channel.listen("task.failed") as receiver:
                channel.send([task_event("failed")])
                assert len(heard(receiver, 1)) == 1
    with redis.Redis.from_url(url) as client:
        left = [key.partition(b":")[2] for key in client.scan_iter(match="left-*")]
        assert set(left) <= {b"_kombu.binding_deadlines"}
        for key in client.scan_iter(match="left-*"):
            assert client.zcard(key) <= 1
            client.delete(key)
