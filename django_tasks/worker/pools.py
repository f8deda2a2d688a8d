"""How one child runs tasks: one by one, in threads, or on an event loop. Prefork is ``SoloPool`` in many children."""

import asyncio
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import TypeAlias

from asgiref.sync import sync_to_async

from django_tasks import clock, states
from django_tasks.context import Request
from django_tasks.exceptions import SoftTimeLimitExceeded
from django_tasks.executor import Executor, loop_thread, run_on
from django_tasks.outcomes import Outcome, hard_limit_of
from django_tasks.worker.dbconnections import coroutines_left_something, tidy_after_coroutine, tidy_after_idling, tidy_after_task
from django_tasks.worker.forks import end_loop, leave
from django_tasks.worker.recovery import awaited_part
from django_tasks.worker.scoreboard import Block

Done: TypeAlias = Callable[[Outcome], None]

#: Seconds without work after which a slot lets go of database connections that are past their age.
IDLE = 1.0
#: Seconds that a slot which has slept needs to wake up.
A_MOMENT = 0.0001
#: Most threads in which an asyncio pool runs tasks that are no coroutines.
MOST_THREADS = 32


@dataclass(frozen=True, slots=True)
class Running:
    """A request that occupies a slot, and since when (clock.monotonic())."""

    request: Request
    since: float


class Pool(ABC):
    """Runs requests in ``slots``; ``run`` owns the child's main thread, the other methods are for the consumer thread."""

    def __init__(self, executor: Executor, block: Block, slots: int = 1) -> None:
        self.slots = slots
        self._executor = executor
        self._block = block
        self._waiting: deque[Request] = deque()
        self._running: dict[int, Running] = {}
        self._stopping = False
        self._done: Done = lambda outcome: None
        #: Called in the slot when a task begins, if somebody wants to know.
        self.at_start: Callable[[Request], None] | None = None

    def submit(self, requests: Sequence[Request]) -> None:
        """Queue these requests; never waits."""
        self._waiting.extend(requests)
        self._notify(len(requests))

    def held(self) -> int:
        """How many requests wait or run."""
        return len(self._waiting) + len(self._running)

    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self._waiting)

    def running(self) -> list[Running]:
        """Return what runs now."""
        return list(self._running.values())

    def unstarted(self) -> list[Request]:
        """Take back every request that waits: for a shutdown, or because a long task is in front of it."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._waiting.pop())
        return taken[::-1]

    def stop(self) -> None:
        """Let ``run`` return once nothing waits or runs."""
        self._stopping = True
        self._notify(self.slots)

    def interrupt(self, number: int) -> None:
        """End the task for which the supervisor has sent this signal; in a pool that can't, the supervisor kills the process."""

    def forget(self) -> None:
        """In a child that a task has forked: run nothing of what waits, and end with the task's function."""
        self._waiting.clear()
        self._executor.leave_fork = leave

    def cancel(self, task_id: str) -> bool:
        """Interrupt a running task if this pool can; False if it can't, or if no such task runs here."""
        del task_id
        return False

    def run(self, done: Done) -> None:
        """Run requests until stopped; ``done`` is called in the slot for each outcome."""
        self._done = done
        self._run()

    @abstractmethod
    def _run(self) -> None: ...

    @abstractmethod
    def _notify(self, count: int) -> None: ...

    def _occupy(self, slot: int, request: Request) -> None:
        since, limit = clock.monotonic(), hard_limit_of(request)
        tag, awaited = (request.delivery.tag, "") if request.delivery is not None else ("", awaited_part(request.message))
        self._block.begin(slot, request.message.id, tag, since, since + limit if limit else None, awaited)
        self._running[slot] = Running(request, since)
        if self.at_start is not None:
            self.at_start(request)

    def _vacate(self, slot: int) -> None:
        self._running.pop(slot, None)
        self._block.end(slot)

    def _perform(self, slot: int, request: Request) -> None:
        self._occupy(slot, request)
        try:
            # In a context of its own: language, time zone and URLconf, as whatever else is a context variable, end with the task.
            outcome = copy_context().run(self._executor.execute, request)
            tidy_after_task(request)
            if self._executor.plan(request.definition).is_async and self._to_be_tidied(outcome):
                # Its connections belong to the thread in which the event loop runs synchronous code.
                loop_thread.run(sync_to_async(tidy_after_coroutine)(self._alone(request)))
        finally:
            self._vacate(slot)
        self._done(outcome)

    def _to_be_tidied(self, outcome: Outcome) -> bool:
        return outcome.state == states.FAILURE or coroutines_left_something()

    def _alone(self, request: Request) -> Request | None:
        # Coroutines share their connections: nobody knows which of several has left what.
        return request if len(self._running) == 1 else None

    def _serve(self, slot: int, wait: Callable[[], bool]) -> None:
        """Run what waits in this thread; ``wait()`` is False when the pool stops."""
        while True:
            try:
                request = self._waiting.popleft()
            except IndexError:
                if not wait():
                    return
            else:
                self._perform(slot, request)


