"""``task-sent``: what a client says of the messages that have left it (TASK_SEND_SENT_EVENT)."""

import logging
from collections.abc import Sequence

from django_tasks.events import current, event
from django_tasks.events.buffer import installed
from django_tasks.exceptions import SoftTimeLimitExceeded
from django_tasks.messages import Envelope

logger = logging.getLogger("django_tasks.events")


def announce_sent(envelopes: Sequence[Envelope], hostname: str) -> None:
    """Say that these were sent, in one batch; in a worker's process, without waiting for it.

    Raises nothing of its own: whoever published has done so, and a monitor that doesn't hear of it must not make him do it again.
    """
    try:
        said = [event("task-sent", hostname, **_fields(envelope)) for envelope in envelopes]
        buffer = installed()
        if buffer is not None:
            buffer.add(said)
        else:
            current().send(said)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, the messages have left
        logger.warning("%d message(s) were sent, but the event task-sent was not: %s", len(envelopes), error)


def _fields(envelope: Envelope) -> dict[str, object]:
    headers = envelope.headers
    return {
        "uuid": headers.get("id"),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "name": headers.get("task"),
        "args": headers.get("argsrepr"),
        "kwargs": headers.get("kwargsrepr"),
        "retries": headers.get("retries"),
        "eta": headers.get("eta"),
        "expires": headers.get("expires"),
        "queue": envelope.queue,
        "exchange": envelope.exchange or "",
        "routing_key": envelope.routing_key or envelope.queue,
    }
