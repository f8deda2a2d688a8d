"""``tasks result --watch``: the state of a task, line by line or as a bar, until it is done."""

import time
from collections.abc import Callable
from typing import Any, Final

from django_tasks import clock, result_backends, states
from django_tasks.exceptions import TaskError
from django_tasks.operations.progress import Progress, progress_of
from django_tasks.result_backends import encoding
from django_tasks.result_backends.backend import ResultMeta

#: Seconds between two looks: a task notes its progress no more often.
EVERY: Final = 0.25
#: Characters of a bar.
_WIDTH: Final = 30


def watch(task_id: str, tell: Callable[[str, bool], Any], timeout: float | None = None) -> ResultMeta | None:
    """Tell each change of a task's state or progress until it is ready; return its meta, or what there is when time is up.

    ``tell`` is called with a line, and whether it is the last.
    """
    backend, told = result_backends.current(), ""
    deadline = None if timeout is None else clock.monotonic() + timeout
    while True:
        meta = backend.fetch([task_id]).get(task_id)
        line = described(meta)
        over = (meta is not None and meta.status in states.READY_STATES) or (deadline is not None and clock.monotonic() >= deadline)
        if line != told or over:
            told = line
            tell(line, over)
        if over:
            return meta
        time.sleep(EVERY)


def described(meta: ResultMeta | None) -> str:
    """Say in a line how a task is: its state, and how far it has come where it says so."""
    if meta is None:
        return states.PENDING
    try:
        progress = progress_of(meta.status, encoding.decode(meta))
    except (TaskError, TypeError, KeyError, ValueError):
        progress = None
    line = meta.status if progress is None else f"{meta.status} {bar(progress)} {progress.message}".rstrip()
    # A task's words may hold anything, a terminal's commands, too.
    return "".join(character if character.isprintable() else " " for character in line)


def bar(progress: Progress) -> str:
    """Draw how far it is: ``[###---] 50 % (5 of 10)``; without a total just the number."""
    if progress.share is None:
        return f"{progress.done:g}"
    full = round(progress.share * _WIDTH)
    return f"[{'#' * full}{'-' * (_WIDTH - full)}] {int(progress.share * 100)} % ({progress.done:g} of {progress.total:g})"
