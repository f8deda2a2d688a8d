"""Handing parked messages over to their broker."""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django_tasks import clock
from django_tasks.brokers.broker import Broker
from django_tasks.exceptions import OperationalError, QueueNotFound, SerializationError
from django_tasks.messages import PARKED, DeadMessage, Delivery, Disposition, Envelope, Settlement
from django_tasks.parking.lot import due_of, open_lot, reach, restored

logger = logging.getLogger("django_tasks.parking")

#: Most messages that a forwarder hands over in one go.
BATCH: Final = 200
#: Most seconds that one wait of ``Forwarder.run`` takes; it wakes sooner for messages, due times and ``wake``.
PATIENCE: Final = 5.0
#: Seconds between two tries while the broker, or the database, is away: the first, and the most.
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
#: Failures one after the other, without a success between them, that mean that the broker is away.
STRIKES: Final = 3
#: How often a message is refused, while others of its batch pass, before it becomes a dead letter: over about half an hour, since a
#: queue that is full may be emptied.
REFUSALS: Final = 12
#: Most seconds between two tries with a message that was refused.
LONGEST_REFUSAL: Final = 300.0
#: Seconds between two looks for what killed forwarders held.
RECOVER_EVERY: Final = 5.0
#: What is wrong with the message itself and not with the broker: trying again is of no use.
_FOR_GOOD: Final = (SerializationError, QueueNotFound, ValueError)


@dataclass(slots=True)
class _Round:
    """What becomes of one batch."""

    sent: list[Settlement] = field(default_factory=list)
    #: Given back, now or for later.
    returned: list[Settlement] = field(default_factory=list)
    #: Tried in vain, and why.
    failed: list[tuple[Delivery, Envelope, Exception]] = field(default_factory=list)
    dead: list[tuple[Settlement, DeadMessage]] = field(default_factory=list)

    def bury(self, delivery: Delivery, envelope: Envelope, reason: str, error: Exception) -> None:
        letter = DeadMessage(
            envelope=envelope, reason=reason, detail=str(error) or repr(error), deliveries=delivery.deliveries, died_at=clock.now()
        )
        self.dead.append((Settlement(delivery, Disposition.DEAD, reason=reason), letter))

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        self.returned += [Settlement(delivery, Disposition.REQUEUE, counted=False) for delivery in deliveries]

    def delay(self, delivery: Delivery, until: datetime, *, counted: bool = False) -> None:
        self.returned.append(Settlement(delivery, Disposition.DELAY, until=until, counted=counted))


