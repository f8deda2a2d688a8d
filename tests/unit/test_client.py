"""Sending: retry policies, and what envelopes look like when the broker gets them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from django_tasks import brokers, client, result_backends, signals
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.exceptions import EncodeError, OperationalError
from django_tasks.messages import Envelope, TaskMessage
from django_tasks.protocol import decode


class FailingBroker(MemoryBroker):
    """Fails as often as it is told, then works."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("client-tests")
        self.errors = list(errors)
        self.tries = 0
        self.sent: list[Envelope] = []

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        self.sent += envelopes


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect what would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    return slept


def using(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> FailingBroker:
    broker = FailingBroker(*errors)
    monkeypatch.setattr(brokers, "current", lambda: broker)
    return broker


def down(times: int) -> list[Exception]:
    return [OperationalError("down")] * times


def message(**fields: Any) -> TaskMessage:
    return TaskMessage(id="1", task="t", **fields)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, [0.0, 0.2, 0.4]),
        ({"max_retries": 1}, [0.0]),
        ({"max_retries": 0}, []),
        ({"interval_start": 0.5, "interval_step": 0.5, "interval_max": 1.2, "max_retries": 4}, [0.5, 1.0, 1.2, 1.2]),
        ({"interval_start": 5, "interval_max": 1}, [1, 1, 1]),
        ({"max_retries": 2, "errback": None, "on_revive": None}, [0.0, 0.2]),
    ],
)
def test_a_retry_policy_says_when_to_try_again(monkeypatch, pauses, policy, expected):
    """Celery's keys with Celery's meaning, over its defaults; keys of kombu's that mean nothing here are passed over."""
    broker = using(monkeypatch, *down(20))
    with pytest.raises(OperationalError, match="down"):
        client.publish([message()], retry_policy=policy)
    assert pauses == pytest.approx(expected)
    assert broker.tries == len(expected) + 1


def test_a_broker_that_comes_back_in_time(monkeypatch, pauses):
    """The caller notices nothing but the wait."""
    broker = using(monkeypatch, *down(2))
    client.publish([message()])
    assert len(broker.sent) == 1


def test_no_retries_give_none(monkeypatch, pauses):
    """``max_retries=None`` tries for as long as it takes."""
    broker = using(monkeypatch, *down(50))
    client.publish([message()], retry_policy={"max_retries": None})
    assert broker.tries == 51


@pytest.mark.parametrize("settings_say", [True, False])
def test_without_retry(monkeypatch, pauses, settings, settings_say):
    """``retry=False``, or TASK_PUBLISH_RETRY, fails at once; the call wins over the setting."""
    settings.DJANGO_TASKS = {"TASK_PUBLISH_RETRY": settings_say}
    broker = using(monkeypatch, *down(1))
    if settings_say:
        with pytest.raises(OperationalError):
            client.publish([message()], retry=False)
        assert broker.tries == 1
    else:
        client.publish([message()], retry=True)
        assert broker.tries == 2


def test_retry_errors_are_tried_again_too(monkeypatch, pauses):
    """Other exceptions end it at once, unless the policy names them."""
    broker = using(monkeypatch, TimeoutError(), KeyError("x"))
    with pytest.raises(KeyError):
        client.publish([message()], retry_policy={"retry_errors": [TimeoutError]})
    assert broker.tries == 2
    client.publish([message()], retry_policy={"retry_errors": None})


def test_forward_sends_as_it_is_and_once(monkeypatch, pauses):
    """No second try, nothing changed; nothing at all for nothing."""
    broker = using(monkeypatch, *down(1))
    one = Envelope(body=b"x", content_type="c", content_encoding="e", headers={"a": 1}, properties={"b": 2}, queue="q")
    with pytest.raises(OperationalError):
        client.forward([one])
    assert pauses == []
    client.forward([one])
    client.forward([])
    assert broker.sent == [one]
    assert broker.tries == 2


def test_results_that_are_sent_back_name_their_queue(monkeypatch, settings):
    """With rpc:// every call says where its result is to go, unless the caller did; with others the backend isn't even opened."""

    class Backend:
        reply_to = "my-replies"

    opened = []

    def current() -> Backend:
        opened.append(1)
        return Backend()

    broker = using(monkeypatch)
    monkeypatch.setattr(result_backends, "current", current)
    client.publish([message()])
    assert not opened
    settings.DJANGO_TASKS = {"RESULT_BACKEND": "rpc://"}
    client.publish([message(), message(reply_to="elsewhere")])
    assert [one.properties["reply_to"] for one in broker.sent] == ["", "my-replies", "elsewhere"]


@pytest.mark.parametrize(("serializer", "compression"), [("json", None), ("json", "gzip"), ("yaml", None), ("pickle", None)])
def test_receivers_change_the_arguments(monkeypatch, serializer, compression):
    """Receivers must get the body as Celery's do, ``(args, kwargs, embed)``, and what they change in it must be sent and told."""
    broker, told = using(monkeypatch), []

    def before(body, **kwargs):
        args, kwargs, embed = body
        kwargs["tenant"], args[0]["seen"], embed["chain"] = 7, True, [{"task": "t.next", "args": [], "kwargs": {}, "options": {}}]

    def after(body, **kwargs):
        told.append(body)

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        client.publish([message(args=({"at": datetime(2026, 1, 1, tzinfo=UTC)},), serializer=serializer, compression=compression)])
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    sent = decode(broker.sent[0], accept=[serializer])
    assert (list(sent.args), sent.kwargs) == ([{"at": datetime(2026, 1, 1, tzinfo=UTC), "seen": True}], {"tenant": 7})
    assert sent.embed["chain"][0]["task"] == "t.next"
    assert told == [([*sent.args] if serializer != "pickle" else sent.args, sent.kwargs, told[0][2])]


def test_a_body_that_a_receiver_spoils(monkeypatch):
    """What a receiver puts in and no message can carry must be an error that names the task; nothing is sent."""
    broker = using(monkeypatch)

    def before(body, **kwargs):
        body[1]["bad"] = object()

    signals.before_task_publish.connect(before)
    try:
        with pytest.raises(EncodeError, match="the task 't' can't be sent"):
            client.publish([message()])
    finally:
        signals.before_task_publish.disconnect(before)
    assert broker.sent == []
