"""What a consumer holds: messages that the server waits to hear of."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from django_tasks.brokers.kombu.declaring import Declared
from django_tasks.brokers.kombu.envelopes import earlier_deliveries
from django_tasks.messages import DELIVERY_COUNT, KEPT_ASIDE, Death, Delivery, Disposition, Envelope, Settlement


@dataclass(slots=True)
class Held:
    """A delivery that the server waits to hear of."""

    #: The server's number of it, and its tag: connection, number and task.
    number: int
    tag: str
    envelope: Envelope
    queue: Declared
    window: str
    key: str
    #: Whether the server has handed it out before.
    again: bool
    #: When it may be handed out, if it has to wait.
    due: float = 0.0


def delivery_of(held: Held, starts: int = 0, death: Death | None = None) -> Delivery:
    """Hand it out; it has been started ``starts`` times since it was published."""
    envelope = held.envelope
    earlier = 0
    if DELIVERY_COUNT in envelope.headers:
        if held.again and held.queue.quorum and KEPT_ASIDE not in envelope.headers:
            # The server's own count, which knows nothing of what was never started.
            headers = {name: value for name, value in envelope.headers.items() if name != DELIVERY_COUNT}
            envelope = replace(envelope, headers=headers)
        else:
            earlier = earlier_deliveries(envelope.headers)
    return Delivery(envelope, held.tag, held.queue.name, 1 + earlier + max(0, starts), death)


def last_in_a_row(outstanding: Mapping[str, Held], gone: Collection[str]) -> int:
    """Return the number up to which all that is outstanding, oldest first, is gone; 0 if that is one or none.

    One frame can acknowledge all of these.
    """
    last = count = 0
    for tag, held in outstanding.items():
        if tag not in gone:
            break
        last, count = held.number, count + 1
    return last if count > 1 else 0


def goes_back(settlement: Settlement) -> bool:
    """Whether a message returns to its queue."""
    return settlement.disposition is Disposition.REQUEUE
