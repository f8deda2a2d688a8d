"""Messages of tasks that run, kept here because their broker lets nobody hold one for long.

RabbitMQ ends the channel of a consumer that leaves a message unsettled for longer than ``consumer_timeout`` (30 minutes by default),
and hands the message to another one while its task still runs. So the message of a long task is settled there and kept here, as a
parked row that falls due when its holder stops renewing it; a forwarder then sends it to its queue again.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from django_tasks import clock
from django_tasks.brokers.database.rows import INSERTED, insert_rows
from django_tasks.conf import settings
from django_tasks.dbaccess import in_transaction, reaching, trying_again
from django_tasks.messages import DELIVERY_COUNT, KEPT_ASIDE, PARKED, Delivery
from django_tasks.models import Message, MessageState
from django_tasks.parking.lot import parked_row


def keep(deliveries: Sequence[Delivery], holder: str, lease: float) -> dict[str, int]:
    """Write rows that are this holder's for ``lease`` seconds; return their numbers by the deliveries' tags."""
    due = clock.now() + timedelta(seconds=lease)
    rows = [_row(delivery, holder, due) for delivery in deliveries]
    # All or none: a row of which nobody knows would be renewed with the others, and its task run again.
    with reaching(_alias(), "Keeping the messages of long tasks"), in_transaction(_alias()):
        for row in rows:
            row.save(using=_alias(), force_insert=True)
    return {delivery.tag: row.pk for delivery, row in zip(deliveries, rows, strict=True)}


def renew(holder: str, lease: float) -> None:
    """Let none of this holder's rows fall due for another ``lease`` seconds."""
    _change(_held([holder]), until=clock.now() + timedelta(seconds=lease))


def held(numbers: Collection[int], holder: str, lease: float) -> set[int]:
    """Renew the holder's rows, and return those of these numbers that are its own still."""
    renew(holder, lease)
    with reaching(_alias(), "Looking for the messages of long tasks"):
        return set(_held([holder]).filter(pk__in=numbers).values_list("pk", flat=True))


def forget(numbers: Collection[int], holder: str) -> None:
    """Delete rows whose tasks have ended; those that are another's by now stay."""
    rows = _held([holder]).filter(pk__in=numbers)
    with reaching(_alias(), "Settling the messages of long tasks") as connection:
        trying_again(connection, rows.delete)


def give_back(numbers: Collection[int], holder: str, until: datetime | None = None) -> None:
    """Let these rows fall due, now or then."""
    _change(_held([holder]).filter(pk__in=numbers), until=until or clock.now(), claimed_by=None)


def release(holders: Sequence[str]) -> None:
    """Let the rows of dead holders fall due now."""
    _change(_held(holders), until=clock.now(), claimed_by=None)


def _change(rows: "QuerySet[Message]", **fields: Any) -> None:
    with reaching(_alias(), "Keeping the messages of long tasks") as connection:
        trying_again(connection, lambda: rows.update(**fields))


def _held(holders: Sequence[str]) -> "QuerySet[Message]":
    # The state first: there is an index on it and the time.
    return Message.objects.using(_alias()).filter(
        state=MessageState.DELAYED, until__isnull=False, queue=PARKED, claimed_by__in=list(holders)
    )


def _alias() -> str:
    return str(settings.TASK_OUTBOX_DATABASE)


def _row(delivery: Delivery, holder: str, due: datetime) -> Message:
    # To its queue and nowhere else: by its exchange it would reach others' queues a second time. What was counted until now stays;
    # this start is counted when it comes again, as any start that was not finished.
    headers = {**delivery.envelope.headers, DELIVERY_COUNT: delivery.deliveries - 1, KEPT_ASIDE: True}
    envelope = replace(delivery.envelope, headers=headers, queue=delivery.queue, exchange=None, routing_key=None, not_before=None)
    (values,) = insert_rows([parked_row(envelope, due)], clock.now(), lambda moment: moment)
    return Message(**dict(zip(INSERTED, values, strict=True)), claimed_by=holder)
