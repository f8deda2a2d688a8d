"""``tasks result --watch``: the state of a task, line by line or as a bar, until it is done."""

import time
from collections.abc import Callable
from typing import Any, Final

from django_tasks import clock, result_backends, states
from django_tasks.exceptions import TaskError
from django_tasks.result_backends import encoding
from django_tasks.result_backends.backend import ResultMeta

#: Seconds between two looks: a task notes its progress no more often.
EVERY: Final = 0.25
#: Characters of a bar.
_WIDTH: Final = 30


def watch(task_id: str, say: Callable[[str], Any], timeout: float | None = None) -> ResultMeta | None:
    """Tell each change of a task's state or progress until it is ready; return its meta, or what there is when time is up."""
    backend, told = result_backends.current(), ""
    deadline = None if timeout is None else clock.monotonic() + timeout
    while True:
        meta = backend.fetch([task_id]).get(task_id)
        line = described(meta)
        if line != told:
            told = line
            say(line)
        if (meta is not None and meta.status in states.READY_STATES) or (deadline is not None and clock.monotonic() >= deadline):
            return meta
        time.sleep(EVERY)


def described(meta: ResultMeta | None) -> str:
    """Say in a line how a task is: its state, and how far it has come where it says so."""
    if meta is None:
        return states.PENDING
    if meta.status != states.PROGRESS:
        return meta.status
    try:
        kept: Any = encoding.decode(meta)
        done, total, message = kept["done"], kept["total"], kept["message"]
        return f"{meta.status} {bar(float(done), None if total is None else float(total))} {message}".rstrip()
    except (TaskError, TypeError, KeyError, ValueError):
        return meta.status


def bar(done: float, total: float | None) -> str:
    """Draw how far it is: ``[###---] 50 % (5 of 10)``; without a total just the number."""
    if not total:
        return f"{done:g}"
    share = min(1.0, done / total)
    full = round(share * _WIDTH)
    return f"[{'#' * full}{'-' * (_WIDTH - full)}] {int(share * 100)} % ({done:g} of {total:g})"
