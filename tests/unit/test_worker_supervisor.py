"""What a supervisor passes on, without any process."""

import os
import signal
import threading
from typing import Any

import pytest

from django_tasks import clock
from django_tasks.messages import TaskMessage
from django_tasks.worker.consumerthread import ConsumerThread
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pipe import Channel
from django_tasks.worker.presence import Presence
from django_tasks.worker.process import Process
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.scoreboard import End, Hand
from django_tasks.worker.supervisor import Supervisor


@pytest.fixture
def revoked() -> RevokedTasks:
    """What the worker knows to be revoked: children are born with it."""
    return RevokedTasks()


def test_children_are_born_with_what_the_node_has_read(revoked: RevokedTasks) -> None:
    """A child that starts later must not take a message before it has heard of a revocation; of other things it may hear in time."""
    supervisor = Supervisor(WorkerOptions(name="w@h", queues=("q",)), rates=RateLimits([]), revoked=revoked)
    orders: list[dict[str, Any]] = [
        {"do": "revoked", "tasks": {"id-1": 1}},
        {"do": "revoked_stamps", "stamps": [["tenant", '"acme"']], "stop": []},
        {"do": "queues", "queues": ["q"]},
    ]
    for order in orders:
        supervisor._tell_children(order)
    assert revoked.forbids(TaskMessage(id="id-1", task="t"))
    assert revoked.forbids(TaskMessage(id="id-2", task="t", stamped_headers=["tenant"], stamps={"tenant": "acme"}))
    assert supervisor._standing == {"queues": orders[2]}


@pytest.mark.parametrize("kind", [ConsumerThread, Presence])
def test_a_thread_of_ours_hides_nothing_that_python_calls(kind: type[threading.Thread]) -> None:
    """After a fork Python calls private methods of every thread object: one of ours in their place would work on the parent's sockets."""
    methods = {*vars(threading.Thread), "_stop", "_handle", "_os_thread_handle", "_tstate_lock", "_after_fork", "_reset_internal_locks"}
    assert methods & {name for name in vars(kind) if not name.startswith("__")} == {"run"}


@pytest.mark.parametrize(
    ("hand", "status", "end", "counted"),
    [
        (Hand.READ, signal.SIGSEGV, End.LOST, {"1": "unread", "2": "unread"}),
        (Hand.STORE, signal.SIGSEGV, End.LOST, {"1": "crashed", "2": "crashed"}),
        (Hand.NOTHING, signal.SIGSEGV, End.LOST, {}),
        (Hand.STORE, 0, End.DONE, {}),
    ],
)
def test_a_death_counts_for_what_was_in_hand(revoked: RevokedTasks, hand: Hand, status: int, end: End, counted: dict[str, str]) -> None:
    """What the process was reading or storing may have ended it; what waited there goes back uncounted."""
    supervisor = Supervisor(WorkerOptions(name="w@h", queues=("q",)), rates=RateLimits([]), revoked=revoked)
    ours, theirs = Channel.pair()
    block = supervisor._scoreboard[0]
    block.hold(hand, ["1", "2"])
    block.leave(end)
    supervisor._after(0, Process(1000, "c", ours), status)
    assert supervisor._unburied["c"]["started"] == counted
    for channel in (ours, theirs):
        channel.close()


@pytest.mark.parametrize(
    ("stage", "killed_when_late", "killed_at_stop"),
    [("forked", True, True), ("asking", True, False), ("working", False, False)],
)
def test_a_process_that_does_not_begin_is_replaced(
    revoked: RevokedTasks, monkeypatch: pytest.MonkeyPatch, stage: str, killed_when_late: bool, killed_at_stop: bool
) -> None:
    """Whether it hangs in a receiver or in its first call of the broker; and SIGTERM does not wait for it."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    supervisor = Supervisor(WorkerOptions(name="w@h", queues=("q",), start_timeout=30), rates=RateLimits([]), revoked=revoked)
    ours, theirs = Channel.pair()
    block = supervisor._scoreboard[0]
    now = clock.monotonic()
    if stage == "asking":
        block.beginning(now - 40)
    if stage == "working":
        block.fetched(now, 0)
    process = supervisor._children[0] = Process(1000, "c", ours, born=now - 29)
    supervisor._enforce_limits()
    supervisor._begin_warm()
    assert killed == [1000] * killed_at_stop
    process.silent = False
    process.born -= 2
    supervisor._enforce_limits()
    assert (1000 in killed) == (killed_when_late or killed_at_stop)
    for channel in (ours, theirs):
        channel.close()


@pytest.mark.parametrize(
    ("name", "sent"),
    [("SIGTERM", [signal.SIGTERM, signal.SIGKILL]), ("SIGUSR1", [signal.SIGUSR1]), ("SIGKILL", [signal.SIGKILL])],
)
def test_a_task_that_is_told_to_end_has_a_moment_for_it(
    revoked: RevokedTasks, monkeypatch: pytest.MonkeyPatch, name: str, sent: list[int]
) -> None:
    """A signal that asks for an end is followed by SIGKILL where the task runs on; another one is not. One that ends in time lives."""
    got: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: got.append(number))
    supervisor = Supervisor(WorkerOptions(name="w@h", queues=("q",)), rates=RateLimits([]), revoked=revoked)
    ours, theirs = Channel.pair()
    block = supervisor._scoreboard[0]
    now = clock.monotonic()
    block.fetched(now, 0)
    process = supervisor._children[0] = Process(1000, "c", ours)
    for ends in (True, False):
        got.clear()
        block.begin(0, "id", "1", now, None)
        supervisor._terminate("id", signal.Signals[name])
        assert block.is_for(signal.Signals[name], now)
        if ends:
            block.end(0)
        monkeypatch.setattr(clock, "monotonic", lambda: now + 6)
        supervisor._enforce_limits()
        monkeypatch.setattr(clock, "monotonic", lambda: now)
        assert got == (sent[:1] if ends else sent)
        assert ("id" in process.blamed) != ends or name == "SIGKILL"
    for channel in (ours, theirs):
        channel.close()