class Forwarder:
    """Hands parked messages over to a broker, in batches.

    Any number of them may run: each claims what it forwards, with a lease, and takes it out after the broker has it. One that is
    killed in between loses nothing; what it had just handed over is then sent a second time, with the same id. One thread calls
    ``turn`` or ``run``; ``wake`` may be called by any. ``bury`` records dead letters (``deadletters.record``).
    """

    def __init__(
        self, broker: Broker, *, consumer_id: str, bury: Callable[[Sequence[DeadMessage]], None], alias: str | None = None
    ) -> None:
        self._broker = broker
        self._bury = bury
        self._lot = open_lot(alias)
        self._consumer = self._lot.consume([PARKED], consumer_id=consumer_id)
        #: Fates of messages that the database could not be told yet.
        self._owed: list[Settlement] = []
        self._failures = 0
        self._resume_at = self._recover_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Forward until ``stop`` is set (call ``wake`` after setting it), whatever is away meanwhile; then close."""
        failures = 0
        try:
            while not stop.is_set():
                try:
                    self.turn(PATIENCE)
                    failures = 0
                except Exception as error:
                    if not isinstance(error, OperationalError):
                        logger.exception("Parked messages could not be forwarded")
                    elif not failures:
                        logger.warning("Parked messages can't be forwarded for now, trying again: %s", error)
                    failures += 1
                    self._consumer.receive(0, _pause(failures))
        finally:
            self.close()

    def turn(self, timeout: float) -> int:
        """Forward one batch; wait up to ``timeout`` seconds for its first message. Return how many the broker has taken.

        Raises OperationalError when the database can't be reached; a broker that can't be is tried again by a later turn.
        """
        self._settle()
        self._recover()
        pause = self._resume_at - clock.monotonic()
        if pause > 0:
            self._consumer.receive(0, min(pause, timeout))
            return 0
        deliveries = self._consumer.receive(BATCH, timeout)
        if not deliveries:
            return 0
        outcome = _Round()
        pairs = self._sorted(deliveries, outcome)
        (self._probe if self._failures else self._publish)(pairs, outcome)
        self._judge(outcome)
        # What was sent comes first: should the rest fail, it is not sent again.
        self._owed += [*outcome.sent, *outcome.returned]
        self._settle()
        if outcome.dead:
            self._bury([letter for _, letter in outcome.dead])
            self._owed += [settlement for settlement, _ in outcome.dead]
            self._settle()
        return len(outcome.sent)

    def wake(self) -> None:
        """End a waiting ``turn`` now. Safe from any thread and from a signal handler."""
        self._consumer.wake()

    def close(self) -> None:
        """Close the calling thread's connection to the parking lot. What is still held goes to others when its lease lapses."""
        with suppress(OperationalError):
            self._settle()
        self._consumer.close()

    def _settle(self) -> None:
        if self._owed:
            self._consumer.settle(self._owed)
            self._owed = []

    def _recover(self) -> None:
        if clock.monotonic() >= self._recover_at:
            self._recover_at = clock.monotonic() + RECOVER_EVERY
            self._lot.recover(clock.now(), limit=1000)

    def _sorted(self, deliveries: Sequence[Delivery], outcome: _Round) -> list[tuple[Delivery, Envelope]]:
        """Return what the broker can take now."""
        seconds, now = reach(self._broker), clock.now()
        takable = []
        for delivery in deliveries:
            try:
                envelope = restored(delivery)
            except ValueError as error:
                outcome.bury(delivery, delivery.envelope, "unreadable", error)
                continue
            due = due_of(envelope, seconds)
            if due is not None and due > now:
                outcome.delay(delivery, due)
            else:
                takable.append((delivery, envelope))
        return takable

    def _publish(self, pairs: Sequence[tuple[Delivery, Envelope]], outcome: _Round) -> None:
        if not pairs:
            return
        try:
            self._broker.publish([envelope for _, envelope in pairs])
        except Exception as error:  # noqa: BLE001  brokers are anybody's; no error of theirs may end the forwarding
            if len(pairs) == 1:
                outcome.failed.append((*pairs[0], error))
            else:
                self._one_by_one(pairs, outcome)
        else:
            outcome.sent += [Settlement(delivery, Disposition.ACK) for delivery, _ in pairs]

    def _probe(self, pairs: Sequence[tuple[Delivery, Envelope]], outcome: _Round) -> None:
        """Find out with a few messages whether a broker that was away is back."""
        # Any few of them: should the fault be the first ones', others must get their turn.
        left = random.sample(pairs, len(pairs))
        while left and not outcome.sent and len(outcome.failed) < STRIKES:
            self._publish([left.pop()], outcome)
        if outcome.sent:
            chosen = {delivery.tag for delivery, _ in left}
            self._publish([pair for pair in pairs if pair[0].tag in chosen], outcome)
        else:
            outcome.give_back([delivery for delivery, _ in left])

    def _one_by_one(self, pairs: Sequence[tuple[Delivery, Envelope]], outcome: _Round) -> None:
        # Each try may take the broker's whole timeout, so the leases are renewed on the way.
        for position, pair in enumerate(pairs):
            if not outcome.sent and len(outcome.failed) >= STRIKES:
                outcome.give_back([delivery for delivery, _ in pairs[position:]])
                return
            if position % 10 == 0:
                self._consumer.extend([delivery for delivery, _ in pairs])
            self._publish([pair], outcome)

    def _judge(self, outcome: _Round) -> None:
        """Decide on what failed: the message's fault, the broker's refusal, or a broker that is away."""
        failed, outcome.failed = outcome.failed, []
        left = []
        for delivery, envelope, error in failed:
            if isinstance(error, _FOR_GOOD):
                outcome.bury(delivery, envelope, "refused by the broker", error)
            else:
                left.append((delivery, envelope, error))
        if outcome.sent or not left:
            self._failures = self._failures if not outcome.sent else 0
            self._refused(left, outcome)
        else:
            self._away(left, outcome)

    def _refused(self, failed: Sequence[tuple[Delivery, Envelope, Exception]], outcome: _Round) -> None:
        # The broker took others at the same time, so it is these.
        for delivery, envelope, error in failed:
            logger.warning("The broker refused %s: %s", envelope.headers.get("id"), error)
            if delivery.deliveries >= REFUSALS:
                outcome.bury(delivery, envelope, "refused by the broker", error)
            else:
                outcome.delay(delivery, clock.after(min(2.0**delivery.deliveries, LONGEST_REFUSAL)), counted=True)

    def _away(self, failed: Sequence[tuple[Delivery, Envelope, Exception]], outcome: _Round) -> None:
        self._failures += 1
        pause = _pause(self._failures)
        self._resume_at = clock.monotonic() + pause
        if self._failures == 1:
            logger.warning("The broker takes no parked messages, trying again: %s", failed[0][2])
        # For longer than the pause: should the fault be theirs after all, the next try is made with others.
        for delivery, _, _ in failed:
            outcome.delay(delivery, clock.after(STRIKES * pause))


def _pause(failures: int) -> float:
    return float(min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE))
