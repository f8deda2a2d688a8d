"""Rate limits for a node: one token bucket a task, in memory that its children share."""

import mmap
import struct
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import get_context
from typing import Final

_BUCKET: Final = struct.Struct("<dd")  # tokens, time of the last look
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LOCK_PATIENCE: Final = 0.5


def parse_rate(rate: str | float | None) -> float:
    """Turn ``"10/s"``, ``"10/m"``, ``"10/h"`` or a number into tasks a second; 0 means no limit.

    Raises ValueError for anything else.
    """
    if rate is None or rate == "":
        return 0.0
    try:
        if isinstance(rate, str):
            number, _, unit = rate.partition("/")
            return float(number) / _UNITS[unit.strip() or "s"]
        return float(rate)
    except (KeyError, ValueError):
        raise ValueError(f"rate limit {rate!r} is not of the form 10/s, 10/m or 10/h, or a number a second") from None


class RateLimits:
    """Token buckets that hold one token, as Celery's do: tasks are spread evenly, without bursts.

    Made before the first fork with the names of all tasks; a name that comes later has no limit in this node.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._index = {name: index for index, name in enumerate(sorted(names))}
        self._memory = mmap.mmap(-1, max(1, len(self._index)) * _BUCKET.size)
        self._lock = get_context("fork").Lock()

    def wait_for(self, name: str, per_second: float, now: float) -> float:
        """Take a token and return 0, or return the seconds until there will be one."""
        index = self._index.get(name)
        if index is None or per_second <= 0:
            return 0.0
        # A child killed inside this block leaves the lock taken: then a little inaccuracy is better than a halt.
        held = self._lock.acquire(timeout=_LOCK_PATIENCE)
        try:
            return self._take(index * _BUCKET.size, per_second, now)
        finally:
            if held:
                with suppress(ValueError):
                    self._lock.release()

    def _take(self, offset: int, per_second: float, now: float) -> float:
        tokens, seen = _BUCKET.unpack_from(self._memory, offset)
        tokens = 1.0 if not seen else min(1.0, tokens + max(0.0, now - seen) * per_second)
        wait = 0.0 if tokens >= 1.0 - 1e-9 else (1.0 - tokens) / per_second
        _BUCKET.pack_into(self._memory, offset, tokens - 1.0 if not wait else tokens, now)
        return wait
