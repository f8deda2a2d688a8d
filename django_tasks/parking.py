"""The parking lot: rows of the database broker in which messages wait for another broker.

Two kinds of message lie here: those that their broker can't delay for as long as they ask, until it can take them, and those
of the outbox (TASK_PUBLISH_OUTBOX), which are part of the sender's transaction and leave after its commit. A Forwarder in each
worker node hands them over. They all lie in one reserved queue, ``django_tasks.parked``; where they are really going is in the
row's properties.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Final
from urllib.parse import quote

from django.db import DatabaseError, InterfaceError, transaction

from django_tasks import brokers, clock
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.exceptions import OperationalError, QueueNotFound, SerializationError
from django_tasks.messages import PARKED, DeadMessage, Delivery, Disposition, Envelope, Settlement

logger = logging.getLogger("django_tasks.parking")

#: Most messages that a forwarder hands over in one go.
BATCH: Final = 200
#: Most seconds that one wait of ``Forwarder.run`` takes; it wakes sooner for messages, due times and ``wake``.
PATIENCE: Final = 5.0
#: Seconds between two tries while the broker, or the database, is away: the first, and the most.
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 10.0
#: Failures one after the other, without a success between them, that mean that the broker is away.
STRIKES: Final = 3
#: How often a message is refused, while others of its batch pass, before it becomes a dead letter: over about half an hour, since a
#: queue that is full may be emptied.
REFUSALS: Final = 12
#: Most seconds between two tries with a message that was refused.
LONGEST_REFUSAL: Final = 300.0
#: Seconds between two looks for what killed forwarders held.
RECOVER_EVERY: Final = 5.0

_KEY: Final = "parked"
_ROW_PRIORITIES: Final = (-100, 255)
#: What is wrong with the message itself and not with the broker: trying again is of no use.
_FOR_GOOD: Final = (SerializationError, QueueNotFound, ValueError)


def reach(broker: Broker) -> float:
    """For how many seconds a broker can keep a message aside by itself: infinity for most."""
    return broker.longest_delay if broker.delays else 0.0


def needed(broker: Broker) -> bool:
    """Whether messages of this broker can come to lie in the parking lot, so that somebody must forward them."""
    if broker.joins_transaction:
        return False
    return bool(settings.TASK_PUBLISH_OUTBOX) or reach(broker) != float("inf")


def waiting(alias: str | None = None) -> int:
    """How many messages are parked (in TASK_OUTBOX_DATABASE, or the database ``alias``), those in a forwarder's hands left out."""
    return _lot(alias or settings.TASK_OUTBOX_DATABASE).size(PARKED) or 0


def park(envelopes: Sequence[Envelope], *, alias: str | None = None) -> None:
    """Write messages into the parking lot, as part of the transaction that is open on its database, if one is.

    They are forwarded when the current broker can take them: at once, or when no more is left until ``not_before`` than it can
    delay by itself. Raises OperationalError when the database can't take them, and EncodeError for headers that JSON can't hold.
    """
    name = alias or settings.TASK_OUTBOX_DATABASE
    seconds = reach(brokers.current())
    _lot(name).publish([_row(envelope, _due(envelope, seconds)) for envelope in envelopes])


def send(broker: Broker, envelopes: Sequence[Envelope]) -> None:
    """Publish, and park what the broker can't delay that long: all, or nothing as far as two systems allow it.

    The rows are committed after the broker has taken the rest. Raises what ``publish`` does, and OperationalError when messages
    have to be parked and the database can't take them.
    """
    horizon = clock.now() + timedelta(seconds=reach(broker))
    far = [envelope for envelope in envelopes if envelope.not_before is not None and envelope.not_before > horizon]
    if not far:
        broker.publish(envelopes)
        return
    near = [envelope for envelope in envelopes if envelope.not_before is None or envelope.not_before <= horizon]
    alias = settings.TASK_OUTBOX_DATABASE
    try:
        with transaction.atomic(using=alias):
            _keep(far, alias)
            if near:
                broker.publish(near)
    except (DatabaseError, InterfaceError) as error:
        # BEGIN and COMMIT fail here, outside of what the database broker translates.
        raise _unkept(far, alias, error) from error


def _keep(envelopes: Sequence[Envelope], alias: str) -> None:
    try:
        park(envelopes, alias=alias)
    except OperationalError as error:
        raise _unkept(envelopes, alias, error) from error


def _unkept(envelopes: Sequence[Envelope], alias: str, error: Exception) -> OperationalError:
    return OperationalError(
        f"{len(envelopes)} delayed message(s) can't be kept: this broker does not delay messages for that long by itself, so they are kept "
        f"in the database {alias!r} (TASK_OUTBOX_DATABASE) until they are due, and that failed. {error}"
    )


@cache
def _lot(alias: str) -> Broker:
    # By its URL, since its module holds models, and whoever publishes may do so before the apps are ready.
    return brokers.open_broker(f"db://{quote(alias, safe='')}")


# ---- rows


def _due(envelope: Envelope, seconds: float) -> datetime | None:
    """When a broker that can delay for so many seconds can take this message; None for now."""
    if envelope.not_before is None or seconds == float("inf"):
        return None
    return envelope.not_before - timedelta(seconds=seconds)


def _row(envelope: Envelope, due: datetime | None) -> Envelope:
    lowest, highest = _ROW_PRIORITIES
    kept = {
        "queue": envelope.queue,
        "priority": envelope.priority,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "not_before": None if envelope.not_before is None else envelope.not_before.isoformat(),
        "properties": dict(envelope.properties),
        # Rows leave out headers that are null; a message must arrive as it was sent.
        "nulls": [name for name, value in envelope.headers.items() if value is None],
    }
    return replace(envelope, queue=PARKED, priority=min(max(envelope.priority, lowest), highest), not_before=due, properties={_KEY: kept})


def restored(delivery: Delivery) -> Envelope:
    """Return the envelope that was parked. Raises ValueError for a row that holds none."""
    parked = delivery.envelope
    kept = parked.properties.get(_KEY)
    if not isinstance(kept, Mapping):
        raise ValueError(  # noqa: TRY004  a row's contents, not an argument
            f"it lies in the reserved queue {PARKED!r}, but nothing says where it is going"
        )
    try:
        return replace(
            parked,
            queue=kept["queue"],
            priority=kept["priority"],
            exchange=kept["exchange"],
            routing_key=kept["routing_key"],
            not_before=clock.parse_iso(kept["not_before"]),
            properties=kept["properties"],
            headers={**dict.fromkeys(kept["nulls"]), **parked.headers},
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"what the row says of its way can't be read: {error!r}") from error


# ---- forwarding


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
        self._lot = _lot(alias or settings.TASK_OUTBOX_DATABASE)
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
        # One message finds out whether a broker that was away is back.
        deliveries = self._consumer.receive(1 if self._failures else BATCH, timeout)
        if not deliveries:
            return 0
        outcome = _Round()
        self._publish(self._sorted(deliveries, outcome), outcome)
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
            due = _due(envelope, seconds)
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
        # Not to the front again: should the fault be theirs after all, others must get their turn.
        for delivery, _, _ in failed:
            outcome.delay(delivery, clock.after(pause))


def _pause(failures: int) -> float:
    return float(min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE))
