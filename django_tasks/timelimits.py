"""Soft time limits inside the process: SoftTimeLimitExceeded is raised in the block that runs too long.

In the main thread a timer signal raises it, which also ends a wait in the operating system. In any other thread a shared
timer thread plants it, and it is raised when that thread executes Python again: a call that blocks in C ends first.
``async def`` tasks have asyncio's own timeouts, and hard limits are the supervisor's.
"""

import os
import signal
import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final

from django_tasks.clock import monotonic
from django_tasks.exceptions import SoftTimeLimitExceeded

_NO_LIMIT: Final = nullcontext()
#: Seconds after which an alarm that came at a moment when it must not raise comes again.
_AGAIN: Final = 0.0005
_NEVER: Final = float("inf")
#: Seconds after which an alarm is not just on its way.
_LATE: Final = 0.05
#: Seconds, some thirty years, beyond which a limit is none: timers of the system can't be set much further.
_LONGEST: Final = 1e9
_HAS_ALARM: Final = hasattr(signal, "setitimer")


def soft_limit(seconds: float | None) -> AbstractContextManager[Any]:
    """Raise SoftTimeLimitExceeded in the block when it has run for ``seconds``; None, 0 and what is longer than thirty years set no limit.

    The block may catch it, to clean up, and is not disturbed again. Limits nest, and a block that ends in time leaves
    nothing behind that could be raised later.
    """
    if not seconds or seconds > _LONGEST:
        return _NO_LIMIT
    if _HAS_ALARM and threading.get_ident() == threading.main_thread().ident:
        return _AlarmLimit(seconds)
    return _ThreadLimit(seconds)


def let_pass(error: Exception) -> None:
    """Raise an error that is a limit's, in a block with a limit: for code that catches and logs what others raise."""
    if isinstance(error, SoftTimeLimitExceeded) and _is_limited():
        raise error


def _is_limited() -> bool:
    if getattr(_opened, "innermost", None) is not None:
        return True
    return _AlarmLimit.innermost is not None and threading.get_ident() == threading.main_thread().ident


def seconds_left() -> float | None:
    """How long the main thread's block may still run; 0 if its limit has passed unheard, None without one. From any thread."""
    limit = _AlarmLimit.innermost
    if limit is None or (deadline := limit.earliest().deadline) == _NEVER:
        return None
    return max(0.0, deadline - monotonic())


def remind() -> None:
    """Send the main thread the alarm of a limit that has passed unheard: there is one timer, and the block may have used it.

    For another thread to call. While a handler of the block's own stands, it is left alone. When no limit is open, SIGALRM must have
    a handler that does nothing.
    """
    limit = _AlarmLimit.innermost
    overdue = limit is not None and monotonic() - limit.earliest().deadline > _LATE
    if overdue and signal.getsignal(signal.SIGALRM) is _on_alarm:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)


# ------------------------------------------------------------------------------------------------------ the main thread


class _AlarmLimit:
    """A limit in the main thread. The timer always stands at the earliest deadline of the limits that are open."""

    __slots__ = ("_before", "_seconds", "deadline", "outer")

    #: The innermost open limit.
    innermost: "_AlarmLimit | None" = None

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: The handler, the remaining seconds and the interval that somebody else had set, and when we found them.
        self._before: tuple[Any, float, float, float] | None = None

    def __enter__(self) -> None:
        now = monotonic()
        self.deadline = now + self._seconds
        outer = _AlarmLimit.innermost
        self.outer = outer
        _AlarmLimit.innermost = self
        if outer is None:
            handler = signal.signal(signal.SIGALRM, _on_alarm)
            remaining, interval = signal.setitimer(signal.ITIMER_REAL, self._seconds)
            self._before = (handler, remaining, interval, now)
        else:
            self.arm(now)

    def __exit__(self, *_exc_info: object) -> None:
        _AlarmLimit.innermost = outer = self.outer
        if outer is not None:
            outer.arm(monotonic())
            return
        # First the timer, then the handler: an alarm without a handler kills the process.
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._before is not None:
            handler, remaining, interval, since = self._before
            signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
            if remaining:
                signal.setitimer(signal.ITIMER_REAL, max(remaining - (monotonic() - since), _AGAIN), interval)

    def arm(self, now: float) -> None:
        """Set the timer to the earliest deadline from here outwards."""
        deadline = self.earliest().deadline
        signal.setitimer(signal.ITIMER_REAL, 0 if deadline == _NEVER else max(deadline - now, _AGAIN))

    def earliest(self) -> "_AlarmLimit":
        """Find the limit from here outwards that expires first."""
        earliest, limit = self, self.outer
        while limit is not None:
            if limit.deadline < earliest.deadline:
                earliest = limit
            limit = limit.outer
        return earliest


