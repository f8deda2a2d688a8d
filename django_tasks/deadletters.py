"""Messages that went wrong for good: recording them, and sending them again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from django.db import InterfaceError, connections, router, transaction
from django.db import OperationalError as DjangoOperationalError
from django.db.models import QuerySet

from django_tasks import client, clock
from django_tasks.dbaccess import close_if_broken, trying_again
from django_tasks.exceptions import DecodeError, OperationalError
from django_tasks.messages import DELIVERY_COUNT, KEPT_ASIDE, UNKNOWN_SINCE, DeadMessage, Envelope
from django_tasks.models.queues import DeadLetter
from django_tasks.serializers import dumps_json, loads_json

_BATCH = 500
_LEFTOVERS: Final = frozenset({DELIVERY_COUNT, KEPT_ASIDE, UNKNOWN_SINCE, "redelivered"})


def record(dead: Sequence[DeadMessage]) -> None:
    """Keep these messages, bodies byte for byte, in one INSERT. Raises OperationalError when the database can't be reached."""
    if not dead:
        return
    rows, alias = [_row(one) for one in dead], router.db_for_write(DeadLetter)
    connection = connections[alias]
    try:
        trying_again(connection, lambda: DeadLetter.objects.using(alias).bulk_create(rows, batch_size=_BATCH))
    except (DjangoOperationalError, InterfaceError) as error:
        # Others are of the values: that letter is refused however often it is tried.
        close_if_broken(connection)
        raise OperationalError(f"Recording {len(dead)} dead letter(s) failed on the database {alias!r}: {error}") from error


def replay(letters: QuerySet[DeadLetter] | Iterable[int]) -> int:
    """Send dead letters again, as they were, and delete them; return how many.

    ``letters`` is a queryset, or ids. With the database broker on the dead letters' database, sending and deleting are
    one transaction, and a letter that two people replay at once is sent once. Other brokers get the messages just before the
    deletion is committed: should that fail, a message may be sent a second time, and none is lost.

    Raises OperationalError when the broker can't be reached; what was not sent stays.
    """
    chosen = letters if isinstance(letters, QuerySet) else DeadLetter.objects.filter(pk__in=list(letters))
    ids = list(chosen.order_by("id").values_list("pk", flat=True))
    return sum(_replay(ids[start : start + _BATCH]) for start in range(0, len(ids), _BATCH))


def envelope_of(letter: DeadLetter) -> Envelope:
    """Return the envelope that a dead letter keeps."""
    return Envelope(
        body=bytes(letter.body),
        content_type=letter.content_type,
        content_encoding=letter.content_encoding,
        headers=_document(letter.headers),
        properties=_document(letter.properties),
        queue=letter.queue,
        priority=letter.priority,
        # The nameless exchange is one, where there is a routing key.
        exchange=letter.exchange if letter.routing_key else None,
        routing_key=letter.routing_key or None,
    )


def _replay(ids: Sequence[int]) -> int:
    alias = router.db_for_write(DeadLetter)
    with transaction.atomic(using=alias):
        rows = DeadLetter.objects.using(alias).filter(pk__in=ids).order_by("id")
        if connections[alias].features.has_select_for_update:
            rows = rows.select_for_update()
        letters = list(rows)
        count, _ = DeadLetter.objects.using(alias).filter(pk__in=[letter.pk for letter in letters]).delete()
        client.forward([_fresh(envelope_of(letter)) for letter in letters])
    return count


def _fresh(envelope: Envelope) -> Envelope:
    """Drop what the message's earlier life left in it: it starts anew, with all its deliveries and all its grace before it."""
    headers = {name: value for name, value in envelope.headers.items() if name not in _LEFTOVERS}
    properties = dict(envelope.properties)
    if isinstance(way := properties.get("delivery_info"), Mapping):
        properties["delivery_info"] = {name: value for name, value in way.items() if name != "redelivered"}
    return replace(envelope, headers=headers, properties=properties)


def _row(dead: DeadMessage) -> DeadLetter:
    envelope, died_at = dead.envelope, clock.as_utc(dead.died_at or clock.now())
    return DeadLetter(
        queue=envelope.queue,
        priority=envelope.priority,
        task_id=_short(envelope.headers.get("id"), 255),
        task=_short(envelope.headers.get("task"), 255),
        reason=_short(dead.reason, 64),
        detail=_storable(dead.detail),
        deliveries=dead.deliveries,
        worker=_short(dead.worker, 255),
        exchange=_short(envelope.exchange, 255),
        routing_key=_short(envelope.routing_key, 255),
        content_type=_short(envelope.content_type, 64),
        content_encoding=_short(envelope.content_encoding, 64),
        headers=_text(envelope.headers),
        properties=_text(envelope.properties),
        body=bytes(envelope.body),
        died_at=died_at,
    )


def _short(value: Any, width: int) -> str:
    return _storable(str(value or ""))[:width]


def _storable(text: str) -> str:
    # What strangers send holds any characters; no database takes half a surrogate pair, and PostgreSQL no NUL.
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _text(mapping: Mapping[str, Any]) -> str:
    return dumps_json(dict(mapping))


def _document(text: str) -> dict[str, Any]:
    try:
        found = loads_json(text)
    except DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
