"""What RabbitMQ's broker works out without a server: envelopes, delays, counts of deliveries, and the window."""

from types import SimpleNamespace
from typing import Any

import pytest
from amqp import spec
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_tasks import clock
from django_tasks.brokers.kombu import delays, window
from django_tasks.brokers.kombu.declaring import declared
from django_tasks.brokers.kombu.envelopes import earlier_deliveries, envelope_of, key_of_tag, outgoing, properties_of, task_key
from django_tasks.brokers.kombu.held import Held, delivery_of, last_in_a_row
from django_tasks.messages import DELIVERY_COUNT, Death, Envelope

ENVELOPE = Envelope(
    body=b"[[], {}, {}]",
    content_type="application/json",
    content_encoding="utf-8",
    headers={"id": "1", "task": "shop.pack"},
    properties={"correlation_id": "1", "reply_to": "box", "user_id": "guest", "expiration": "1000", "delivery_info": {}},
    queue="shop",
    priority=3,
)

# ---- envelopes


def test_an_envelope_there_and_back() -> None:
    """Everything that matters comes back; what RabbitMQ would act upon by itself does not travel."""
    properties = properties_of(ENVELOPE, 9)
    assert properties == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "application_headers": {"id": "1", "task": "shop.pack"},
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "1",
        "reply_to": "box",
        "user_id": "guest",
    }
    back = envelope_of(dict(properties), ENVELOPE.body, "", "shop", "shop")
    assert (back.body, back.headers, back.queue, back.priority) == (ENVELOPE.body, ENVELOPE.headers, "shop", 3)
    assert (back.content_type, back.content_encoding) == ("application/json", "utf-8")
    assert back.properties == {
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "1",
        "reply_to": "box",
        "user_id": "guest",
        "delivery_info": {"exchange": "", "routing_key": "shop"},
    }


def test_a_message_of_another_program_with_nothing_but_a_body() -> None:
    """It has kombu's defaults, and no task."""
    envelope = envelope_of({}, "text", "logs", "a.b", "shop")
    assert (envelope.content_type, envelope.content_encoding, envelope.headers) == ("application/data", "binary", {})
    assert (envelope.body, envelope.priority, envelope.exchange, envelope.routing_key) == (b"text", 0, "logs", "a.b")
    assert task_key(envelope.headers, envelope.properties) == ""


def test_what_comes_from_the_ladder_came_to_its_queue() -> None:
    """The ladder's exchange is nowhere to send a message again."""
    envelope = envelope_of({}, b"", "celery_delayed_delivery", delays.routing_key("shop", 5), "shop")
    assert (envelope.exchange, envelope.routing_key) == ("", "shop")


@pytest.mark.parametrize(("priority", "most", "sent"), [(-5, 9, 0), (0, 9, 0), (9, 9, 9), (200, 9, 9), (9, 5, 5)])
def test_priorities_are_those_of_the_queue(priority: int, most: int, sent: int) -> None:
    """RabbitMQ knows none below 0; above the queue's largest there is nothing."""
    envelope = Envelope(body=b"", content_type="", content_encoding="", headers={}, properties={}, queue="q", priority=priority)
    assert properties_of(envelope, most)["priority"] == sent


def test_messages_may_be_transient() -> None:
    """By the setting for all, or by a property for one."""
    with override_settings(DJANGO_TASKS={"TASK_DEFAULT_DELIVERY_MODE": "transient"}):
        assert properties_of(ENVELOPE, 9)["delivery_mode"] == 1
    one = Envelope(body=b"", content_type="", content_encoding="", headers={}, properties={"delivery_mode": 1}, queue="q")
    assert properties_of(one, 9)["delivery_mode"] == 1


def test_a_message_goes_to_its_queue_by_name_or_where_its_route_says() -> None:
    """Without an exchange, a routing key means nothing: the queue's name is the address."""
    queue = declared("shop")
    message = outgoing(ENVELOPE, queue)
    assert (message.exchange, message.routing_key, message.mandatory) == ("", "shop", True)
    routed = Envelope(
        body=b"", content_type="", content_encoding="", headers={}, properties={}, queue="shop", exchange="topics", routing_key="a.b"
    )
    message = outgoing(routed, queue)
    assert (message.exchange, message.routing_key, message.mandatory) == ("topics", "a.b", True)


