"""Pools run what they are given to its end, whatever coroutines raise."""

import asyncio
import sys
import threading

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
