"""``Task.send_event``: monitoring events of a project's own."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.db import connections

from django_tasks import events
from django_tasks.client import NO_RETRY, RetryPolicy, origin
from django_tasks.context import Request
from django_tasks.events.buffer import installed
from django_tasks.events.channel import Event

#: Fields that say who speaks, and of what.
_OURS: Final = frozenset({"type", "uuid", "hostname", "pid", "clock", "utcoffset"})


def send_event(request: Request, type_: Any, fields: Mapping[str, Any], tries: RetryPolicy) -> None:
    """Send an event of this run now; outside of a worker, in the name of this process."""
    if not isinstance(type_, str) or not type_:
        raise TypeError(f"an event has a type like 'task-halfway', not {type_!r}; nothing was sent")
    if taken := sorted(_OURS & fields.keys()):
        raise TypeError(f"the event {type_!r} was not sent: its {', '.join(taken)} can't be given, as the run says it")
    said = events.event(type_, request.hostname or origin(os.getpid()), uuid=request.id, **fields)
    _beside_the_loop(lambda: _persistently(lambda: _send(said), tries))


def tries_of(retry: bool, policy: Mapping[str, Any] | None) -> RetryPolicy:
    """Say how often ``send_event`` is to try."""
    return RetryPolicy.of(dict(policy or {})) if retry else NO_RETRY


def _persistently(send: Callable[[], None], tries: RetryPolicy) -> None:
    attempt = 0
    while True:
        try:
            return send()
        except tries.errors:
            delay = tries.delay(attempt)
            if delay is None:
                raise
            time.sleep(delay)
            attempt += 1


def _send(said: Event) -> None:
    buffer = installed()
    if buffer is None or _in_transaction():
        events.current().send([said])
    else:
        # Behind what the worker has said of this run before.
        buffer.send_now([said])


def _in_transaction() -> bool:
    # Where events are rows, the worker's own must not become part of a transaction that may be rolled back, and waiting for
    # them may be waiting for the lock that this transaction holds.
    return any(connection.in_atomic_block for connection in connections.all(initialized_only=True))


def _beside_the_loop(work: Callable[[], None]) -> None:
    """Do it here; where an event loop runs in this thread, in another one, as Django's databases ask for."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="django_tasks-event")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return None
