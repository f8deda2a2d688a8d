"""Waiting for results: the server tells of each as it is stored, and is asked now and then, should a word have been lost.

First comes the subscription, then the look at what is there: what is stored in between is seen by one of the two.
"""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any, Final

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from django_tasks import clock, exceptions, states
from django_tasks.exceptions import OperationalError
from django_tasks.redisaccess import RedisServer
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.documents import from_document

logger = logging.getLogger("django_tasks.results")

#: Channels of one SUBSCRIBE.
_CHUNK: Final = 500
#: Connections that are kept for the next waiting reader.
_IDLE: Final = 4
#: A connection with more channels than this, or that has lain idle for so many seconds, is closed instead.
_FEW: Final = 100
_STALE: Final = 20.0
#: Seconds in which the server must confirm a subscription.
_CONFIRMED: Final = 10.0
#: Seconds between two looks while nothing is told: at first, their growth, and at most.
_FIRST, _GROWTH, _LONGEST = 1.0, 2.0, 15.0
#: Seconds before each new attempt to reach a server that has gone away; then it is the caller's turn.
_ATTEMPTS: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0)


class Listener:
    """A connection on which the server tells of stored results. One reader has it at a time."""

    def __init__(self, server: RedisServer) -> None:
        self._pubsub = server.client.pubsub(ignore_subscribe_messages=False)
        self._process = os.getpid()
        self._used = clock.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether it can be lent again: it is this process's, few channels were asked for, and it has not lain idle for long."""
        return self._process == os.getpid() and len(self._pubsub.channels) <= _FEW and clock.monotonic() - self._used < _STALE

    def subscribe(self, channels: Collection[str]) -> list[bytes]:
        """Ask for these channels, and return when the server has confirmed all of them, with what was told meanwhile."""
        told: list[bytes] = []
        names = list(channels)
        for start in range(0, len(names), _CHUNK):
            asked = names[start : start + _CHUNK]
            self._pubsub.subscribe(*asked)
            open_ = {name.encode() for name in asked}
            end = clock.monotonic() + _CONFIRMED
            while open_:
                message = self._pubsub.get_message(timeout=max(0.0, end - clock.monotonic()))
                if message is None and clock.monotonic() >= end:
                    raise RedisTimeoutError(f"no answer to SUBSCRIBE within {_CONFIRMED:g} seconds")
                if message is not None and message["type"] == "subscribe":
                    open_.discard(message["channel"])
                elif message is not None and message["type"] == "message":
                    told.append(message["data"])
        return told

    def hear(self, seconds: float) -> bytes | None:
        """Return the next document that is told of, or None when there was none in this time."""
        end = clock.monotonic() + seconds
        while True:
            message = self._pubsub.get_message(timeout=max(0.0, end - clock.monotonic()))
            if message is not None and message["type"] == "message":
                data: bytes = message["data"]
                return data
            if clock.monotonic() >= end:
                return None

    def unsubscribe(self) -> None:
        """Ask for nothing more. What was told before that is read, and thrown away, by the next reader."""
        self._pubsub.unsubscribe()
        self._used = clock.monotonic()

    def close(self) -> None:
        """Close the connection."""
        with suppress(RedisError, OSError):
            self._pubsub.close()


class Listeners:
    """The listeners of this process: lent to one reader each, a few kept for the next ones. Safe for threads."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self._lock = Lock()
        self._idle: list[Listener] = []

    def lend(self) -> Listener:
        """Return a listener for one reader."""
        with self._lock:
            while self._idle:
                listener = self._idle.pop()
                if listener.fresh:
                    return listener
                listener.close()
        return Listener(self.server)

    def give_back(self, listener: Listener) -> None:
        """Keep a listener for the next reader."""
        with suppress(RedisError, OSError):
            if listener.fresh:
                listener.unsubscribe()
                with self._lock:
                    if len(self._idle) < _IDLE:
                        self._idle.append(listener)
                        return
        listener.close()

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for listener in idle:
            listener.close()


def wait(
    listeners: Listeners,
    prefix: str,
    fetch: Callable[[Collection[str]], Mapping[str, ResultMeta]],
    task_ids: Collection[str],
    timeout: float | None,
) -> Iterator[ResultMeta]:
    """Yield each task's meta once it is ready, in the order in which they become so; TimeoutError after ``timeout`` seconds."""
    reader = _Reader(listeners, prefix, fetch, task_ids, timeout)
    # Often everything is there already; then nobody need be asked to tell of it.
    yield from reader.look()
    if reader.left:
        reader.check()
    try:
        while reader.left:
            yield from reader.more()
    finally:
        reader.close()


class _Reader:
    """One call of ``wait``."""

    def __init__(
        self,
        listeners: Listeners,
        prefix: str,
        fetch: Callable[[Collection[str]], Mapping[str, ResultMeta]],
        task_ids: Collection[str],
        timeout: float | None,
    ) -> None:
        self.left = dict.fromkeys(task_ids)
        self._all = len(self.left)
        self._listeners, self._prefix, self._fetch, self._timeout = listeners, prefix, fetch, timeout
        self._end = None if timeout is None else clock.monotonic() + timeout
        self._listener: Listener | None = None
        self._pause = _FIRST
        self._failures = 0

    def look(self) -> list[ResultMeta]:
        """Read what is there, and return what is ready of it."""
        return self._ready(self._fetch(self.left).values()) if self.left else []

    def more(self) -> list[ResultMeta]:
        """Return what is ready next; an empty list means: ask again."""
        try:
            with self._listeners.server.reaching("Waiting for results"):
                ready = self._listen() if self._listener is None else self._hear()
            self._failures = 0
        except OperationalError as error:
            self._cut(error)
            ready = []
        if not ready:
            self.check()
        return ready

    def close(self) -> None:
        """Let go of the connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._listeners.give_back(listener)

    def _listen(self) -> list[ResultMeta]:
        listener = self._listener = self._listeners.lend()
        told = listener.subscribe([self._prefix + task_id for task_id in self.left])
        return [*self._ready(map(from_document, told)), *self.look()]

    def _hear(self) -> list[ResultMeta]:
        assert self._listener is not None  # noqa: S101  for the type checker
        pause = self._pause if self._end is None else min(self._pause, max(0.0, self._end - clock.monotonic()))
        told = self._listener.hear(pause)
        if told is not None:
            return self._ready([from_document(told)])
        self._pause = min(self._pause * _GROWTH, _LONGEST)
        return self.look()

    def _ready(self, metas: Any) -> list[ResultMeta]:
        # Of one that is told twice, or was not asked for (by the reader before), nothing is said.
        ready = [meta for meta in metas if meta.status in states.READY_STATES and meta.task_id in self.left]
        unique = {meta.task_id: meta for meta in ready}
        for task_id in unique:
            del self.left[task_id]
        return list(unique.values())

    def _cut(self, error: OperationalError) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        if self._failures == len(_ATTEMPTS):
            raise error
        pause = _ATTEMPTS[self._failures]
        self._failures += 1
        logger.info("%s Trying again", error)
        time.sleep(pause if self._end is None else max(0.0, min(pause, self._end - clock.monotonic())))

    def check(self) -> None:
        """Raise TimeoutError if the time is over."""
        if self._end is not None and clock.monotonic() >= self._end:
            raise exceptions.TimeoutError(f"{len(self.left)} of {self._all} results were not there within {self._timeout:g} seconds")
