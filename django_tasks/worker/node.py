"""The node: a worker's one auxiliary process (a thread in a solo worker).

Signs of life, maintenance, what the database says of pauses and revocations, and what becomes of tasks whose
process was killed. It runs no task, so nothing that tasks do can keep it from this.
"""

import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from django.db import Error as DatabaseError
from django.db import connections

from django_tasks import brokers, clock, deadletters, parking, result_backends
from django_tasks.canvas.links import followups
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Death
from django_tasks.models import Queue
from django_tasks.parking import aside
from django_tasks.worker.announcing import Announcer
from django_tasks.worker.completer import Completer
from django_tasks.worker.heartbeat import Heartbeat
from django_tasks.worker.maintenance import Maintenance
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.pipe import Channel
from django_tasks.worker.presence import Presence
from django_tasks.worker.recovery import STOPPED, outcome_after_death, outcome_of_acknowledged
from django_tasks.worker.revocations import RevocationWatch, StampWatch
from django_tasks.worker.scoreboard import Scoreboard

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two looks at what the database says: pauses, revocations, chores.
TURN: Final = 1.0
#: Seconds that a beat inside the node has to stop.
BEAT_PATIENCE: Final = 5.0
#: Seconds that the last events have.
EVENTS_PATIENCE: Final = 2.0
#: Seconds that the forwarder of parked messages has to stop, and that it rests after a failure.
FORWARDER_PATIENCE: Final = 5.0
FORWARDER_PAUSE: Final = 5.0

#: Runs beat until the event is set.
Beat: TypeAlias = Callable[[threading.Event], None]


