"""Messages whose worker is gone: ours by their leases, Celery's by the visibility timeout."""

import logging
import re
from collections.abc import Sequence
from typing import Any, Final

from django_tasks.brokers.redis import wire
from django_tasks.brokers.redis.keys import Keys, label_of
from django_tasks.brokers.redis.lines import Line
from django_tasks.brokers.redis.scripts import script

logger = logging.getLogger("django_tasks.redis")

#: Messages that are read at once, and entries of kombu's table that one turn looks at.
_AT_ONCE: Final = 50
_LOOKED_AT: Final = 1000


def recover_lapsed(line: Line, keys: Keys, now: float, limit: int) -> int:
    """Give back up to ``limit`` messages whose lease has lapsed, counted as handed out; return how many."""
    # The youngest of each part first, as each goes to the front of its list.
    tags = [tag.decode() for tag in line.call("ZRANGEBYSCORE", keys.leases, "-inf", now, "LIMIT", 0, limit)]
    total = 0
    while tags:
        part, tags = tags[-_AT_ONCE:], tags[:-_AT_ONCE]
        back: list[Any] = []
        for tag, entry in zip(reversed(part), reversed(line.call("HMGET", keys.unacked, *part)), strict=True):
            if entry is None:  # settled a moment ago, or a worker of Celery's has put it back
                back += (tag, "", "", "", "")
                continue
            payload, queue = wire.taken_out(entry)
            back += (tag, keys.list_of(queue, label_of(tag)), "", wire.recounted(payload), keys.bell(queue))
        total += int(script("settle").call(line, (keys.unacked, keys.unacked_index, keys.leases), now, 0, *back))
    return total


def recover_abandoned(line: Line, keys: Keys, before: float, limit: int) -> int:
    """Put back up to ``limit`` messages that Celery's workers have held since ``before``; return how many."""
    old = line.call("ZRANGEBYSCORE", keys.unacked_index, "-inf", before, "LIMIT", 0, _LOOKED_AT)
    if not old:
        return 0
    leases = line.calls([("ZSCORE", keys.leases, tag) for tag in old])
    # With a lease it is ours, and the lease decides.
    tags = [tag for tag, lease in zip(old, leases, strict=True) if lease is None][:limit]
    total = 0
    for tag in tags:
        entry = line.call("HGET", keys.unacked, tag)
        found = None if entry is None else wire.abandoned(entry)
        if found is None:
            if entry is not None:
                logger.error("The entry %r of %s can't be read; it stays there, and nobody will look at it again", tag, keys.unacked)
            line.call("ZREM", keys.unacked_index, tag)
            continue
        queue = _queue_of(line, keys, found.exchange, found.routing_key)
        if (refusal := keys.refusal(queue)) is not None:
            logger.error("The entry %r of %s can't go back to its queue, and stays there: %s", tag, keys.unacked, refusal)
            line.call("ZREM", keys.unacked_index, tag)
            continue
        back = (tag, keys.list_of(queue, keys.step(found.priority)), "", found.payload, keys.bell(queue))
        total += int(script("settle").call(line, (keys.unacked, keys.unacked_index, keys.leases), "", 0, *back))
    return total


def _queue_of(line: Line, keys: Keys, exchange: str, routing_key: str) -> str:
    # Several queues may be bound alike, but a message was held by one consumer of one of them.
    if exchange:
        members: list[str] = sorted(member.decode() for member in line.call("SMEMBERS", keys.binding(exchange)[0]))
        for parts in (member.split(keys.sep) for member in members):
            if len(parts) == 3 and _leads(parts, routing_key):
                return parts[2]
    return routing_key or exchange


def _leads(binding: Sequence[str], routing_key: str) -> bool:
    key, pattern, _queue = binding
    try:
        # kombu writes a topic's pattern as a regular expression.
        return key == routing_key or bool(pattern and re.match(pattern, routing_key))
    except re.error:
        return False
