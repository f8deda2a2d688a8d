"""Forking: a process of the worker, and the command pipe to it."""

import logging
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from django_tasks import clock
from django_tasks.worker.pipe import Channel
from django_tasks.worker.scoreboard import Block, Line
from django_tasks.worker.stacks import StackReport

logger = logging.getLogger("django_tasks.worker")

_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(slots=True)
class Process:
    """A forked process as its parent sees it. ``born`` is monotonic."""

    pid: int
    consumer_id: str
    channel: Channel
    born: float = field(default_factory=clock.monotonic)
    silent: bool = False
    #: Why it is ended while it runs these tasks, by their ids.
    blamed: dict[str, str] = field(default_factory=dict)
    #: The task that was told to end, and when its process is killed if it has not.
    ending: tuple[Line, float] | None = None
    stacks: StackReport | None = None

    def runs_only_blamed(self, block: Block) -> bool:
        """Whether nothing else runs in it. One that runs nothing any more stores what came of its tasks, and ends by itself."""
        lines = block.running()
        return bool(lines) and all(line.task_id in self.blamed for line in lines)

    def shown_stacks(self) -> str:
        """Say where its threads are, as the end of a line for the log; "" if it does not tell."""
        text = self.stacks.ask(self.pid) if self.stacks is not None else ""
        return f". It was here:\n{text}" if text else ""

    def close(self) -> None:
        """Let go of what reaches it."""
        self.channel.close()
        if self.stacks is not None:
            self.stacks.close()


def fork(be: Callable[[Channel], int], *, consumer_id: str, close: Iterable[Process]) -> Process:
    """Fork a process that runs ``be`` with its end of a new command pipe, and exits with what that returns.

    ``close`` are the parent's other processes: a child that kept their pipes open would hide the parent's death from them.
    """
    (ours, theirs), stacks = Channel.pair(), StackReport()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return Process(pid, consumer_id, ours, stacks=stacks)
    status = 1
    try:
        ours.close()
        stacks.install()
        for other in close:
            other.close()
        status = be(theirs)
    except BaseException:
        logger.exception("A worker process could not go on")
    finally:
        # os._exit: the parent's exit handlers and buffers are not this process's to run.
        logging.shutdown()
        os._exit(status)


def resident_kib() -> int:
    """Return this process's resident memory in KiB; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  read every turn: the short way
            return int(file.read().split()[1]) * _PAGE_KIB
    except OSError:
        return 0
