"""The child's only thread that touches the broker: receive, admit, hand over, flush, extend, give back."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from django.db import connections

from django_tasks import clock, signals, timelimits
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.dbaccess import close_broken
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Delivery, Disposition, Settlement
from django_tasks.outcomes import Outcome, ignores_result
from django_tasks.worker.admission import Admission
from django_tasks.worker.announcing import Announcer
from django_tasks.worker.completer import Completer
from django_tasks.worker.keepingaside import keeping_aside
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.outage import Outage, broker_in_words, endurance, servers_in_words
from django_tasks.worker.parked import parked_messages_are_due
from django_tasks.worker.pools import Pool
from django_tasks.worker.prefetch import MOST, MOST_FROM_A_BROKER, Prefetch
from django_tasks.worker.process import resident_kib
from django_tasks.worker.recovery import outcome_of_redelivery
from django_tasks.worker.revocations import learn_revocations
from django_tasks.worker.revoked import RevokedStamps, RevokedTasks
from django_tasks.worker.scoreboard import Block, Hand
from django_tasks.worker.verdicts import outcome_of, outcome_of_revoked
from django_tasks.worker.watchdog import LONGEST_WAIT

logger = logging.getLogger("django_tasks.worker")

#: Seconds after which a task in front of others counts as long, and the others are given back.
HOARDING: Final = 1.0
#: Seconds a task must have run before STARTED is worth a write.
WORTH_MARKING: Final = 0.1
#: Seconds of silence from the broker after which a draining worker counts the queues as empty; and where the broker pushes, and
#: holds back what comes again for a moment.
DRAINED_AFTER: Final = 0.5
DRAINED_AFTER_PUSHING: Final = 2.0


class ConsumerThread(threading.Thread):
    """Runs until stopped, and then until everything held is settled."""

    def __init__(
        self,
        *,
        broker: Broker,
        options: WorkerOptions,
        consumer_id: str,
        admission: Admission,
        revoked: RevokedTasks,
        pool: Pool,
        block: Block,
        announcer: Announcer,
        make_completer: Callable[[Callable[[], None]], Completer],
    ) -> None:
        super().__init__(name="django_tasks-consumer")
        self._broker = broker
        self._queues: Sequence[str] = options.queues
        self._consumer: Consumer = keeping_aside(broker, broker.consume(options.queues, consumer_id=consumer_id), options.lease)
        self._options = options
        self._admission = admission
        self._revoked = revoked
        self._pool = pool
        self._block = block
        self._announcer = announcer
        pool.at_start = announcer.at_start
        admission.reading = lambda tag: block.hold(Hand.READ, (tag,))
        self._completer = make_completer(self._consumer.wake)
        self._completer.block = block
        self._prefetch = Prefetch(pool, options, MOST if broker.joins_transaction else MOST_FROM_A_BROKER)
        self._commands: deque[Mapping[str, Any]] = deque()
        self._held: dict[str, Delivery] = {}
        self._marked: set[str] = set()
        self._extended = clock.awake_or_not()
        self._busy = clock.monotonic()
        #: Fates of messages that the broker could not be told yet.
        self._owed: list[Settlement] = []
        self._outage = Outage()
        self._reached = self._answered = False
        self._stopping = False
        #: Takes what the supervisor is to do.
        self.answer: Callable[[Mapping[str, Any]], None] = lambda command: None
        #: Why the loop ended by itself: "drained", "tasks", "memory" or "unreachable"; "" when it was told to.
        self.reason = ""

    # ---- for other threads

    def command(self, command: Mapping[str, Any]) -> None:
        """Take a command from the supervisor; carried out within a turn."""
        self._commands.append(command)
        self._consumer.wake()

    def done(self, outcome: Outcome) -> None:
        """Take an outcome from a slot."""
        if self._announcer.on:
            self._announcer.ending(outcome)
        self._completer.add(outcome, urgent=self._pool.held() == 0)

    # ---- the loop

    def run(self) -> None:
        """Turn until there is nothing left to do."""
        # The first stamp: a consumer that never comes back from its first call must be noticed, too.
        self._block.beginning(clock.monotonic())
        try:
            self._learn_revocations()
            while not self._finished():
                try:
                    self._turn()
                except OperationalError as error:
                    self._stumble(error)
                except Exception as error:
                    logger.exception("The consumer made a mistake; it goes on")
                    self._stumble(error)
                else:
                    if self._answered:
                        self._reached = True
                        self._outage.succeeded(servers_in_words())
        finally:
            self._completer.end()
            self._pool.stop()
            self._consumer.close()
            self._announcer.close()
            connections.close_all()

    def _learn_revocations(self) -> None:
        # Before the first message: what was revoked while no worker ran must not run now.
        learn_revocations(self._revoked)

    def _turn(self) -> None:
        self._answered = False
        self._let_go_of_what_was_lost()
        self._obey()
        self._settle_owed()
        self._flush()
        self._extend()
        self._give_back_what_is_blocked()
        self._mark_started()
        timelimits.remind()
        limit = 0 if self._stopping else self._prefetch.room()
        deliveries = self._consumer.receive(limit, self._pause())
        # Without room for messages a consumer has nothing to ask.
        self._answered |= limit > 0
        self._block.fetched(clock.monotonic(), self._completer.finished)
        if deliveries:
            self._take(deliveries)
        elif self._options.drain and not self._stopping:
            self._notice_drained()
        self._notice_age()

    def _finished(self) -> bool:
        return self._stopping and not self._held and self._pool.held() == 0 and not self._completer.pending()

    def _pause(self) -> float:
        due = self._completer.due_in(idle=self._pool.held() == 0)
        longest = LONGEST_WAIT
        soft = timelimits.seconds_left()
        if soft is not None:
            longest = min(longest, soft + WORTH_MARKING)
        if self._pool.waiting() or self._unmarked():
            # Something runs, or will in a moment, whose start may have to be recorded.
            longest = WORTH_MARKING
        if self._options.drain:
            longest = min(longest, DRAINED_AFTER)
        return longest if due is None else min(due, longest)

    def _stumble(self, error: Exception) -> None:
        # Whatever failed, and whoever asked: a connection that the server has closed is not tried for ever.
        close_broken()
        if self.reason == "unreachable":
            # What ran on has ended meanwhile, and there is nobody to tell.
            self._forget()
            return
        limits = endurance(starting=not self._reached)
        if limits.most is not None and self._outage.failures >= limits.most and not self._completer.waits_for_results:
            self._give_up(f"{broker_in_words()} can't be reached, and {limits.because}: this worker ends. {error}")
            return
        delay = self._outage.failed(servers_in_words(), error)
        # It can't fetch, but it is alive: the supervisor must not kill what runs here because a server is away.
        self._block.fetched(clock.monotonic(), self._completer.finished)
        # What runs, or waits to be stored, is not to be run by others meanwhile, where it is not the broker that is away.
        with suppress(OperationalError):
            self._let_go_of_what_was_lost()
            self._extend()
        if not self._broker.recovers:
            # A connection that broke has given everything back by itself. What waits here will be run by others, and if it was
            # not the connection that broke, it may be.
            with suppress(OperationalError):
                self._give_back(self._pool.unstarted())
        if self._stopping and self._outage.failures * delay > self._options.lease:
            logger.error("Gave up on %d unsettled messages; others will get them when their leases lapse", len(self._held))
            self._forget()
        time.sleep(delay)

    def _give_up(self, why: str) -> None:
        logger.critical(why)
        self._end("unreachable")
        self._keep_what_is_ours(self._pool.unstarted())
        self._forget()

    def _forget(self) -> None:
        self._held.clear()
        self._owed.clear()
        self._completer.forget()
        self._announcer.forget()

    # ---- its steps

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        self._busy = clock.monotonic()
        self._held.update((delivery.tag, delivery) for delivery in deliveries)
        if not self._broker.recovers:
            deliveries = self._without_the_killed(deliveries)
        try:
            requests, verdicts = self._admission.admit(deliveries)
            self._block.let_go()
            outcomes = [outcome_of(verdict, self._options.name, followups) for verdict in verdicts]
        except Exception:
            self._block.let_go()
            # Nobody else would settle them. Counted, so that what is a mistake each time becomes a dead letter.
            self._owed += [Settlement(delivery, Disposition.REQUEUE) for delivery in deliveries]
            raise
        for outcome in outcomes:
            self._completer.add(outcome, urgent=True)
        if not all(request.definition.acks_late for request in requests):
            requests = self._acknowledged_early(requests)
        if requests:
            self._say_received(requests)
            self._prefetch.taken(len(requests))
            self._pool.submit(requests)

    def _say_received(self, requests: Sequence[Request]) -> None:
        if signals.task_received.receivers:
            for request in requests:
                signals.task_received.send(self._options.name, request=request)
        if self._announcer.on:
            self._announcer.received(requests)

    def _without_the_killed(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Settle what was killed in another process and came back by itself; return the rest."""
        left = []
        for delivery in deliveries:
            outcome = None if delivery.death is None else outcome_of_redelivery(delivery, delivery.death, self._options.name, followups)
            if outcome is None:
                left.append(delivery)
            else:
                self._completer.add(outcome, urgent=True)
        return left

    def _acknowledged_early(self, requests: list[Request]) -> list[Request]:
        """Acknowledge those that are to be forgotten before they run (acks_late=False); return what may run."""
        early = {id(request): request.delivery for request in requests if not request.definition.acks_late and request.delivery is not None}
        try:
            self._consumer.settle([Settlement(delivery, Disposition.ACK) for delivery in early.values()])
        except OperationalError as error:
            # At most once: nobody knows whether the broker has forgotten them. If it has not, they go back when it can be reached.
            logger.warning("%d tasks could not be acknowledged and are not run: %s", len(early), error)
            self._owed += [Settlement(delivery, Disposition.REQUEUE, counted=False) for delivery in early.values()]
            return [request for request in requests if id(request) not in early]
        for request in requests:
            if id(request) in early and request.delivery is not None:
                self._held.pop(request.delivery.tag, None)
                # Not to be settled again; what it said of the message stays.
                request.update(properties=request.properties, delivery_info=request.delivery_info, delivery=None)
        return requests

    def _flush(self) -> None:
        due = self._completer.due_in(idle=self._pool.held() == 0)
        if due is None or due > 0:
            return
        applied = self._completer.flush(self._consumer)
        self._answered |= bool(applied)
        if applied and self._announcer.on:
            self._announcer.ended(applied)
        for outcome in applied:
            self._busy = clock.monotonic()
            request = outcome.request
            self._marked.discard(request.message.id)
            if request.delivery is not None:
                self._held.pop(request.delivery.tag, None)
            self._prefetch.ran(outcome.runtime)

    def _let_go_of_what_was_lost(self) -> None:
        """After a freeze or an outage that outlasted the leases: nothing may come of what others have been given."""
        now = clock.awake_or_not()
        if not self._held or now - self._extended <= self._options.lease:
            return
        kept = self._consumer.kept(list(self._held.values()))
        lost = {tag: self._held.pop(tag) for tag in self._held.keys() - kept}
        self._extended = now
        if not lost:
            return
        logger.warning("%d messages were given to others: this process could not renew their leases in time. It drops them", len(lost))
        self._owed = [settlement for settlement in self._owed if settlement.delivery.tag not in lost]
        waiting = self._pool.unstarted()
        left = [request for request in waiting if request.delivery is None or request.delivery.tag not in lost]
        self._prefetch.taken(len(left) - len(waiting))
        if left:
            self._pool.submit(left)
        # Of what has not begun nothing will come.
        unstarted = {one.delivery.tag for one in waiting if one.delivery is not None}
        self._completer.drop(delivery for tag, delivery in lost.items() if tag not in unstarted)
        running = [running.request for running in self._pool.running()]
        self._marked.update(one.message.id for one in running if one.delivery is not None and one.delivery.tag in lost)

    def _extend(self) -> None:
        now = clock.awake_or_not()
        if self._held and now - self._extended >= self._options.lease / 3:
            self._consumer.extend(list(self._held.values()))
            self._extended = now
        elif not self._held:
            self._extended = now

    def _give_back_what_is_blocked(self) -> None:
        if self._pool.waiting() and (self._prefetch.stuck(HOARDING) >= self._pool.slots or self._prefetch.hoards(HOARDING)):
            self._give_back(self._pool.unstarted())

    def _give_back(self, requests: Sequence[Request]) -> None:
        self._owed += [
            Settlement(request.delivery, Disposition.REQUEUE, counted=False) for request in requests if request.delivery is not None
        ]
        self._prefetch.taken(-sum(request.delivery is not None for request in requests))
        self._keep_what_is_ours(requests)
        self._settle_owed()

    def _settle_owed(self) -> None:
        if self._owed:
            self._consumer.settle(self._owed)
            for settlement in self._owed:
                self._held.pop(settlement.delivery.tag, None)
            self._owed = []

    def _keep_what_is_ours(self, requests: Sequence[Request]) -> None:
        # Acknowledged already (acks_late=False): nobody else has them, so they must run here.
        ours = [request for request in requests if request.delivery is None]
        if ours:
            self._pool.submit(ours)

    def _unmarked(self, *, for_at_least: float = 0.0) -> list[Request]:
        """Return running tasks whose STARTED is to be recorded and has not been yet."""
        horizon = clock.monotonic() - for_at_least
        return [
            running.request
            for running in self._pool.running()
            if running.since <= horizon and running.request.message.id not in self._marked and self._tracked(running.request)
        ]

    @staticmethod
    def _tracked(request: Request) -> bool:
        return bool(request.definition.track_started) and not request.stored_own_state and not ignores_result(request)

    def _mark_started(self) -> None:
        # STARTED costs a short task no write of its own: only what has run for a while is marked.
        long = self._unmarked(for_at_least=WORTH_MARKING)
        if long:
            self._marked.update(request.message.id for request in long)
            self._completer.mark_started(long)
            self._flush()

    # ---- reasons to stop

    def _notice_drained(self) -> None:
        idle = self._pool.held() == 0 and not self._held
        patience = DRAINED_AFTER if self._broker.recovers else DRAINED_AFTER_PUSHING
        if idle and clock.monotonic() - self._busy >= patience and not self._more_comes():
            self._end("drained")

    def _more_comes(self) -> bool:
        """Whether messages are due that could not be received yet: the server has not pushed them, or they are parked."""
        if self._broker.joins_transaction:
            return False
        # What lies in a queue that the server refuses can't be waited for.
        if not self._broker.recovers and any(self._broker.size(queue) for queue in self._queues if self._consumer.consumes(queue)):
            return True
        return parked_messages_are_due()

    def _notice_age(self) -> None:
        if self._stopping:
            return
        most_tasks, most_memory = self._options.max_tasks_per_child, self._options.max_memory_per_child
        if most_tasks is not None and self._prefetch.started >= most_tasks:
            self._end("tasks")
        elif most_memory is not None and resident_kib() > most_memory:
            self._end("memory")

    def _end(self, reason: str) -> None:
        # What is held already is this process's share, and is run before it goes.
        self.reason = reason
        self._stopping = True

    def _begin_to_stop(self) -> None:
        self._stopping = True
        self._give_back(self._pool.unstarted())

    # ---- commands

    def _obey(self) -> None:
        while self._commands:
            command = self._commands.popleft()
            match command:
                case {"do": "stop"}:
                    self._begin_to_stop()
                case {"do": "queues", "queues": queues}:
                    self._queues = queues
                    self._consumer.set_queues(queues)
                case {"do": "revoked" | "revoked_stamps"}:
                    self._revoked.obey(command)
                    self._discard_revoked()
                    self._stop_stamped(RevokedStamps(command.get("stop", ())))
                case {"do": "cancel", "task_id": task_id}:
                    if not self._pool.cancel(task_id):
                        logger.warning("Task [%s] runs on: the %s pool can't interrupt it", task_id, self._options.pool)
                case _:
                    logger.error("The consumer does not know the command %r", command)

    def _discard_revoked(self) -> None:
        # What waits here already was admitted before.
        left = []
        for request in self._pool.unstarted():
            if self._revoked.forbids(request.message):
                self._completer.add(outcome_of_revoked(request, followups), urgent=True)
            else:
                left.append(request)
        if left:
            self._pool.submit(left)

    def _stop_stamped(self, stamps: RevokedStamps) -> None:
        for task_id in [running.request.message.id for running in self._pool.running() if stamps.match(running.request.message)]:
            self.answer({"do": "terminate", "task_id": task_id})
