"""Pools run what they are given to its end, whatever coroutines raise."""

import asyncio
import signal
import sys
import threading
from contextlib import nullcontext
from typing import Any

import pytest

from django_tasks import shared_task
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.executor import Executor
from django_tasks.messages import TaskMessage
from django_tasks.outcomes import Outcome
from django_tasks.worker.pools import AsyncioPool, Pool, SoloPool, ThreadsPool
from django_tasks.worker.scoreboard import Scoreboard


@shared_task(name="tests.pools.leave")
async def leave():
    """Ask the process to end."""
    sys.exit(3)


@shared_task(name="tests.pools.interrupt")
async def interrupt():
    """Pretend that somebody has pressed Ctrl-C."""
    await asyncio.sleep(0)
    raise KeyboardInterrupt


@shared_task(name="tests.pools.leave_within")
async def leave_within():
    """Await a coroutine that asks the process to end."""
    await asyncio.create_task(leave.run())


@shared_task(name="tests.pools.cancel_own")
async def cancel_own():
    """Cancel and await a future of its own."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@shared_task(name="tests.pools.good")
async def good():
    """Take a moment."""
    await asyncio.sleep(0.001)
    return "good"


begun, go_on = threading.Event(), threading.Event()


def hold() -> None:
    begun.set()
    assert go_on.wait(20)


@shared_task(name="tests.pools.held")
async def held():
    """End; what follows it is held up."""


@shared_task(name="tests.pools.held_in_a_thread")
def held_in_a_thread():
    """Wait until told to go on."""
    hold()


@shared_task(name="tests.pools.waiting")
async def waiting():
    """Wait for ever."""
    begun.set()
    await asyncio.sleep(100)


@pytest.mark.parametrize("kind", [SoloPool, ThreadsPool, AsyncioPool])
def test_what_a_coroutine_raises_is_its_tasks_failure_and_nothing_else(kind: type[Pool]) -> None:
    """SystemExit, KeyboardInterrupt and a cancelled future of its own: it has failed, and others run before it and after it."""
    tasks = [leave, good, interrupt, good, leave_within, good, cancel_own, good]
    pool = kind(Executor(follow=followups), Scoreboard(1, 2)[0], 1 if kind is SoloPool else 2)
    pool.submit([Request(message=TaskMessage(id=f"id-{n}", task=task.name), definition=task) for n, task in enumerate(tasks)])
    pool.stop()
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=pool.run, args=(outcomes.append,), daemon=True)
    thread.start()
    thread.join(20)
    found = {outcome.request.message.id: (outcome.state, type(outcome.value).__name__) for outcome in outcomes}
    assert found == {
        **{f"id-{n}": ("SUCCESS", "str") for n in (1, 3, 5, 7)},
        "id-0": ("FAILURE", "SystemExit"),
        "id-2": ("FAILURE", "KeyboardInterrupt"),
        "id-4": ("FAILURE", "SystemExit"),
        "id-6": ("FAILURE", "CancelledError"),
    }


@pytest.mark.parametrize(("task", "states"), [(held, ["SUCCESS"]), (held_in_a_thread, ["SUCCESS"]), (waiting, ["REVOKED"])])
def test_an_outcome_is_never_lost_to_a_late_end(task: Any, states: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelling interrupts a coroutine and no more: a function in a thread, and a coroutine that has ended, have an outcome."""
    pool = AsyncioPool(Executor(follow=followups), Scoreboard(1, 1)[0])
    begun.clear()
    go_on.clear()
    monkeypatch.setattr("django_tasks.worker.pools.tidy_after_coroutine", lambda request: task is held and hold())
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=pool.run, args=(outcomes.append,), daemon=True)
    thread.start()
    pool._ready.wait(20)
    pool.submit([Request(message=TaskMessage(id="id-1", task=task.name), definition=task)])
    assert begun.wait(20)
    pool.cancel("id-1")
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), pool._loop).result(20)  # type: ignore[arg-type]  # it runs
    go_on.set()
    pool.stop()
    thread.join(20)
    assert [outcome.state for outcome in outcomes] == states


def test_only_the_main_threads_task_is_interrupted_by_a_signal() -> None:
    """With one slot, too, a thread's task runs on: raised in the main thread, the signal would end the process beside it."""
    for kind, raised in ((SoloPool, pytest.raises(SystemExit)), (ThreadsPool, nullcontext()), (AsyncioPool, nullcontext())):
        block = Scoreboard(1, 1)[0]
        pool = kind(Executor(follow=followups), block)
        request = pool._executor.inside = Request(message=TaskMessage(id="id-1", task=good.name), definition=good)
        pool._occupy(0, request)
        block.interrupt(signal.SIGTERM, pool._running[0].since)
        with raised:
            pool.interrupt(signal.SIGTERM)
