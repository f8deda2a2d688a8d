"""Events that no worker sends: whoever listens must hear the others all the same."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from django_tasks.events.channel import Event
from django_tasks.events.kombu import _Inbox
from django_tasks.events.monitoring import received


def heard(body: Any) -> list[Event]:
    """What a receiver makes of a message with this body."""
    inbox = _Inbox(lambda: None, "nowhere", "#")
    message = SimpleNamespace(body=json.dumps(body).encode(), content_type="application/json", content_encoding="utf-8", headers={})
    inbox._take(message)
    return inbox._heard


def test_what_has_no_type_is_no_event() -> None:
    """Nor what has one that is no text, or is no object."""
    good = {"type": "task-started", "uuid": "1"}
    assert heard([{"uuid": "1"}, {"type": 5}, {"type": None}, "text", 5, good]) == [good]


@pytest.mark.parametrize("clock", ["later", None, [], 1.5, {}])
def test_a_clock_that_shows_no_number_is_passed_over(clock: Any) -> None:
    """The event is heard, at this process's time."""
    event = received({"type": "task-started", "uuid": "1", "clock": clock})
    assert type(event["clock"]) is int
