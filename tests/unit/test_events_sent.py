"""``task-sent``: what a client says of the messages that have left it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from django_tasks import brokers, events, group, shared_task
from django_tasks.client import origin
from django_tasks.events.buffer import EventBuffer, install, uninstall
from django_tasks.events.channel import EventReceiver
from django_tasks.exceptions import OperationalError


@shared_task(name="tests.sent.add")
def add(one, other):
    """Add them."""
    return one + other


@pytest.fixture
def url(settings: Any) -> str:
    """A broker, results and events of this test alone; every message is spoken of."""
    url = f"memory://{uuid4().hex}"
    settings.DJANGO_TASKS = {"BROKER_URL": url, "RESULT_BACKEND": url, "TASK_SEND_SENT_EVENT": True}
    return url


@pytest.fixture
def heard(url: str) -> Iterator[EventReceiver]:
    """What a monitor hears."""
    with events.current().listen() as receiver:
        yield receiver


class Counting:
    """Counts round trips."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        send = events.current().send

        def counted(said: Sequence[events.Event]) -> None:
            self.batches.append(len(said))
            send(said)

        monkeypatch.setattr(events.current(), "send", counted)


def test_fields(heard: EventReceiver) -> None:
    """All that Celery's event has: the call as texts, and where it went."""
    import os

    expires = datetime(2096, 1, 2, tzinfo=UTC)
    result = add.apply_async([1], {"other": 2}, queue="q", expires=expires)
    [said] = heard.receive(0)
    assert {name: value for name, value in said.items() if name not in {"timestamp", "clock", "utcoffset"}} == {
        "type": "task-sent",
        "hostname": origin(os.getpid()),
        "pid": os.getpid(),
        "uuid": result.id,
        "root_id": result.id,
        "parent_id": None,
        "name": "tests.sent.add",
        "args": "[1]",
        "kwargs": "{'other': 2}",
        "retries": 0,
        "eta": None,
        "expires": expires.isoformat(),
        "queue": "q",
        "exchange": "",
        "routing_key": "q",
    }


def test_one_batch_for_one_publish(heard: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group's messages leave together, and so do their events."""
    counting = Counting(monkeypatch)
    result = group(add.s(number, 1) for number in range(30)).apply_async()
    assert counting.batches == [30]
    assert [said["uuid"] for said in heard.receive(0)] == [child.id for child in result.children]


def test_nothing_without_the_setting(heard: EventReceiver, settings: Any) -> None:
    """It is off unless TASK_SEND_SENT_EVENT asks for it."""
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "TASK_SEND_SENT_EVENT": False}
    add.delay(1, 2)
    assert heard.receive(0) == []


def test_a_publish_is_not_failed_by_its_event(
    heard: EventReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The message has left; that nobody was told of it is a line in the log."""

    def away(said: Sequence[events.Event]) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(events.current(), "send", away)
    add.apply_async([1, 2], queue="q")
    assert brokers.current().size("q") == 1
    assert "1 message(s) were sent, but the event task-sent was not: away" in caplog.text


def test_what_did_not_leave_is_not_spoken_of(heard: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publish that fails says nothing."""

    def away(envelopes: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(brokers.current(), "publish", away)
    with pytest.raises(OperationalError):
        add.apply_async([1, 2], retry=False)
    assert heard.receive(0) == []


def test_a_worker_does_not_wait_for_it(heard: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a worker's process such events go by the buffer, as all else that it says."""
    given: list[events.Event] = []
    buffer = EventBuffer(events.current)
    monkeypatch.setattr(buffer, "add", given.extend)
    install(buffer)
    try:
        result = add.delay(1, 2)
    finally:
        uninstall(buffer)
    assert [said["uuid"] for said in given] == [result.id]
    assert heard.receive(0) == []
