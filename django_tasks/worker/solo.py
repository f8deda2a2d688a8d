"""A worker in one process: tasks in the main thread, the node beside them as a thread. For debuggers and small machines."""

import logging
import os
import signal
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

from django_tasks.worker import forks
from django_tasks.worker.child import Child, listen
from django_tasks.worker.node import Beat, Node
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pipe import Channel
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.scoreboard import End, Scoreboard
from django_tasks.worker.shutdown import Request, Shutdown

logger = logging.getLogger("django_tasks.worker")


class SoloWorker:
    """Runs until told to stop. There is no hard time limit, since there is nobody to enforce it."""

    def __init__(self, options: WorkerOptions, *, rates: RateLimits, revoked: RevokedTasks, beat: Beat | None = None) -> None:
        self._options = options
        self._scoreboard = Scoreboard(1, options.slots)
        consumer_id = f"{options.name}/{options.instance}/1"
        self._child = Child(options, consumer_id=consumer_id, block=self._scoreboard[0], rates=rates, revoked=revoked)
        self._ours, theirs = Channel.pair()
        self._node = Node(
            options, scoreboard=self._scoreboard, channel=theirs, consumer_id=f"{consumer_id}/node", pid=os.getpid(), beat=beat
        )
        self._asked = Request()

    def run(self) -> int:
        """Run; return the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            forks.handle(number, self._on_signal)
        node = threading.Thread(target=self._node.run, name="django_tasks-node", daemon=True)
        node.start()
        self._child.consumer.answer = self._obey
        listen(self._ours, self._obey)
        end = self._child.run()
        self._ours.send({"do": "stop"})
        node.join(5)
        return 1 if end is End.UNREACHABLE else 0

    @property
    def wants_restart(self) -> bool:
        """Whether SIGHUP asked for a new start after this run."""
        return self._asked.restart

    def _obey(self, command: Mapping[str, Any]) -> None:
        if command.get("do") == "tell":
            self._child.consumer.command(command["command"])
        elif command.get("do") == "terminate":
            logger.warning("Task [%s] can't be terminated: a solo worker has no process to kill", command.get("task_id"))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        known = self._asked.shutdown
        self._asked.signalled(number)
        if self._asked.shutdown is Shutdown.COLD:
            # What runs is left to its lease.
            os._exit(1)
        if self._asked.shutdown is known:
            return
        logger.info("Warm shutdown: what runs is finished, the rest is given back. Signal again to stop at once.")
        if self._child.consumer.ident is None:
            # Whatever it does before it begins to consume need not be waited for.
            raise SystemExit(0)
        self._child.consumer.command({"do": "stop"})