@pytest.mark.parametrize(
    ("headers", "properties", "key"),
    [
        ({"id": "a"}, {"correlation_id": "b"}, "a"),
        ({}, {"correlation_id": "b"}, "b"),
        ({"id": 5}, {}, ""),
        ({"id": "x" * 42}, {}, "x" * 42),
        ({"id": "x" * 43}, {}, "#"),
    ],
)
def test_the_key_of_a_task(headers: dict[str, Any], properties: dict[str, Any], key: str) -> None:
    """It fits into a tag, whatever a message has for an id; and a tag gives it back."""
    found = task_key(headers, properties)
    assert len(found) <= 42
    if key.startswith("#"):
        assert found[0] == "#"
        assert found != task_key({"id": "y" * 43}, {})
    else:
        assert found == key
    assert key_of_tag(f"1.27:{found}") == found
    assert key_of_tag("1.27:with:colons") == "with:colons"


@pytest.mark.parametrize(("count", "earlier"), [(3, 3), (0, 0), (-1, 0), (True, 0), ("3", 0), (None, 0)])
def test_a_count_that_is_no_count(count: Any, earlier: int) -> None:
    """Headers are anybody's to write."""
    assert earlier_deliveries({DELIVERY_COUNT: count}) == earlier


# ---- what is held


def held(number: int = 1, *, again: bool = False, queue: str = "shop", count: int | None = None) -> Held:
    """Hold a message; ``count`` is its header's."""
    headers = {} if count is None else {DELIVERY_COUNT: count}
    envelope = Envelope(body=b"", content_type="", content_encoding="", headers=headers, properties={}, queue=queue)
    return Held(number, f"1.{number}:key", envelope, declared(queue), "window", "key", again)


def test_deliveries_add_up() -> None:
    """Those in the header, those in the row, and this one."""
    assert delivery_of(held()).deliveries == 1
    assert delivery_of(held(count=2)).deliveries == 3
    assert delivery_of(held(again=True, count=2), 1, Death("lost")).deliveries == 4
    assert delivery_of(held(again=True), -1).deliveries == 1
    assert delivery_of(held(again=True), 1, Death("lost")).death == Death("lost")


def test_a_quorum_queues_own_count_is_not_ours() -> None:
    """It counts what was given back unread."""
    with override_settings(DJANGO_TASKS={"TASK_CREATE_MISSING_QUEUE_TYPE": "quorum"}):
        delivery = delivery_of(held(again=True, queue="elsewhere", count=7), 1)
        assert delivery.deliveries == 2
        assert DELIVERY_COUNT not in delivery.envelope.headers
        assert delivery_of(held(queue="elsewhere", count=7)).deliveries == 8


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_one_frame_acknowledges_what_is_gone_in_a_row(numbers: set[int], chosen: set[int]) -> None:
    """Nothing that is still held lies at or below the number."""
    outstanding = {f"tag-{number}": SimpleNamespace(number=number) for number in sorted(numbers)}
    last = last_in_a_row(outstanding, {f"tag-{number}" for number in chosen})  # type: ignore[arg-type]
    covered = {number for number in numbers if number <= last}
    assert covered <= chosen
    assert len(covered) != 1
    if not covered:
        assert not set(sorted(numbers)[:2]) <= chosen or len(numbers) < 2


# ---- delays


@given(st.text(min_size=1, max_size=30), st.floats(0, delays.LONGEST))
def test_the_way_through_the_ladder(queue: str, seconds: float) -> None:
    """The key tells the seconds in binary, rounded up; behind them stands one word for the queue."""
    *bits, word = delays.routing_key(queue, seconds).split(".")
    assert len(bits) == 28
    whole = int("".join(bits), 2)
    assert max(1, seconds) <= whole < max(1, seconds) + 1
    assert delays.without_delay(delays.routing_key(queue, seconds)) == word


@pytest.mark.parametrize("key", ["", "shop", "a.b.c", "1.2.3", "x." * 40, "0." * 20 + "shop"])
def test_other_keys_stay_as_they_are(key: str) -> None:
    """Only a whole way through the ladder is one."""
    assert delays.without_delay(key) == key


def test_celerys_keys_lose_their_delay() -> None:
    """Celery puts the queue's routing key behind the bits."""
    assert delays.without_delay("0." * 27 + "1." + "orders.eu") == "orders.eu"


def test_seconds_until_a_moment() -> None:
    """No moment, no wait."""
    now = clock.now()
    assert delays.seconds_until(None, now) == 0
    assert delays.seconds_until(now, now) == 0


# ---- the window


class Channel:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.cancel_callbacks: dict[str, Any] = {}
        self.callbacks: dict[str, Any] = {}

    def send_method(self, method: Any, _: str, args: tuple[Any, ...]) -> None:
        """A method without an answer."""
        self.said.append(("cancel", args[0]) if method == spec.Basic.Cancel else ("shared", args[1]))

    def basic_qos(self, _: int, count: int, shared: bool) -> None:
        """A prefetch count for consumers to come."""
        self.said.append(("each", count))

    def basic_consume(self, queue: str, name: str, **_: Any) -> None:
        """A consumer."""
        self.said.append(("consume", queue))
        self.callbacks[name] = True

    def heard(self) -> list[tuple[Any, ...]]:
        """What it was told since the last look."""
        said, self.said = self.said, []
        return said


