"""Events on their way out of a worker's process: in order, in batches, and never at the cost of who says them."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from django_tasks.events import Event
from django_tasks.events.buffer import EventBuffer, install, installed, uninstall
from django_tasks.events.channel import EventChannel, EventReceiver
from django_tasks.exceptions import EncodeError, OperationalError
from tests.processes import wait_until


class Hearing(EventChannel):
    """Keeps the batches it was given; can be away, refuse, or take its time."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.error: Exception | None = None
        self.tries = 0
        self.gate = threading.Event()
        self.gate.set()

    def send(self, events: Sequence[Event]) -> None:
        self.tries += 1
        self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.batches.append(list(events))

    def listen(self, routing_key: str = "#") -> EventReceiver:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""

    @property
    def heard(self) -> list[Any]:
        """The numbers of all events, in their order."""
        return [event["n"] for batch in self.batches for event in batch]


def numbered(*numbers: int) -> list[Event]:
    """Make events that are told apart."""
    return [{"type": "task-x", "n": number} for number in numbers]


@pytest.fixture
def channel() -> Hearing:
    """A channel that hears."""
    return Hearing()


@pytest.fixture
def make(channel: Hearing, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EventBuffer]]:
    """Make buffers that try again soon, and are closed with the test."""
    monkeypatch.setattr("django_tasks.events.buffer.PAUSE", 0.01)
    made: list[EventBuffer] = []

    def make(**options: Any) -> EventBuffer:
        made.append(EventBuffer(lambda: channel, **options))
        return made[-1]

    yield make
    channel.gate.set()
    for buffer in made:
        buffer.close()


def test_without_events_there_is_no_thread(make: Callable[..., EventBuffer]) -> None:
    """A buffer that nobody uses costs nothing, and closes at once."""
    before = threading.active_count()
    make().close()
    assert threading.active_count() == before


def test_events_leave_in_order_and_those_that_come_meanwhile_together(make: Callable[..., EventBuffer], channel: Hearing) -> None:
    """While one batch is on its way the next one gathers: one round trip for all of it."""
    buffer = make()
    channel.gate.clear()
    buffer.add(numbered(0))
    wait_until(lambda: channel.tries == 1, "the first batch to be on its way")
    for number in range(1, 50):
        buffer.add(numbered(number))
    channel.gate.set()
    wait_until(lambda: len(channel.heard) == 50, "all events")
    assert channel.heard == list(range(50))
    assert [len(batch) for batch in channel.batches] == [1, 49]


def test_whoever_says_something_never_waits(make: Callable[..., EventBuffer], channel: Hearing) -> None:
    """A server that does not answer holds up the buffer's thread alone."""
    buffer = make()
    channel.gate.clear()
    for number in range(1000):
        buffer.add(numbered(number))
    assert channel.heard == []
    channel.gate.set()
    wait_until(lambda: channel.heard == list(range(1000)), "all events")


def test_an_outage_drops_the_oldest_says_so_once_and_ends(
    make: Callable[..., EventBuffer], channel: Hearing, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning when it begins, one when it is over, however often was tried; what is newest is kept."""
    buffer = make(limit=10)
    channel.error = OperationalError("away")
    with caplog.at_level(logging.WARNING, "django_tasks.events"):
        buffer.add(numbered(0))
        wait_until(lambda: caplog.records, "the warning")
        for number in range(1, 25):
            buffer.add(numbered(number))
        tries = channel.tries
        wait_until(lambda: channel.tries >= tries + 3, "several tries")
        assert [record.message for record in caplog.records] == [
            "Events can't be sent; work goes on, and the last 10 are kept meanwhile: away"
        ]
        channel.error = None
        wait_until(lambda: len(channel.heard) == 10, "what was kept")
        wait_until(lambda: len(caplog.records) == 2, "the end of the outage to be told")
    assert channel.heard == list(range(15, 25))
    assert caplog.records[1].message == "All events are sent again; 15 were dropped meanwhile"


def test_what_comes_too_fast_is_dropped_and_told(
    make: Callable[..., EventBuffer], channel: Hearing, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is too slow for all events costs the oldest, with one warning; another says how many."""
    buffer = make(limit=10)
    channel.gate.clear()
    with caplog.at_level(logging.WARNING, "django_tasks.events"):
        buffer.add(numbered(0))
        wait_until(lambda: channel.tries == 1, "the first batch to be on its way")
        for number in range(1, 26):
            buffer.add(numbered(number))
        channel.gate.set()
        wait_until(lambda: len(caplog.records) == 2, "the loss to be told")
    assert channel.heard == [0, *range(16, 26)]
    assert "faster than they can be sent" in caplog.records[0].message
    assert caplog.records[1].message == "All events are sent again; 15 were dropped meanwhile"


def test_what_can_not_be_sent_for_its_own_sake_is_dropped(
    make: Callable[..., EventBuffer], channel: Hearing, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that fails without an outage is told and forgotten; the next one leaves."""
    buffer = make()
    channel.error = EncodeError("a set")
    buffer.add(numbered(1))
    wait_until(lambda: "could not be sent; 1 are dropped" in caplog.text, "the loss to be told")
    channel.error = None
    buffer.add(numbered(2))
    wait_until(lambda: channel.heard == [2], "the next event")


def test_what_is_sent_now_follows_what_waits(make: Callable[..., EventBuffer], channel: Hearing) -> None:
    """A task's own event comes behind those by which its run was announced, and has left when the call returns."""
    buffer = make()
    channel.gate.clear()
    buffer.add(numbered(1))
    wait_until(lambda: channel.tries == 1, "the first batch to be on its way")
    buffer.add(numbered(2))
    sender = threading.Thread(target=buffer.send_now, args=[numbered(3)])
    sender.start()
    channel.gate.set()
    sender.join(10)
    assert channel.heard == [1, 2, 3]


def test_what_waits_survives_what_is_sent_now_and_fails(make: Callable[..., EventBuffer], channel: Hearing) -> None:
    """The caller hears of the failure of his own event; those of others leave later, in order."""
    buffer = make()
    channel.error = OperationalError("away")
    buffer.add(numbered(1, 2))
    with pytest.raises(OperationalError, match="away"):
        buffer.send_now(numbered(3))
    channel.error = None
    wait_until(lambda: channel.heard == [1, 2], "what waited")


def test_closing_sends_the_rest(make: Callable[..., EventBuffer], channel: Hearing) -> None:
    """What was said before the end is heard."""
    buffer = make()
    buffer.add(numbered(1))
    wait_until(lambda: channel.heard == [1], "the first")
    buffer.add(numbered(2, 3))
    buffer.close()
    assert channel.heard == [1, 2, 3]


def test_closing_does_not_wait_for_a_server_that_does_not_answer(make: Callable[..., EventBuffer], channel: Hearing) -> None:
    """The end of a process is not held up by events."""
    buffer = make()
    channel.gate.clear()
    buffer.add(numbered(1))
    buffer.close(patience=0.05)
    assert channel.heard == []


def test_a_process_has_one_buffer(make: Callable[..., EventBuffer]) -> None:
    """Another one's end does not take it away."""
    one, other = make(), make()
    install(one)
    uninstall(other)
    assert installed() is one
    uninstall(one)
    assert installed() is None
