"""Messages that a worker sends again in the place of a delivery: put off by more than its broker can do, or marked."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django_tasks import clock
from django_tasks.brokers.broker import Broker
from django_tasks.messages import DELIVERY_COUNT, NOTHING, Delivery, Disposition, Envelope, Settlement


def again(delivery: Delivery, not_before: datetime | None, *, counted: bool = False, headers: Mapping[str, Any] = NOTHING) -> Envelope:
    """Return a delivery's envelope as it is to be sent again: to the queue it came from, with further headers.

    It keeps its count of hand-outs; this one is among them if it is ``counted``.
    """
    envelope = delivery.envelope
    earlier = delivery.deliveries if counted else delivery.deliveries - 1
    kept = {name: value for name, value in envelope.headers.items() if name != DELIVERY_COUNT}
    if earlier > 0:
        kept[DELIVERY_COUNT] = earlier
    kept.update(headers)
    changed = replace(envelope, headers=kept, queue=delivery.queue, not_before=not_before)
    if not envelope.exchange:
        return changed
    # Not through its exchange again: that may lead to other queues as well, which have had their copies.
    return replace(changed, exchange="", routing_key=delivery.queue)


def substitute(settlement: Settlement, broker: Broker) -> Envelope | None:
    """Return what is sent in the place of a delivery, which is then acknowledged; None where the broker can settle it."""
    if settlement.instead is not None:
        return settlement.instead
    until = settlement.until
    if settlement.disposition is not Disposition.DELAY or until is None:
        return None
    if broker.delays and (until - clock.now()).total_seconds() <= broker.longest_delay:
        return None
    return again(settlement.delivery, until, counted=settlement.counted)
