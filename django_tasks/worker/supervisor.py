"""Forks, watches, kills and replaces the worker's processes. One thread, no connection, owns no message."""

import gc
import logging
import os
import select
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any, Final

from django_tasks import clock, signals
from django_tasks.worker.autoscaler import Autoscaler
from django_tasks.worker.beforefork import close_what_is_open
from django_tasks.worker.child import run_child
from django_tasks.worker.node import Beat, run_node
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pipe import Channel
from django_tasks.worker.process import Process, fork
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.recovery import CRASHED, OVERDUE, STOPPED, TERMINATED, UNREAD
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.scoreboard import Block, End, Hand, Line, Scoreboard
from django_tasks.worker.shutdown import Shutdown, SignalMailbox
from django_tasks.worker.watchdog import Sign, Watchdog, patience

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two looks at the scoreboard while a task with a time limit runs, and otherwise.
LOOK: Final = (0.1, 1.0)
#: Seconds that the other tasks of a child have when one of them has passed its hard limit.
GRACE: Final = 10.0
#: Seconds that a child has to come back from its first call of the broker when it has been told to stop.
START_GRACE: Final = 5.0
#: Seconds that a task which is terminated has for its clean-up.
TERMINATE_GRACE: Final = 5.0
#: Signals that ask a task to end; after any other one it may run on.
_ENDINGS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
#: A child that ends sooner than this after its start (seconds) is replaced with a growing delay.
TOO_SOON: Final = 1.0
MOST_DELAY: Final = 30.0
#: Seconds that the node has to settle what the last children left.
NODE_PATIENCE: Final = 10.0
#: Room for processes that are added while the worker runs.
SPARE: Final = 16


