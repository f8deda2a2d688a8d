"""``Task.send_event``: a task's own word to monitors, from wherever it runs."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from django_tasks import events, shared_task
from django_tasks.client import origin
from django_tasks.events.channel import EventReceiver
from django_tasks.exceptions import EncodeError, OperationalError


@shared_task(name="tests.send_event.mine", bind=True, send_events=False)
def mine(self, **fields):
    """Say something."""
    self.send_event("task-mine", **fields)
    return self.request.id


@shared_task(name="tests.send_event.mine_async", bind=True)
async def mine_async(self):
    """Say something from a coroutine."""
    self.send_event("task-mine")


@pytest.fixture
def heard(settings: Any) -> Iterator[EventReceiver]:
    """What a monitor hears, of this test alone."""
    url = f"memory://{uuid4().hex}"
    settings.DJANGO_TASKS = {"BROKER_URL": url, "RESULT_BACKEND": url}
    with events.current().listen() as receiver:
        yield receiver


class Failing:
    """Fails a number of times, as a server that is away does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, error: Exception) -> None:
        self.tries = 0
        send = events.current().send

        def sometimes(said: Sequence[events.Event]) -> None:
            self.tries += 1
            if self.tries <= times:
                raise error
            send(said)

        monkeypatch.setattr(events.current(), "send", sometimes)


def test_called_directly(heard: EventReceiver) -> None:
    """Without a run there is no id, and the process speaks in its own name."""
    mine(rows=3)
    [said] = heard.receive(0)
    assert (said["type"], said["uuid"], said["rows"], said["hostname"]) == ("task-mine", None, 3, origin(os.getpid()))
    assert said["pid"] == os.getpid()


def test_eagerly(heard: EventReceiver) -> None:
    """An eager run has an id, and the name that its request has. ``send_events=False`` is about the worker's events only."""
    result = mine.apply()
    [said] = heard.receive(0)
    assert (said["uuid"], said["hostname"]) == (result.get(), socket.gethostname())


def test_in_a_thread(heard: EventReceiver) -> None:
    """Any thread may say something."""
    thread = threading.Thread(target=mine.send_event, args=["task-mine"])
    thread.start()
    thread.join()
    assert [said["type"] for said in heard.receive(0)] == ["task-mine"]


@pytest.mark.parametrize("loop", ["its own", "the caller's"])
def test_in_a_coroutine(heard: EventReceiver, loop: str) -> None:
    """Where an event loop runs, the channel is used in a thread beside it: a database would refuse otherwise."""
    used: list[bool] = []

    class Watching:
        def send(self, said: Sequence[events.Event]) -> None:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                used.append(False)
            else:
                used.append(True)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(events, "current", Watching)
        if loop == "its own":
            mine_async.apply().get()
        else:
            asyncio.run(mine_async())
    assert used == [False]


def test_errors_come_out_of_coroutines(heard: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong beside the loop is raised in the task."""
    Failing(monkeypatch, 1, EncodeError("a set"))
    with pytest.raises(EncodeError, match="a set"):
        asyncio.run(mine_async())


def test_it_is_tried_again(heard: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the policy says, like a message."""
    failing = Failing(monkeypatch, 2, OperationalError("away"))
    mine.send_event("task-mine", retry_policy={"max_retries": 2, "interval_start": 0, "interval_step": 0})
    assert failing.tries == 3
    assert [said["type"] for said in heard.receive(0)] == ["task-mine"]


def test_the_policy_of_the_settings_counts(heard: EventReceiver, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """TASK_PUBLISH_RETRY_POLICY, where the call has none."""
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "TASK_PUBLISH_RETRY_POLICY": {"max_retries": 1, "interval_start": 0}}
    failing = Failing(monkeypatch, 9, OperationalError("away"))
    with pytest.raises(OperationalError, match="away"):
        mine.send_event("task-mine")
    assert failing.tries == 2


def test_once_without_retry(heard: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """``retry=False`` raises what went wrong at once."""
    failing = Failing(monkeypatch, 9, OperationalError("away"))
    with pytest.raises(OperationalError, match="away"):
        mine.send_event("task-mine", retry=False)
    assert failing.tries == 1


@pytest.mark.parametrize("type_", ["", None, 5])
def test_a_type_is_needed(heard: EventReceiver, type_: Any) -> None:
    """An event without one would be heard by nobody."""
    with pytest.raises(TypeError, match="'task-halfway'"):
        mine.send_event(type_)
    assert heard.receive(0) == []


@pytest.mark.parametrize("name", ["type", "uuid", "hostname", "pid", "clock", "utcoffset"])
def test_fields_that_the_run_says(heard: EventReceiver, name: str) -> None:
    """Nobody can speak in another's name."""
    with pytest.raises(TypeError, match=f"its {name} can't be given"):
        mine.send_event("task-mine", **{name: "x"})
    assert heard.receive(0) == []


def test_a_time_of_its_own(heard: EventReceiver) -> None:
    """``timestamp`` may be given, as in Celery."""
    mine.send_event("task-mine", timestamp=12.5)
    assert heard.receive(0)[0]["timestamp"] == 12.5


def test_what_json_does_not_take(heard: EventReceiver) -> None:
    """The error is raised where it was made."""
    with pytest.raises(EncodeError):
        mine.send_event("task-mine", thing=object())
