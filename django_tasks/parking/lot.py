"""The lot itself: writing messages into it, reading them back, and what belongs there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from django.db import DatabaseError, InterfaceError

from django_tasks import brokers, clock
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.dbaccess import in_transaction
from django_tasks.exceptions import OperationalError
from django_tasks.messages import PARKED, Delivery, Envelope

_KEY: Final = "parked"
_ROW_PRIORITIES: Final = (-100, 255)


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
    return open_lot(alias).size(PARKED) or 0


def park(envelopes: Sequence[Envelope], *, alias: str | None = None) -> None:
    """Write messages into the parking lot, as part of the transaction that is open on its database, if one is.

    They are forwarded when the current broker can take them: at once, or when no more is left until ``not_before`` than it can
    delay by itself. Raises OperationalError when the database can't take them, and EncodeError for headers that JSON can't hold.
    """
    seconds = reach(brokers.current())
    open_lot(alias).publish([parked_row(envelope, due_of(envelope, seconds)) for envelope in envelopes])


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
        with in_transaction(alias):
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


def open_lot(alias: str | None = None) -> Broker:
    """Open the database broker of the lot, in TASK_OUTBOX_DATABASE or the database ``alias``. Nothing connects yet."""
    return _opened(alias or settings.TASK_OUTBOX_DATABASE)


@cache
def _opened(alias: str) -> Broker:
    # By its URL, since its module holds models, and whoever publishes may do so before the apps are ready.
    return brokers.open_broker(f"db://{quote(alias, safe='')}")


# ---- rows


def due_of(envelope: Envelope, seconds: float) -> datetime | None:
    """When a broker that can delay for so many seconds can take this message; None for now."""
    if envelope.not_before is None or seconds == float("inf"):
        return None
    return envelope.not_before - timedelta(seconds=seconds)


def parked_row(envelope: Envelope, due: datetime | None) -> Envelope:
    """Return the envelope of a row that falls due then, and says where this one is going."""
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


def due_at_once(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a parked message's row without its due time."""
    kept = properties.get(_KEY)
    return {**properties, _KEY: {**kept, "not_before": None}} if isinstance(kept, Mapping) else dict(properties)
