"""Delayed messages on RabbitMQ: kombu's native delayed delivery, a ladder of queues each of which holds a power of two of seconds.

A message goes in at the top with its delay in binary as routing key, one word a bit: a bit of 1 leads through the queue of that
rung, whose time to live is that many seconds, a bit of 0 past it. Behind the last rung stands an exchange, to which a queue
is bound by a word of its own: a hash of its name, since a name with dots in it would match the names that end like it.
The ladder itself is the one that Celery declares.
"""

import hashlib
import math
import re
from datetime import datetime
from typing import Any, Final

from kombu.transport import native_delayed_delivery as native

from django_tasks.conf import settings

#: How the names of the ladder's exchanges begin.
LADDER: Final = "celery_delayed_"
#: The exchange behind the ladder.
DELIVERY_EXCHANGE: Final = "celery_delayed_delivery"
#: The exchange on top of the ladder.
FIRST_EXCHANGE: Final = "celery_delayed_27"
_BITS: Final = 28
#: Seconds that the ladder can hold a message: eight and a half years.
LONGEST: Final = float(2**_BITS - 1)

_PREFIX: Final = re.compile(rf"(?:[01]\.){{{_BITS}}}")


def routing_key(queue: str, seconds: float) -> str:
    """Return the key that brings a message to ``queue`` after so many seconds, rounded up."""
    whole = max(1, math.ceil(seconds))
    return ".".join(f"{whole:0{_BITS}b}") + "." + _word(queue)


def seconds_until(moment: datetime | None, now: datetime) -> float:
    """Seconds from now on; 0 or less if there is nothing to wait for."""
    return 0.0 if moment is None else (moment - now).total_seconds()


def without_delay(key: str) -> str:
    """Return a routing key without the delay in front of it, as Celery sends it to its own queues."""
    return _PREFIX.sub("", key, count=1) if len(key) > 2 * _BITS and key[1] == "." else key


def declare_ladder(client: Any) -> None:
    """Declare the ladder's exchanges and queues; ``client`` is anything that has kombu's ``channel()``."""
    native.declare_native_delayed_delivery_exchanges_and_queues(client, settings.BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE)


def bind(channel: Any, queue: str) -> None:
    """Let the ladder's end lead to a queue."""
    channel.queue_bind(queue, DELIVERY_EXCHANGE, f"#.{_word(queue)}")


def _word(queue: str) -> str:
    return "queue-" + hashlib.sha1(queue.encode(), usedforsecurity=False).hexdigest()