class Supervisor:
    """A worker of several processes, from its start to its exit status."""

    def __init__(self, options: WorkerOptions, *, rates: RateLimits, revoked: RevokedTasks, beat: Beat | None = None) -> None:
        self._options = options
        self._rates = rates
        self._revoked = revoked
        self._beat = beat
        least = options.min_concurrency
        self._scaler = Autoscaler(options.children, least) if least is not None and options.pool == "prefork" else None
        self._wanted = options.children if self._scaler is None else self._scaler.least
        self._scoreboard = Scoreboard(options.children * 2 + SPARE if options.pool == "prefork" else 1, options.slots)
        self._mailbox = SignalMailbox()
        self._children: dict[int, Process] = {}
        self._node: Process | None = None
        #: What the node is to settle and has not confirmed yet, by the dead child's consumer id.
        self._unburied: dict[str, dict[str, Any]] = {}
        self._standing: dict[str, dict[str, Any]] = {}
        self._kill_at: dict[int, float] = {}
        #: Those of them that had not begun to work when they were told to stop.
        self._starting: set[int] = set()
        self._drained: set[int] = set()
        self._watchdogs: dict[int, Watchdog] = {}
        self._status = 0
        self._count = 0
        self._failures = 0
        self._start_at = 0.0
        self._announced = Shutdown.NO
        self._deadline: float | None = None

    def run(self) -> int:
        """Supervise until told to stop; return the exit status: 0 after a warm shutdown, 1 after a cold one."""
        self._mailbox.open()
        # What is alive now stays alive in every child: a collector that leaves it alone leaves its pages shared.
        gc.collect()
        gc.freeze()
        try:
            while True:
                self._heed_signals()
                self._reap()
                self._fill()
                if self._over():
                    break
                self._wait()
                self._hear()
                self._enforce_limits()
                self._autoscale()
            self._stop_node()
        finally:
            self._mailbox.close()
        return 1 if self._mailbox.shutdown is Shutdown.COLD else self._status

    @property
    def wants_restart(self) -> bool:
        """Whether SIGHUP asked for a new start after this run."""
        return self._mailbox.restart

    # ---- processes

    def _fill(self) -> None:
        if self._node is None:
            self._start_node()
        if self._mailbox.shutdown is not Shutdown.NO or clock.monotonic() < self._start_at:
            return
        while len(self._children) + len(self._drained) < self._wanted:
            self._start_child()

    def _start_child(self) -> None:
        index = next(i for i in range(len(self._scoreboard)) if i not in self._children)
        block = self._scoreboard[index]
        block.clear()
        self._count += 1
        consumer_id = f"{self._options.name}/{self._options.instance}/{self._count}"
        signals.worker_before_create_process.send(self._options.name)
        process = self._fork(
            lambda channel: run_child(
                self._options, consumer_id=consumer_id, block=block, rates=self._rates, revoked=self._revoked, channel=channel
            ),
            consumer_id,
        )
        self._children[index] = process
        for command in self._standing.values():
            process.channel.send(command)

    def _start_node(self) -> None:
        self._count += 1
        consumer_id = f"{self._options.name}/{self._options.instance}/node{self._count}"
        self._node = self._fork(
            lambda channel: run_node(self._options, scoreboard=self._scoreboard, channel=channel, consumer_id=consumer_id, beat=self._beat),
            consumer_id,
        )
        for command in self._unburied.values():
            self._tell_node(command)

    def _fork(self, be: Callable[[Channel], int], consumer_id: str) -> Process:
        # Whatever an app has opened must not be shared with a child.
        close_what_is_open()
        others = [process for process in (*self._children.values(), self._node) if process is not None]
        return fork(be, consumer_id=consumer_id, close=others)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._bury(pid, status)

    def _bury(self, pid: int, status: int) -> None:
        if self._node is not None and pid == self._node.pid:
            self._node.close()
            # It may have taken over what a child was running, and not have settled it yet.
            for command in self._unburied.values():
                command["holders"].append(self._node.consumer_id)
            self._node = None
            if self._mailbox.shutdown is Shutdown.NO and not self._over():
                logger.error("The node process died (%s); a new one takes its place", describe(status))
            return
        for index, process in list(self._children.items()):
            if process.pid == pid:
                del self._children[index]
                self._kill_at.pop(index, None)
                self._starting.discard(index)
                self._watchdogs.pop(pid, None)
                process.close()
                self._after(index, process, status)

    def _after(self, index: int, process: Process, status: int) -> None:
        block = self._scoreboard[index]
        end = block.ended
        if end is End.DRAINED:
            self._drained.add(process.pid)
        elif end is End.UNREACHABLE:
            self._end_without_broker()
        elif end is End.LOST or status:
            if not process.silent:
                logger.error("Child process %d died (%s)", process.pid, describe(status))
            self._slow_down(process)
        else:
            self._failures = 0
        # What a stuck process has begun since is no more to blame than what a cold shutdown ends.
        cause = STOPPED if self._mailbox.shutdown is Shutdown.COLD or process.silent else CRASHED
        lines = block.running()
        command = {
            "do": "recover",
            "consumer_id": process.consumer_id,
            "holders": [process.consumer_id],
            "how": describe(status),
            "finished": block.finished,
            "started": {
                **(self._in_hand(block) if cause == CRASHED and not process.blamed and end is End.LOST else {}),
                **{line.tag: process.blamed.get(line.task_id, cause) for line in lines if line.tag},
            },
            "acknowledged": [(line.task_id, line.awaited, process.blamed.get(line.task_id, cause)) for line in lines if not line.tag],
        }
        self._unburied[process.consumer_id] = command
        self._tell_node(command)
        block.clear()

    @staticmethod
    def _in_hand(block: Block) -> dict[str, str]:
        hand, tags = block.in_hand()
        return dict.fromkeys(tags, UNREAD if hand is Hand.READ else CRASHED)

    def _end_without_broker(self) -> None:
        # It has said why; the others can't reach the broker either.
        self._status = 1
        if self._mailbox.shutdown is Shutdown.NO:
            self._mailbox.shutdown = Shutdown.WARM

    def _slow_down(self, process: Process) -> None:
        # A child that can't even start would otherwise be forked as fast as the machine can.
        if clock.monotonic() - process.born < TOO_SOON:
            self._failures += 1
            delay = min(MOST_DELAY, 0.1 * 2**self._failures)
            self._start_at = clock.monotonic() + delay
            logger.error("It died right after its start; the next one starts in %.1fs", delay)
        else:
            self._failures = 0

    # ---- waiting and hearing

    def _wait(self) -> None:
        for process in self._children.values():
            process.channel.push()
        limited = any(line.deadline is not None for block in self._scoreboard.blocks for line in block.running())
        limited = limited or any(process.ending is not None for process in self._children.values())
        timeout = LOOK[0] if limited or self._kill_at or clock.monotonic() < self._start_at else LOOK[1]
        sources: list[SignalMailbox | Channel] = [self._mailbox]
        sources += [process.channel for process in self._speaking() if not process.channel.closed]
        with suppress(InterruptedError):
            readable, _, _ = select.select(sources, [], [], timeout)
            if self._mailbox in readable:
                self._mailbox.drain()

    def _speaking(self) -> list[Process]:
        return [*self._children.values(), *([] if self._node is None else [self._node])]

    def _hear(self) -> None:
        for command in chain.from_iterable(process.channel.receive() for process in self._speaking()):
            match command:
                case {"do": "tell", "command": order}:
                    self._tell_children(order)
                case {"do": "recovered", "consumer_id": consumer_id}:
                    self._unburied.pop(consumer_id, None)
                case {"do": "terminate", "task_id": task_id}:
                    self._terminate(task_id, signal.Signals[command.get("signal", "SIGTERM")])
                case _:
                    logger.error("The supervisor does not know the command %r", command)

    def _tell_node(self, command: Mapping[str, Any]) -> None:
        # What a node that has died did not hear is told again to the next one, as it was not confirmed.
        if self._node is not None and not self._node.channel.closed:
            self._node.channel.send(command)

    def _tell_children(self, order: dict[str, Any]) -> None:
        for process in self._children.values():
            process.channel.send(order)
        # Children that start later must know it, too: what is revoked before their first message, so they are born with it.
        if not self._revoked.obey(order):
            self._standing[order["do"]] = order

    # ---- limits

    def _enforce_limits(self) -> None:
        now = clock.monotonic()
        for index, process in list(self._children.items()):
            block = self._scoreboard[index]
            for line in block.overdue(now):
                if process.blamed.get(line.task_id) != OVERDUE:
                    text = "Task [%s] has passed its hard time limit of %gs; its process %d is killed%s"
                    logger.error(text, line.task_id, line.limit, process.pid, process.shown_stacks())
                    process.blamed[line.task_id] = OVERDUE
                    self._end_child(index, process, now)
            if index in self._starting and block.has_begun:
                self._starting.discard(index)
                self._kill_at.pop(index, None)
            if now >= self._kill_at.get(index, now + 1) or (index in self._kill_at and process.runs_only_blamed(block)):
                self._kill(process)
            self._notice_ending(process, block, now)
            self._notice_silence(process, block, now)

    def _end_child(self, index: int, process: Process, now: float) -> None:
        if self._options.slots == 1:
            self._kill(process)
        elif index not in self._kill_at:
            # The other tasks of this process would die with it: let it take no more, and give them some time.
            process.channel.send({"do": "stop"})
            self._kill_at[index] = now + GRACE

    def _terminate(self, task_id: str, number: signal.Signals) -> None:
        for index, process in self._children.items():
            lines = [line for line in self._scoreboard[index].running() if line.task_id == task_id]
            if lines and self._options.slots == 1:
                self._interrupt(index, process, lines[0], number)
            elif lines:
                process.channel.send({"do": "cancel", "task_id": task_id})

    def _interrupt(self, index: int, process: Process, line: Line, number: signal.Signals) -> None:
        logger.info("Task [%s] is terminated: its process %d gets %s", line.task_id, process.pid, number.name)
        process.blamed[line.task_id] = TERMINATED
        if number in _ENDINGS:
            process.ending = (line, clock.monotonic() + TERMINATE_GRACE)
        elif number != signal.SIGKILL:
            process.ending = (line, float("inf"))
        self._scoreboard[index].interrupt(number, line.started)
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

    def _notice_ending(self, process: Process, block: Block, now: float) -> None:
        if process.ending is None:
            return
        line, deadline = process.ending
        if line not in block.running():
            # It has ended by itself, and says how.
            process.ending = None
            process.blamed.pop(line.task_id, None)
        elif now >= deadline:
            process.ending = None
            logger.warning(
                "Task [%s] runs on %gs after its end was asked for; its process %d is killed", line.task_id, TERMINATE_GRACE, process.pid
            )
            self._kill(process)

    def _notice_late_start(self, process: Process, now: float) -> None:
        # It has not begun to consume, so there is nothing to wait for.
        if now - process.born > self._options.start_timeout and not process.silent:
            process.silent = True
            logger.error(
                "Process %d has not begun to work within %gs of its start (WORKER_PROC_ALIVE_TIMEOUT): it is killed and replaced. It may "
                "hang in a receiver of worker_process_init, or wait for a server",
                process.pid,
                self._options.start_timeout,
            )
            self._kill(process)

    def _notice_silence(self, process: Process, block: Block, now: float) -> None:
        if not block.has_begun:
            self._notice_late_start(process, now)
            return
        watchdog = self._watchdogs.setdefault(process.pid, Watchdog(patience(self._options.lease)))
        match watchdog.look(now, block.last_fetch, block.running()):
            case Sign.STUCK:
                silence = now - block.last_fetch
                logger.error("Process %d has not asked the broker for %.0fs; it is replaced when its task has ended", process.pid, silence)
            case Sign.BACK:
                logger.warning("Process %d asks the broker again, and stays", process.pid)
            case Sign.LOST if not process.silent:
                process.silent = True
                logger.error("Process %d, which does not ask the broker any more, is killed and replaced", process.pid)
                self._kill(process)

    def _kill(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)

    # ---- the end

    def _heed_signals(self) -> None:
        more, self._mailbox.more = self._mailbox.more, 0
        if more:
            self._resize(more)
        wanted = self._mailbox.shutdown
        if wanted is Shutdown.WARM and self._deadline is not None and clock.monotonic() >= self._deadline:
            wanted = self._mailbox.shutdown = Shutdown.COLD
        if wanted is self._announced:
            return
        self._announced = wanted
        signals.worker_shutting_down.send(self._options.name, sig=None, how=wanted.value, exitcode=0)
        if wanted is Shutdown.WARM:
            self._begin_warm()
        else:
            logger.warning("Cold shutdown: what runs is stopped and given back")
            for process in self._children.values():
                self._kill(process)

    def _begin_warm(self) -> None:
        logger.info("Warm shutdown: what runs is finished, the rest is given back. Signal again to stop at once.")
        if self._options.shutdown_timeout is not None:
            self._deadline = clock.monotonic() + self._options.shutdown_timeout
        for index, process in self._children.items():
            process.channel.send({"do": "stop"})
            block = self._scoreboard[index]
            if not block.last_fetch:
                # It can't hear that yet, and may hang. It has nothing that could be lost.
                process.silent = True
                self._kill(process)
            elif not block.has_begun:
                self._starting.add(index)
                self._kill_at[index] = clock.monotonic() + START_GRACE

    def _resize(self, more: int) -> None:
        if self._options.pool != "prefork":
            return
        self._wanted = min(max(1, self._wanted + more), len(self._scoreboard))
        logger.info("The pool has %d processes now", self._wanted)
        # Those that have nothing to do go first.
        by_load = sorted(self._children, key=lambda index: not self._scoreboard[index].running())
        for index in by_load[self._wanted :]:
            self._children[index].channel.send({"do": "stop"})

    def _autoscale(self) -> None:
        if self._scaler is None or self._mailbox.shutdown is not Shutdown.NO:
            return
        busy = sum(bool(self._scoreboard[index].running()) for index in self._children)
        change = self._scaler.wanted(self._wanted, busy, clock.monotonic()) - self._wanted
        if change:
            self._resize(change)

    def _over(self) -> bool:
        if self._children:
            return False
        return self._mailbox.shutdown is not Shutdown.NO or len(self._drained) >= self._wanted

    def _stop_node(self) -> None:
        if self._node is None and self._unburied:
            self._start_node()
        self._tell_node({"do": "stop"})
        deadline = clock.monotonic() + NODE_PATIENCE
        while self._node is not None and clock.monotonic() < deadline:
            self._node.channel.push()
            self._wait()
            self._hear()
            self._reap()
        if self._node is not None:
            logger.error("The node did not end in %.0fs and is killed; leases will lapse by themselves", NODE_PATIENCE)
            self._kill(self._node)


def describe(status: int) -> str:
    """Say how a process ended."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
