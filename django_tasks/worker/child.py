"""What a process that runs tasks does: opens its connections, starts the consumer thread, runs the pool."""

import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from django_tasks import brokers, log, result_backends, signals
from django_tasks.canvas.links import followups
from django_tasks.client import middleware
from django_tasks.conf import settings
from django_tasks.executor import Executor
from django_tasks.registry import registry
from django_tasks.worker import forks
from django_tasks.worker.admission import Admission
from django_tasks.worker.announcing import Announcer
from django_tasks.worker.completer import Completer
from django_tasks.worker.consumerthread import ConsumerThread
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pipe import Channel
from django_tasks.worker.pools import POOLS, Pool
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.scoreboard import Block, End

logger = logging.getLogger("django_tasks.worker")


#: Signals that terminals and service managers send to all processes of a worker.
_GROUP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


class Child:
    """One process's share of the work, from its start to its exit status.

    ``revoked`` is what is known to be revoked. If it is not complete, the child looks for itself before its first message.
    """

    def __init__(
        self, options: WorkerOptions, *, consumer_id: str, block: Block, rates: RateLimits, revoked: RevokedTasks | None = None
    ) -> None:
        self._options = options
        revoked = RevokedTasks() if revoked is None else revoked
        self.pool = self._make_pool(block)
        self.announcer = Announcer(options.name, on=options.task_events)
        self.consumer = ConsumerThread(
            broker=brokers.current(),
            options=options,
            consumer_id=consumer_id,
            admission=self._make_admission(revoked, rates),
            revoked=revoked,
            pool=self.pool,
            block=block,
            announcer=self.announcer,
            make_completer=self._make_completer,
        )

    def run(self) -> End:
        """Run tasks until told to stop or until this process is due for replacement; return why it ended."""
        log.install_task_context()
        self.announcer.speak_for_process()
        forks.guard(self.pool)
        # An alarm that comes a moment too late must not kill the process.
        if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            forks.handle(signal.SIGALRM, _nothing)
        signals.worker_process_init.send(self._options.name)
        log.enable_loggers()
        self.consumer.start()
        self.pool.run(self.consumer.done)
        self.consumer.join()
        signals.worker_process_shutdown.send(self._options.name, pid=os.getpid(), exitcode=0)
        return {"drained": End.DRAINED, "unreachable": End.UNREACHABLE}.get(self.consumer.reason, End.DONE)

    def _make_pool(self, block: Block) -> Pool:
        executor = Executor(follow=followups, middleware=middleware(), log_tasks=settings.WORKER_LOG_TASKS)
        return POOLS[self._options.pool](executor, block, self._options.slots)

    def _make_admission(self, revoked: RevokedTasks, rates: RateLimits) -> Admission:
        return Admission(
            find=registry.find,
            accept=settings.ACCEPT_CONTENT,
            hostname=self._options.name,
            pid=os.getpid(),
            max_deliveries=settings.TASK_MAX_DELIVERIES,
            unknown_grace=settings.UNKNOWN_TASK_GRACE,
            revoked=revoked,
            rates=rates,
        )

    def _make_completer(self, wake: Callable[[], None]) -> Completer:
        return Completer(broker=brokers.current(), backend=result_backends.current(), hostname=self._options.name, wake=wake)


def run_child(options: WorkerOptions, *, consumer_id: str, block: Block, rates: RateLimits, revoked: RevokedTasks, channel: Channel) -> int:
    """Be a child: called right after the fork; the return value is the exit status."""
    _leave_signals_to_the_supervisor()
    child = Child(options, consumer_id=consumer_id, block=block, rates=rates, revoked=revoked)
    if options.slots == 1:
        _hear_interruptions(child.pool)
    child.consumer.answer = channel.send
    listen(channel, child.consumer.command)
    block.leave(child.run())
    return 0


def listen(channel: Channel, command: Callable[[Mapping[str, Any]], None]) -> threading.Thread:
    """Pass on what the supervisor says; when it has died, that is a word to stop, too."""

    def loop() -> None:
        while not channel.closed:
            with suppress(OSError, ValueError):
                select.select([channel], [], [])
            for received in channel.receive():
                command(received)
        command({"do": "stop"})

    thread = threading.Thread(target=loop, name="django_tasks-commands", daemon=True)
    thread.start()
    return thread


def _leave_signals_to_the_supervisor() -> None:
    # Ctrl-C and service managers signal the whole group; what that means for children, the supervisor says. Handlers
    # that do nothing, rather than SIG_IGN, because programs that tasks start would inherit that.
    for number in (*_GROUP, signal.SIGUSR1):
        forks.handle(number, _nothing)
    for number in (signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)


def _hear_interruptions(pool: Pool) -> None:
    # Which of these are for the task that runs, and not for the whole group, the supervisor writes on the scoreboard.
    def interrupt(number: int, frame: object) -> None:
        pool.interrupt(number)

    for number in (*_GROUP, signal.SIGUSR1):
        forks.handle(number, interrupt)


def _nothing(number: int, frame: object) -> None:
    del number, frame
