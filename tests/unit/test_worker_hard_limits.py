"""What a supervisor does about tasks that have passed their hard limit in a process with several slots."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks import clock
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pipe import Channel
from django_tasks.worker.process import Process
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.supervisor import Supervisor


class Rig:
    """A supervisor of threads, whose one process is the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        options = WorkerOptions(name="w@h", queues=("q",), pool="threads", concurrency=2)
        self.supervisor = Supervisor(options, rates=RateLimits([]), revoked=RevokedTasks())
        self.block = self.supervisor._scoreboard[0]
        self.killed: list[int] = []
        self.pid = 1000
        self.channels: list[Channel] = []
        monkeypatch.setattr(os, "kill", lambda pid, number: self.killed.append(pid))

    def fork(self) -> Process:
        """Put a process into the first place."""
        ours, self.theirs = Channel.pair()
        self.channels += [ours, self.theirs]
        self.pid += 1
        self.block.clear()
        self.block.fetched(clock.monotonic(), 0)
        process = self.supervisor._children[0] = Process(self.pid, f"c{self.pid}", ours)
        return process

    def begin(self, task_id: str, slot: int = 0, limit: float = -1.0) -> None:
        """Let a slot run a task; with a limit that has passed, unless told otherwise."""
        now = clock.monotonic()
        self.block.begin(slot, task_id, f"tag-{task_id}", now, now + limit)

    def heard(self) -> list[Any]:
        """What the process was told since."""
        return [command["do"] for command in self.theirs.receive()]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(monkeypatch)
    yield rig
    for channel in rig.channels:
        channel.close()


def test_a_task_that_ends_after_its_limit_by_itself_is_not_lost(rig: Rig) -> None:
    """Its process, which is ending, must be left the time to store what came of it."""
    rig.fork()
    rig.begin("slow")
    rig.begin("other", slot=1, limit=60)
    rig.supervisor._enforce_limits()
    assert rig.heard() == ["stop"]
    rig.block.end(0)
    rig.block.end(1)
    rig.supervisor._enforce_limits()
    assert rig.killed == []


def test_the_last_of_a_process_is_killed_at_once(rig: Rig) -> None:
    """Nobody else is waited for where only tasks that have passed their limits run."""
    process = rig.fork()
    rig.begin("slow")
    rig.supervisor._enforce_limits()
    assert rig.killed == [process.pid]


def test_a_second_try_has_a_limit_too(rig: Rig) -> None:
    """A task that passed its limit, ended by itself and runs again under its id must be ended when it passes it once more."""
    process = rig.fork()
    rig.begin("slow")
    rig.begin("other", slot=1, limit=60)
    rig.supervisor._enforce_limits()
    rig.block.end(0)
    rig.block.end(1)
    del rig.supervisor._children[0]
    rig.supervisor._kill_at.clear()
    rig.supervisor._after(0, process, 0)
    rig.fork()
    rig.begin("slow")
    rig.begin("other", slot=1, limit=60)
    rig.supervisor._enforce_limits()
    assert rig.heard() == ["stop"]