#: Raising in here would leave the timer, or the chain of limits, in disorder.
_UNDISTURBED: Final = frozenset(
    function.__code__
    for function in (_AlarmLimit.__init__, _AlarmLimit.__enter__, _AlarmLimit.__exit__, _AlarmLimit.arm, _AlarmLimit.earliest)
)


def _on_alarm(_signum: int, frame: FrameType | None) -> None:
    limit = _AlarmLimit.innermost
    if limit is None:
        return  # The block ended between the signal and this call.
    if frame is not None and frame.f_code in _UNDISTURBED:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    now = monotonic()
    expired = limit.earliest()
    if expired.deadline > now:  # the alarm was for a limit that has ended
        limit.arm(now)
        return
    expired.deadline = _NEVER
    limit.arm(now)
    raise SoftTimeLimitExceeded


# --------------------------------------------------------------------------------------------------------- other threads


#: The innermost open limit of each thread, ``innermost``.
_opened: Final = threading.local()


class _ThreadLimit:
    """A limit in a thread that is not the main one."""

    __slots__ = ("_outer", "_seconds", "deadline", "fired", "thread")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.thread = threading.get_ident()
        self.fired = False

    def __enter__(self) -> None:
        self.deadline = monotonic() + self._seconds
        self._outer, _opened.innermost = getattr(_opened, "innermost", None), self
        try:
            _watch.add(self)
        except BaseException:
            _opened.innermost = self._outer
            # The exception of an outer limit: without this, ours would be raised later, in code that is none of its.
            _watch.remove(self)
            raise

    def __exit__(self, *_exc_info: object) -> None:
        _opened.innermost = self._outer
        _watch.remove(self)


class _Watch:
    """The thread that plants exceptions, and the limits it watches: one or two for each thread that runs a task.

    A planted exception can strike wherever the watched thread executes Python, in here, too. So all that a watched thread
    touches is written in C: a bare lock and a SimpleQueue. A Condition would be left locked for ever, now and then.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh: in a forked process the thread is gone, and the lock may have been held."""
        self._lock = threading.Lock()
        self._pings: SimpleQueue[None] = SimpleQueue()
        self._limits: dict[int, _ThreadLimit] = {}
        self._wakes_at = _NEVER
        self._thread: threading.Thread | None = None

    def add(self, limit: _ThreadLimit) -> None:
        """Watch this limit."""
        if self._thread is None:
            self._start()
        with self._lock:
            self._limits[id(limit)] = limit
            if limit.deadline < self._wakes_at:
                self._wakes_at = limit.deadline
                self._pings.put(None)

    def remove(self, limit: _ThreadLimit) -> None:
        """Watch it no more, and take back an exception that has not been raised yet."""
        with self._lock:
            self._limits.pop(id(limit), None)
            if limit.fired:
                _plant()(limit.thread, None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="django_tasks.timelimits", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        plant = _plant()
        while True:
            with self._lock:
                now = monotonic()
                for limit in [limit for limit in self._limits.values() if limit.deadline <= now]:
                    # Under the lock, so the block can't end between the look and the exception.
                    limit.fired = True
                    del self._limits[id(limit)]
                    plant(limit.thread, SoftTimeLimitExceeded)
                self._wakes_at = min((limit.deadline for limit in self._limits.values()), default=_NEVER)
            self._wait()

    def _wait(self) -> None:
        with suppress(Empty):
            self._pings.get(timeout=None if self._wakes_at == _NEVER else max(self._wakes_at - monotonic(), 0))


@cache
def _plant() -> Any:
    """``plant(thread id, exception class or None)``: the interpreter's own way to raise in another thread."""
    import ctypes

    set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
    nothing = ctypes.py_object()

    def plant(thread: int, error: type[BaseException] | None) -> None:
        set_async_exc(ctypes.c_ulong(thread), nothing if error is None else ctypes.py_object(error))

    return plant


_watch: Final = _Watch()


def _forget() -> None:
    # A forked child has no timer; limits are its parent's.
    _watch.forget()
    _AlarmLimit.innermost = None
    if _HAS_ALARM and signal.getsignal(signal.SIGALRM) is _on_alarm:
        with suppress(ValueError):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
