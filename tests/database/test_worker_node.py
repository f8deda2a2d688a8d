"""The node on a broker that can't settle what a killed process held, and what it forwards and finishes."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections

from django_tasks import brokers, clock, parking, result_backends, shared_task
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Death
from django_tasks.models import Message
from django_tasks.worker.node import Node
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pipe import Channel
from django_tasks.worker.scoreboard import Scoreboard
from tests.processes import wait_until
from tests.unit.worker_rig import Pushing, envelope

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="tests.node.task")
def task():
    """Do nothing."""


class Rig:
    """A node in a thread, and the supervisor's end of its channel."""

    def __init__(self) -> None:
        self.channel, self._theirs = Channel.pair()
        options = WorkerOptions(name="w@h", queues=("q",))
        self.node = Node(options, scoreboard=Scoreboard(1, 1), channel=self._theirs, consumer_id="node", pid=1)
        self.heard: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.node.run()
        finally:
            connections.close_all()

    def start(self) -> None:
        self._thread.start()

    def confirmed(self) -> list[str]:
        """Consumer ids of the dead that it has settled."""
        self.heard += self.channel.receive()
        return [command["consumer_id"] for command in self.heard if command["do"] == "recovered"]

    def stop(self) -> None:
        if not self.channel.closed:
            self.channel.send({"do": "stop"})
        if self._thread.is_alive():
            self._thread.join(20)
        assert not self._thread.is_alive()
        self.channel.close()
        self._theirs.close()


@pytest.fixture
def broker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pushing]:
    """The process's broker."""
    url = f"memory://{uuid4().hex}"
    settings.DJANGO_TASKS = {"BROKER_URL": url, "RESULT_BACKEND": url, "WORKER_HEARTBEAT": 1}
    made = Pushing(url)
    monkeypatch.setattr(brokers, "current", lambda: made)
    yield made
    result_backends.reset()


@pytest.fixture
def rig(broker: Pushing) -> Iterator[Rig]:
    """A node that ends with the test."""
    made = Rig()
    yield made
    made.stop()


def recover(consumer_id: str, **started: str) -> dict[str, Any]:
    """Say what the supervisor says of a dead child."""
    return {
        "do": "recover",
        "consumer_id": consumer_id,
        "holders": [consumer_id],
        "how": "signal SIGKILL",
        "started": started,
        "acknowledged": [],
    }


def test_deaths_are_noted_within_a_moment_and_confirmed_after_that(rig: Rig, broker: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """How each task's process died; what a cold shutdown ended needs no note. Without the note there is no confirmation."""
    refusing = threading.Event()
    refusing.set()
    remember = broker.remember_deaths

    def away(deaths: Any) -> None:
        if refusing.is_set():
            raise OperationalError("away")
        remember(deaths)

    monkeypatch.setattr(broker, "remember_deaths", away)
    rig.start()
    rig.channel.send(recover("c1", a="overdue", b="crashed", c="stopped"))
    wait_until(lambda: rig.node._silent, "the node to find that it can't note it")
    assert rig.confirmed() == []
    refusing.clear()
    wait_until(lambda: rig.confirmed() == ["c1"], "the confirmation")
    assert broker.deaths == {"a": Death("overdue", "signal SIGKILL"), "b": Death("crashed", "signal SIGKILL")}
    took = []
    # One of a few tells: a machine that does much else holds up some, and a note that waits for the next turn is late always.
    while not took or (min(took) >= 0.5 and len(took) < 5):
        begun, task = clock.monotonic(), f"d{len(took)}"
        rig.channel.send(recover(f"c2-{task}", **{task: "terminated"}))
        wait_until(lambda task=task: task in broker.deaths, "the note")
        took.append(clock.monotonic() - begun)
    assert min(took) < 0.5


def test_parked_messages_are_forwarded_and_the_forwarder_stops_with_the_node(rig: Rig, broker: Pushing) -> None:
    """A message that was parked before the start, and one that is parked later."""
    parking.park([envelope("tests.node.task", "one")])
    rig.start()
    wait_until(lambda: broker.size("q") == 1, "the first message")
    parking.park([envelope("tests.node.task", "two")])
    wait_until(lambda: broker.size("q") == 2, "the second message")
    rig.stop()
    assert not Message.objects.exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "django_tasks-forwarder"]


def test_a_forwarder_that_fails_neither_ends_the_node_nor_stays_away(rig: Rig, broker: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made anew after a pause."""
    monkeypatch.setattr("django_tasks.worker.node.FORWARDER_PAUSE", 0.05)
    failures = iter([RuntimeError("once"), RuntimeError("twice")])
    run = parking.Forwarder.run

    def failing(forwarder: parking.Forwarder, stop: threading.Event) -> None:
        if (failure := next(failures, None)) is not None:
            forwarder.close()
            raise failure
        run(forwarder, stop)

    monkeypatch.setattr(parking.Forwarder, "run", failing)
    parking.park([envelope("tests.node.task", "one")])
    rig.start()
    wait_until(lambda: broker.size("q") == 1, "the message")


def test_the_body_of_a_chord_whose_worker_died_is_sent_by_maintenance(rig: Rig, broker: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody completed the chord and was never heard of again: a node asks for it, sends the body and closes the chord."""
    from tests.unit.test_worker_completer import body

    backend = result_backends.current()
    left = [backend_chord(backend, body)]
    monkeypatch.setattr(type(backend), "reclaim_chords", lambda self, limit: [left.pop()] if left else [])
    closed: list[str] = []
    monkeypatch.setattr(type(backend), "close_chords", lambda self, group_ids: closed.extend(group_ids))
    sent: list[Any] = []
    monkeypatch.setattr("django_tasks.worker.completer.publish", lambda messages, **options: sent.extend(messages))
    rig.start()
    wait_until(lambda: closed == ["group"], "the chord to be closed")
    assert [message.task for message in sent] == ["tests.completer.body"]


def backend_chord(backend: Any, body: Any) -> Any:
    """A complete chord without results."""
    from django_tasks.result_backends.backend import ReadyChord

    return ReadyChord("group", body.s().set(task_id=str(uuid4())), [])
