"""Queues as operators see them: what the broker, the settings and the workers know of them, and who paused them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.utils import timezone

from django_tasks import brokers, clock, parking, routing
from django_tasks.brokers.broker import Broker
from django_tasks.conf import settings
from django_tasks.exceptions import DecodeError
from django_tasks.messages import PARKED
from django_tasks.models import Message, MessageState, Queue
from django_tasks.operations.workers import alive
from django_tasks.serializers import dumps_json, loads_json

#: Counting stops here: nobody needs the exact number of a million delayed messages on a page of queues.
COUNTED: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverview:
    """One queue. ``size`` counts what waits, delayed messages included; None where the broker can't say."""

    name: str
    size: int | None = None
    delayed: int | None = None
    workers: int = 0
    paused_at: datetime | None = None
    paused_by: str = ""
    reason: str = ""

    @property
    def paused(self) -> bool:
        """Workers take nothing from it."""
        return self.paused_at is not None


def known_names() -> list[str]:
    """Names of every queue that the broker, the settings, a living worker or a row knows, sorted.

    Raises OperationalError when the broker can't be reached.
    """
    names = {*configured_names(), *brokers.current().queues(), *_consumed()}
    names.update(Queue.objects.values_list("name", flat=True))
    if parking.needed(brokers.current()) and _home(PARKED).size(PARKED):
        names.add(PARKED)
    return sorted(names)


def configured_names() -> list[str]:
    """Names of TASK_QUEUES, and the default queue."""
    return sorted({*routing.current().queue_names, settings.TASK_DEFAULT_QUEUE})


def _consumed() -> dict[str, int]:
    counted: dict[str, int] = {}
    for queues in alive().values_list("queues", flat=True):
        for name in queues or ():
            counted[str(name)] = counted.get(str(name), 0) + 1
    return counted


def _home(name: str) -> Broker:
    """Where a queue's messages are: parked ones are in the database, whatever the broker is."""
    broker = brokers.current()
    return broker if name != PARKED or broker.joins_transaction else parking.open_lot()


def overview(names: Iterable[str] | None = None) -> list[QueueOverview]:
    """Describe the queues of these names, or every known one.

    Raises OperationalError when the broker can't be reached.
    """
    chosen = known_names() if names is None else list(names)
    rows = {row.name: row for row in Queue.objects.filter(name__in=chosen)}
    workers = _consumed()
    if PARKED in chosen:
        # Nobody names it; every worker forwards what lies there.
        workers = {**workers, PARKED: alive().count()}
    delayed = _delayed_counts(chosen)
    return [_described(name, rows.get(name), _home(name).size(name), delayed, workers) for name in chosen]


def _described(name: str, row: Queue | None, size: int | None, delayed: dict[str, int], workers: dict[str, int]) -> QueueOverview:
    pause: dict[str, Any] = {"paused_at": row.paused_at, "paused_by": row.paused_by, "reason": row.reason} if row else {}
    return QueueOverview(
        name=name,
        size=size,
        delayed=delayed.get(name),
        workers=workers.get(name, 0),
        **pause,
    )


def _delayed_counts(names: Sequence[str]) -> dict[str, int]:
    # Only the database can say; each count is bounded, since a page about queues must open in any case.
    known = names if database_alias() is not None else [name for name in names if name == PARKED]
    waiting = message_rows().filter(state=MessageState.DELAYED)
    return {name: waiting.filter(queue=name).order_by()[:COUNTED].count() for name in known}


def database_alias() -> str | None:
    """Name the Django database that the broker keeps its messages in; None for any other broker."""
    broker = brokers.current()
    alias: str | None = getattr(broker, "alias", None)
    return alias if broker.joins_transaction else None


def message_rows() -> "QuerySet[Message]":
    """The messages of the database broker, in its own database; with any other broker, those that are parked."""
    return Message.objects.using(database_alias() or settings.TASK_OUTBOX_DATABASE)


def enter(names: Iterable[str]) -> None:
    """Make rows for the queues that have none."""
    wanted = set(names)
    missing = wanted.difference(Queue.objects.filter(name__in=wanted).values_list("name", flat=True))
    Queue.objects.bulk_create([Queue(name=name) for name in sorted(missing)], ignore_conflicts=True)


def pause(names: Sequence[str], *, by: str, reason: str = "") -> int:
    """Let workers take nothing more from these queues; they notice within a second or two.

    What was paused before keeps its time, its user and its reason. Returns how many are paused now that were not.
    """
    enter(names)
    return Queue.objects.filter(name__in=names, paused_at__isnull=True).update(paused_at=timezone.now(), paused_by=by[:255], reason=reason)


def resume(names: Sequence[str]) -> int:
    """Let workers take from these queues again; return how many were paused."""
    return Queue.objects.filter(name__in=names, paused_at__isnull=False).update(paused_at=None, paused_by="", reason="")


def purge(names: Iterable[str]) -> dict[str, int]:
    """Delete what waits in these queues; return how many messages each lost. What runs is left alone."""
    return brokers.purge({name: _home(name) for name in names})


def run_now(rows: "QuerySet[Message]") -> int:
    """Make delayed messages due at once; return how many were delayed.

    Their ``eta`` goes, too: a worker would put a message that is early back to where it was.
    """
    delayed = list(rows.filter(state=MessageState.DELAYED).only("id", "queue", "headers", "properties"))
    now, count = clock.now(), 0
    for row in delayed:
        # Again with the state: meanwhile it may have become due, and be running.
        changed: dict[str, Any] = {"until": now, "headers": _changed(row.headers, _without_eta)}
        if row.queue == PARKED:
            changed["properties"] = _changed(row.properties, parking.due_at_once)
        count += rows.filter(pk=row.pk, state=MessageState.DELAYED).update(**changed)
    if count:
        home = brokers.current() if database_alias() is not None else parking.open_lot()
        home.promote(clock.now(), limit=max(count, 100))
    return count


def _changed(text: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    try:
        found = loads_json(text)
    except DecodeError:
        return text
    return dumps_json(change(found)) if isinstance(found, dict) else text


def _without_eta(headers: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if name != "eta"}