class Node:
    """Runs until told to stop; what it says on its channel goes through the supervisor to the children."""

    def __init__(
        self, options: WorkerOptions, *, scoreboard: Scoreboard, channel: Channel, consumer_id: str, pid: int, beat: Beat | None = None
    ) -> None:
        self._options = options
        self._beat = beat
        self._scoreboard = scoreboard
        self._channel = channel
        self._heartbeat = Heartbeat(options, host=socket.gethostname(), pid=pid)
        self._broker = brokers.current()
        backend = result_backends.current()
        self._consumer_id = consumer_id
        self._consumer = self._broker.consume((), consumer_id=consumer_id)
        self._completer = Completer(broker=self._broker, backend=backend, hostname=options.name, wake=lambda: None)
        self._announcer = Announcer(options.name, on=options.task_events)
        self._maintenance = Maintenance(self._broker, backend, self._completer.send_bodies)
        self._queues = options.queues
        self._revocations = RevocationWatch()
        self._stamps = StampWatch()
        self._beat_at = 0.0
        self._dead: list[Mapping[str, Any]] = []
        self._buried: list[str] = []
        self._stopping = False
        self._silent = False
        self._processed_before = 0

    def run(self) -> int:
        """Turn until told to stop; return the exit status."""
        self._guarded(self._heartbeat.begin)
        threads = [end for end in (self._start_beat(), self._start_forwarding(), self._start_presence()) if end is not None]
        while not (self._stopping and not self._dead):
            self._guarded(self._turn)
            self._listen(0.0 if self._stopping else TURN)
            if self._stopping and self._silent:
                break  # a server is away: the leases will lapse
        self._completer.end()
        self._announcer.close(EVENTS_PATIENCE)
        for end in threads:
            end()
        self._guarded(lambda: self._heartbeat.end(processed=self._load()[1]))
        connections.close_all()
        return 0

    def _turn(self) -> None:
        notice = (self._notice_pauses, self._notice_revocations, self._notice_revoked_stamps)
        for chore in (self._bury_the_dead, self._beat_heart, *notice, self._maintenance.turn):
            chore()
            # Between two chores, as a broker may hand out already what a killed child was running.
            self._listen(0.0)
            if self._dead:
                self._bury_the_dead()
            if self._stopping:
                return

    def _beat_heart(self) -> None:
        now = clock.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + self._options.heartbeat
            active, processed = self._load()
            # Paused ones, too: it will consume them again.
            self._heartbeat.beat(active=active, processed=processed, queues=self._options.queues)

    def _load(self) -> tuple[int, int]:
        """How many tasks run, and how many this worker has finished."""
        blocks = self._scoreboard.blocks
        return sum(len(block.running()) for block in blocks), self._processed_before + sum(block.finished for block in blocks)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
            if self._silent and not self._stopping:
                logger.warning("The node reaches the database and the broker again")
            self._silent = False
        except (OperationalError, DatabaseError) as error:
            if not self._silent:
                logger.error("The node can't reach a server; it tries again every second: %s", error)  # noqa: TRY400  no news in its traceback
            self._silent = True
            for connection in connections.all(initialized_only=True):
                with suppress(Exception):
                    connection.close()
        except Exception:
            logger.exception("The node made a mistake; it goes on")

    # ---- commands

    def _listen(self, timeout: float) -> None:
        with suppress(OSError, ValueError):
            select.select([self._channel], [], [], timeout)
        for command in self._channel.receive():
            match command:
                case {"do": "stop"}:
                    self._stopping = True
                case {"do": "recover"}:
                    self._dead.append(command)
                    self._processed_before += int(command.get("finished", 0))
                case _:
                    logger.error("The node does not know the command %r", command)
        if self._channel.closed:
            self._stopping = True

    def _bury_the_dead(self) -> None:
        """Settle what a dead child was running; the rest it held goes back at once."""
        while self._dead:
            command = self._dead[0]
            started: Mapping[str, str] = command["started"]
            if not self._broker.recovers:
                # They come back by themselves, to any worker. A cold shutdown is no fault of theirs.
                deaths = {tag: Death(cause, command["how"]) for tag, cause in started.items() if cause != STOPPED}
                if deaths:
                    self._broker.remember_deaths(deaths)
                if self._broker.wants_settling_soon:
                    aside.release(command["holders"])
            for holder in command["holders"]:
                for delivery in self._consumer.inherit(holder, list(started)):
                    self._completer.add(outcome_after_death(delivery, started[delivery.tag], command["how"], self._options.name, followups))
            for task_id, awaited, cause in command["acknowledged"]:
                self._completer.add(outcome_of_acknowledged(task_id, awaited, command["how"], self._options.name, cause))
            self._dead.pop(0)
            self._buried.append(command["consumer_id"])
        # Also what a full server has not taken: of that, only some is waited for at the end.
        if self._completer.due_in(idle=True) is not None:
            buried = self._completer.flush(self._consumer)
            if self._announcer.on:
                self._announcer.ended(buried)
        # Only now: a node that dies before this leaves the order to the next one.
        while self._buried:
            self._channel.send({"do": "recovered", "consumer_id": self._buried.pop()})

    # ---- what the database says

    def _notice_pauses(self) -> None:
        paused = set(Queue.objects.filter(name__in=self._options.queues).exclude(paused_at=None).values_list("name", flat=True))
        queues = tuple(queue for queue in self._options.queues if queue not in paused)
        if queues != self._queues:
            logger.info("Consuming %s%s", ", ".join(queues) or "nothing", f" (paused: {', '.join(sorted(paused))})" if paused else "")
            self._queues = queues
            self._channel.send({"do": "tell", "command": {"do": "queues", "queues": queues}})

    def _notice_revocations(self) -> None:
        rows = self._revocations.look()
        if not rows:
            return
        self._channel.send({"do": "tell", "command": {"do": "revoked", "tasks": {row[1]: row[0] for row in rows}}})
        for _, task_id, terminate, name in rows:
            if terminate:
                self._channel.send({"do": "terminate", "task_id": task_id, "signal": name})

    def _notice_revoked_stamps(self) -> None:
        command = self._stamps.look()
        if command is not None:
            self._channel.send({"do": "tell", "command": command})

    # ---- beat inside

    def _start_beat(self) -> Callable[[], None] | None:
        if self._beat is None:
            return None
        stop = threading.Event()
        thread = threading.Thread(target=self._beat, args=(stop,), name="django_tasks-beat", daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join(BEAT_PATIENCE)

        return end

    # ---- what monitors hear

    def _start_presence(self) -> Callable[[], None] | None:
        # In the database there is the Worker row already: events are rows, too, and nobody may ever read them.
        if self._broker.joins_transaction and not self._options.task_events:
            return None
        presence = Presence(self._options.name, self._options.heartbeat, self._load)
        presence.start()
        return presence.end

    # ---- what waits in the database for another broker

    def _start_forwarding(self) -> Callable[[], None] | None:
        if self._broker.joins_transaction:
            return None
        stop = threading.Event()
        forwarders: list[parking.Forwarder] = []
        thread = threading.Thread(target=self._forward, args=(stop, forwarders), name="django_tasks-forwarder", daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            for forwarder in forwarders:
                forwarder.wake()
            thread.join(FORWARDER_PATIENCE)

        return end

    def _forward(self, stop: threading.Event, forwarders: list[parking.Forwarder]) -> None:
        count = 0
        while not stop.is_set():
            try:
                count += 1
                forwarder = parking.Forwarder(self._broker, consumer_id=f"{self._consumer_id}/forwarder{count}", bury=deadletters.record)
                forwarders[:] = [forwarder]
                forwarder.run(stop)
            except Exception:
                logger.exception("Parked messages could not be forwarded; trying again in %.0fs", FORWARDER_PAUSE)
                stop.wait(FORWARDER_PAUSE)
        connections.close_all()


def run_node(options: WorkerOptions, *, scoreboard: Scoreboard, channel: Channel, consumer_id: str, beat: Beat | None) -> int:
    """Be the node: called right after the fork; the return value is the exit status."""
    node = Node(options, scoreboard=scoreboard, channel=channel, consumer_id=consumer_id, pid=os.getppid(), beat=beat)
    return node.run()