class SoloPool(Pool):
    """One task after the other, in the main thread: soft limits by signal, hard limits by killing the process."""

    def __init__(self, executor: Executor, block: Block, slots: int = 1) -> None:
        super().__init__(executor, block, slots)
        self._wakeup = threading.Event()

    def _run(self) -> None:
        self._serve(0, self._wait)

    def interrupt(self, number: int) -> None:
        """End the task for which the supervisor has sent this signal, if it runs here still; for the main thread's handler."""
        request, running = self._executor.inside, self._running.get(0)
        if request is None or running is None or not self._block.is_for(number, running.since):
            return
        request.terminated, request.terminated_by = True, number
        if number == signal.SIGUSR1:
            raise SoftTimeLimitExceeded
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        # As Celery's processes do, so that ``finally`` blocks run, and no ``except Exception`` keeps the task from its end.
        raise SystemExit(f"the task was terminated by {signal.Signals(number).name}")

    def _wait(self) -> bool:
        self._wakeup.clear()
        if self._waiting:
            return True
        if self._stopping:
            return False
        if not self._wakeup.wait(IDLE):
            tidy_after_idling()
            self._wakeup.wait()
        return True

    def _notify(self, count: int) -> None:
        if not self._wakeup.is_set():
            self._wakeup.set()
            # Else this thread would keep the interpreter from it until it waits for something itself.
            time.sleep(A_MOMENT)


class ThreadsPool(Pool):
    """Several tasks at once, a thread each: good for tasks that wait. A hard limit costs the whole process."""

    def __init__(self, executor: Executor, block: Block, slots: int = 1) -> None:
        super().__init__(executor, block, slots)
        self._work = threading.Condition()

    def _run(self) -> None:
        threads = [
            threading.Thread(target=self._thread, args=(slot,), name=f"django_tasks-{slot}", daemon=True) for slot in range(self.slots)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _thread(self, slot: int) -> None:
        self._serve(slot, self._wait)
        tidy_after_idling()

    def _wait(self) -> bool:
        with self._work:
            if self._idle():
                if self._work.wait(IDLE):
                    return True
            else:
                return bool(self._waiting) or not self._stopping
        tidy_after_idling()
        with self._work:
            if self._idle():
                self._work.wait()
        return True

    def _idle(self) -> bool:
        return not self._waiting and not self._stopping

    def _notify(self, count: int) -> None:
        with self._work:
            self._work.notify(count)


class AsyncioPool(Pool):
    """Coroutines on the main thread's event loop; other functions in a bounded number of threads beside it."""

    def __init__(self, executor: Executor, block: Block, slots: int = 1) -> None:
        super().__init__(executor, block, slots)
        self._free = list(range(slots))
        self._context = Context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finished: asyncio.Event | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        #: Slots whose coroutine runs now, and may be cancelled.
        self._inside: dict[int, Request] = {}
        self._ready = threading.Event()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            main = loop.create_task(self._main())
            run_on(lambda: loop.run_until_complete(main))

    async def _main(self) -> None:
        self._loop, self._context = asyncio.get_running_loop(), copy_context()
        self._finished = asyncio.Event()
        self._threads = ThreadPoolExecutor(min(self.slots, MOST_THREADS), thread_name_prefix="django_tasks")
        self._ready.set()
        self._fill()
        await self._finished.wait()
        self._threads.shutdown()

    def _notify(self, count: int) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._fill)

    def _fill(self) -> None:
        while self._free and self._waiting:
            try:
                request = self._waiting.popleft()
            except IndexError:  # taken back by the consumer thread in this moment
                break
            slot = self._free.pop()
            self._occupy(slot, request)
            # Not in the context of the task that has just made room.
            context = self._context.copy()
            self._tasks[slot] = asyncio.get_running_loop().create_task(self._slot(slot, request), context=context)
        if self._stopping and not self._running and not self._waiting and self._finished is not None:
            self._finished.set()

    async def _slot(self, slot: int, request: Request) -> None:
        try:
            if self._executor.plan(request.definition).is_async:
                self._inside[slot] = request
                outcome = await self._executor.aexecute(request)
                del self._inside[slot]
                if not self._waiting or self._to_be_tidied(outcome):
                    await sync_to_async(tidy_after_coroutine)(self._alone(request))
            else:
                outcome = await self._in_thread(request)
        finally:
            self._vacate(slot)
            self._tasks.pop(slot, None)
            self._free.append(slot)
        self._done(outcome)
        self._fill()

    def forget(self) -> None:
        """Do the same, and let the loop end the process before it runs another coroutine."""
        super().forget()
        end_loop(self._loop)

    async def _in_thread(self, request: Request) -> Outcome:
        def perform() -> Outcome:
            outcome = copy_context().run(self._executor.execute, request)
            tidy_after_task(request)
            return outcome

        return await asyncio.get_running_loop().run_in_executor(self._threads, perform)

    def cancel(self, task_id: str) -> bool:
        """Cancel a running coroutine; what runs in a thread runs on."""
        for slot, running in list(self._running.items()):
            request = running.request
            if request.message.id == task_id and self._loop is not None and self._executor.plan(request.definition).is_async:
                # By way of the loop twice: one that has just been put there must have begun, or nothing would come of it.
                self._loop.call_soon_threadsafe(self._loop.call_soon, self._cancel, slot, request)
                return True
        return False

    def _cancel(self, slot: int, request: Request) -> None:
        # Once its coroutine has ended there is only its outcome, which must not be lost.
        if self._inside.get(slot) is request:
            request.terminated = True
            self._tasks[slot].cancel()


POOLS: dict[str, type[Pool]] = {"prefork": SoloPool, "solo": SoloPool, "threads": ThreadsPool, "asyncio": AsyncioPool}
