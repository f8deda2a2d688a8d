"""Whether a task may wait for other tasks."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django_tasks.context import current_request

#: None: allowed outside tasks only.
_allowed: ContextVar[bool | None] = ContextVar("django_tasks_joining_allowed", default=None)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let tasks wait for other tasks inside this block. A worker whose slots all wait so stands still."""
    with _set(allowed=True):
        yield


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Forbid waiting inside this block, also outside tasks."""
    with _set(allowed=False):
        yield


@contextmanager
def _set(*, allowed: bool) -> Iterator[None]:
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def assert_may_join(*, denied: bool = True) -> None:
    """Raise RuntimeError inside a task: waiting for another one there can stop a worker for ever."""
    if not denied:
        return
    allowed = _allowed.get()
    if allowed is False or (allowed is None and current_request() is not None):
        raise RuntimeError(
            "Never call result.get() within a task: it takes a worker's slot to wait for another slot, and all may wait for ever. "
            "Use a chain, a callback or a chord, or allow it with get(disable_sync_subtasks=False)."
        )


def assert_will_not_block() -> None:
    """Raise RuntimeError where ``get()`` would: inside a task, or a ``denied_join_result`` block."""
    assert_may_join()
