"""What every channel of monitoring events must do, as tests: subclass ``EventContract``, give it a ``channel`` fixture, run pytest.

    class TestMyEvents(EventContract):
        @pytest.fixture
        def channel(self):
            channel = open_channel("my://localhost")
            yield channel
            channel.close()

Nobody else may send on the fixture's channel meanwhile.
"""
# ruff: noqa: S101  asserting is what a contract does

import json
import os
import threading
from collections.abc import Sequence
from typing import Any, Final

import pytest

from django_tasks import clock
from django_tasks.events.channel import Event, EventChannel, EventReceiver, event
from django_tasks.exceptions import EncodeError

#: Seconds in which what was sent must have been heard.
_PATIENCE: Final = 15.0


def task_event(subject: str, number: int = 1, **fields: Any) -> Event:
    """Make an event of a task."""
    return event(f"task-{subject}", "w1@host", uuid=f"id-{number}", **fields)


def heard(receiver: EventReceiver, number: int) -> list[Event]:
    """Receive until so many have come, in whatever portions."""
    found: list[Event] = []
    deadline = clock.monotonic() + _PATIENCE
    while len(found) < number and (left := deadline - clock.monotonic()) > 0:
        found += receiver.receive(left)
    return found


class EventContract:
    """The conformance suite of event channels."""

    #: How many events the test of many sends.
    MANY: int = 2_500

    def test_what_is_heard_is_what_was_sent(self, channel: EventChannel) -> None:
        """Every field arrives with its value and type, whatever text it holds."""
        odd = "ünï-çødé-☃-𝄞 '\"\\ %s \x00 \x1b[0m\n\t" + "x" * 70_000
        sent = task_event("failed", exception=odd, traceback=None, deep={"a": [1, None, 2.5, True, {"é": ""}]}, big=2**53)
        with channel.listen() as receiver:
            channel.send([sent])
            assert heard(receiver, 1) == [sent]

    def test_nobody_needs_to_listen(self, channel: EventChannel) -> None:
        """What is sent to nobody is gone: whoever listens later doesn't hear it."""
        channel.send([task_event("started")])
        with channel.listen() as receiver:
            later = event("worker-online", "w1@host", freq=2.0)
            channel.send([later])
            assert heard(receiver, 1) == [later]

    def test_sending_nothing_is_silent(self, channel: EventChannel) -> None:
        """An empty batch is no error and no event."""
        with channel.listen() as receiver:
            channel.send([])
            assert receiver.receive(0) == []

    def test_order_is_kept(self, channel: EventChannel) -> None:
        """Task events of batches arrive in the order in which they were sent."""
        with channel.listen("task.#") as receiver:
            for start in range(0, 40, 8):
                channel.send([task_event("started", number) for number in range(start, start + 8)])
            assert [one["uuid"] for one in heard(receiver, 40)] == [f"id-{number}" for number in range(40)]

    def test_batches_may_mix_groups(self, channel: EventChannel) -> None:
        """Events of tasks, of workers and of a project's own kinds arrive from one batch, each group in its order."""
        mixed = [
            task_event("received", 1),
            event("worker-heartbeat", "w1@host", active=1),
            task_event("started", 1),
            event("shop-sold", "w1@host", item="tea"),
            event("plain", "w1@host"),
            task_event("succeeded", 1, result="5", runtime=0.5),
        ]
        with channel.listen() as receiver:
            channel.send(mixed)
            found = heard(receiver, len(mixed))
        assert {json.dumps(one, sort_keys=True) for one in found} == {json.dumps(one, sort_keys=True) for one in mixed}
        assert [one["type"] for one in found if one["type"].startswith("task-")] == ["task-received", "task-started", "task-succeeded"]

    @pytest.mark.parametrize(
        ("routing_key", "expected"),
        [
            ("#", ["task-failed", "task-started", "worker-online", "worker-heartbeat", "shop-sold-out"]),
            ("task.*", ["task-failed", "task-started"]),
            ("task.failed", ["task-failed"]),
            ("*.failed", ["task-failed"]),
            ("worker.#", ["worker-online", "worker-heartbeat"]),
            ("worker.online", ["worker-online"]),
            ("shop.*", []),
            ("shop.#", ["shop-sold-out"]),
            ("shop.*.*", ["shop-sold-out"]),
        ],
    )
    def test_a_routing_key_narrows_what_is_heard(self, channel: EventChannel, routing_key: str, expected: Sequence[str]) -> None:
        """What the key doesn't mean isn't heard, and what it means is, also out of a batch."""
        batch = [
            task_event("failed"),
            task_event("started"),
            event("worker-online", "w1@host"),
            event("worker-heartbeat", "w1@host"),
            event("shop-sold-out", "w1@host"),
        ]
        with channel.listen(routing_key) as receiver, channel.listen() as everything:
            channel.send(batch)
            assert len(heard(everything, len(batch))) == len(batch)
            found = heard(receiver, len(expected)) if expected else []
            found += receiver.receive(0.1)
        assert sorted(one["type"] for one in found) == sorted(expected)

    def test_everybody_hears_everything(self, channel: EventChannel) -> None:
        """Receivers don't take events from each other."""
        with channel.listen() as one, channel.listen() as other:
            channel.send([task_event("started", number) for number in range(3)])
            assert [len(heard(receiver, 3)) for receiver in (one, other)] == [3, 3]

    def test_a_receiver_waits(self, channel: EventChannel) -> None:
        """``receive`` returns as soon as something comes, and with nothing when its time is up."""
        with channel.listen() as receiver:
            begun = clock.monotonic()
            assert receiver.receive(0.3) == []
            assert 0.25 <= clock.monotonic() - begun < _PATIENCE
            sender = threading.Timer(0.3, self._send_and_let_go, [channel, [task_event("started")]])
            sender.start()
            assert len(receiver.receive(_PATIENCE)) == 1
            sender.join()

    def test_many_events(self, channel: EventChannel) -> None:
        """A batch of thousands arrives whole."""
        with channel.listen() as receiver:
            channel.send([task_event("started", number) for number in range(self.MANY)])
            assert len({one["uuid"] for one in heard(receiver, self.MANY)}) == self.MANY

    def test_threads_send_at_once(self, channel: EventChannel) -> None:
        """Threads share a channel without losing or mixing anything."""
        with channel.listen() as receiver:
            threads = [threading.Thread(target=self._send_and_let_go, args=(channel, *self._batches(name))) for name in "abcd"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            found = heard(receiver, 40)
        assert sorted(one["uuid"] for one in found) == sorted(f"{name}{number}" for name in "abcd" for number in range(10))

    @staticmethod
    def _batches(name: str) -> list[list[Event]]:
        return [[event("task-started", "w1@host", uuid=f"{name}{number}")] for number in range(10)]

    def test_what_json_has_no_word_for_is_refused(self, channel: EventChannel) -> None:
        """It raises EncodeError, none of the batch is sent, and the channel goes on."""
        with channel.listen() as receiver:
            with pytest.raises(EncodeError):
                channel.send([task_event("started", 1), task_event("started", 2, what=object())])
            last = task_event("started", 3)
            channel.send([last])
            assert heard(receiver, 1) == [last]

    def test_closing_ends_nothing_for_good(self, channel: EventChannel) -> None:
        """Closing twice is fine, and the next event opens new connections; a closed receiver may be closed again."""
        channel.send([task_event("started")])
        channel.close()
        channel.close()
        receiver = channel.listen()
        channel.send([task_event("started")])
        assert len(heard(receiver, 1)) == 1
        receiver.close()
        receiver.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_leaves_the_parents_connection_alone(self, channel: EventChannel) -> None:
        """What the parent opened before a fork works for it after the child is gone."""
        channel.send([task_event("started")])
        with channel.listen() as receiver:
            pid = os.fork()
            if pid == 0:
                self._in_a_child(channel)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            last = task_event("succeeded", 9)
            channel.send([last])
            assert last in heard(receiver, 1 + self.CHILD_IS_HEARD)

    #: Whether what a forked child sends is heard in its parent. A database's connections don't survive a fork.
    CHILD_IS_HEARD: bool = True

    def _in_a_child(self, channel: EventChannel) -> None:
        status = 1
        try:
            if self.CHILD_IS_HEARD:
                channel.send([task_event("started", 8)])
            channel.close()
            status = 0
        finally:
            os._exit(status)

    @staticmethod
    def _send_and_let_go(channel: EventChannel, *batches: Sequence[Event]) -> None:
        # A thread of its own has database connections of its own.
        from django.db import connections

        try:
            for batch in batches:
                channel.send(batch)
        finally:
            connections.close_all()