@pytest.fixture
def channel() -> Channel:
    return Channel()


def opened(channel: Channel, version: str, known: window.Window | None = None) -> window.Window:
    """A window of one queue."""
    connection = SimpleNamespace(server_properties={"version": version})
    return window.Window(channel, connection, [declared("shop")], lambda *_: None, known=known)


def test_a_shared_window_grows_at_once_and_shrinks_late(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count that goes up and down with each batch is not sent each time; one that stays too large keeps messages from others."""
    now = 100.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    one = opened(channel, "3.10.8")
    assert one.widen(1, waiting=0, outstanding=0)
    assert channel.heard() == [("shared", 1), ("consume", "shop")]
    assert not one.widen(1, waiting=0, outstanding=0)
    assert one.widen(500, waiting=0, outstanding=0)
    assert channel.heard() == [("shared", 625)]
    assert not one.widen(500, waiting=500, outstanding=500)
    assert not one.widen(400, waiting=0, outstanding=100)
    now += 0.9
    assert not one.widen(10, waiting=0, outstanding=0)
    assert channel.heard() == []
    now += 0.9
    assert not one.widen(10, waiting=0, outstanding=0)
    assert channel.heard() == [("shared", 10)]
    one.close()
    assert not one.is_open
    assert [word for word, _ in channel.heard()] == ["cancel"]


def test_a_consumers_own_window_is_replaced(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ 4 gives each consumer a count for good: what is held by it counts until it is settled."""
    now = 100.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    one = opened(channel, "4.0.1")
    assert one.widen(10, waiting=0, outstanding=0)
    assert channel.heard() == [("each", 10), ("consume", "shop")]
    (name,) = one.sources
    one.held[name] += 6
    assert not one.widen(4, waiting=0, outstanding=6)
    assert one.widen(5, waiting=0, outstanding=6)
    assert [word for word, _ in channel.heard()] == ["cancel", "each", "consume"]
    assert len(one.sources) == 2
    for _ in range(6):
        one.left(name)
    assert not one.held
    assert one.widen(100, waiting=0, outstanding=0)
    assert not one.widen(6, waiting=0, outstanding=0)
    channel.heard()
    now += 5
    assert one.widen(6, waiting=0, outstanding=0)
    assert [word for word, _ in channel.heard()] == ["cancel", "each", "consume"]


def test_ended_consumers_are_forgotten_in_time(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their messages may still be under way, but not for ever; a window that follows another one knows them."""
    monkeypatch.setattr(window, "_REMEMBERED", 3)
    one = opened(channel, "3.10.8")
    for _ in range(5):
        one.widen(1, waiting=0, outstanding=0)
        one.close()
    assert len(one.sources) == len(channel.callbacks) == 3
    after = opened(channel, "3.10.8", known=one)
    assert after.sources == one.sources
    after.widen(1, waiting=0, outstanding=0)
    after.close()
    assert len(after.sources) == len(channel.callbacks) == 3


def test_a_consumer_that_the_server_ended_is_an_error(channel: Channel) -> None:
    """Its queue has been deleted: whoever reconnects declares it again."""
    one = opened(channel, "3.10.8")
    one.widen(1, waiting=0, outstanding=0)
    (name,) = one.sources
    with pytest.raises(ConnectionError, match="has its queue been deleted"):
        one._cancelled(name)


@pytest.mark.parametrize(("version", "shared"), [("3.13.7", True), ("4.1.0", False), ("", True), ("unknown", True)])
def test_which_servers_share_a_window(channel: Channel, version: str, shared: bool) -> None:
    """RabbitMQ 4 knows no count for a whole channel."""
    opened(channel, version).widen(7, waiting=0, outstanding=0)
    assert channel.heard()[0] == ("shared" if shared else "each", 7)


@pytest.mark.parametrize("task_id", ["\ud800", "0\ud800" * 40, "a\0b", "é" * 30, "y" * 300])
def test_every_id_has_a_key_that_a_row_can_have(task_id):
    """A redelivered message is counted in a row by its key, whatever its id: half a surrogate pair stopped the queue."""
    key = task_key({"id": task_id}, {})
    assert key.encode()
    assert key.isprintable()
    assert len(key) <= 42
    assert key == task_key({"id": task_id}, {})
