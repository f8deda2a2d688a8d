"""Processes that tasks fork: they run the task's own code, and nothing of the worker.

A forked child has a copy of everything: what waits in the process, its connections, its handlers of signals. It may do there
what the task wants, and publish, over connections of its own. It must not run the next message, store a result, or speak on a
connection that it has in common with its parent.
"""

import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any, Final, NoReturn, Protocol
from weakref import ReferenceType, ref

from asgiref.sync import SyncToAsync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_tasks.executor import loop_thread


class Forkable(Protocol):
    """What runs tasks, and must not do so in a forked child."""

    def forget(self) -> None:
        """Drop what waits, and end the process when the task's function ends."""


#: What runs tasks in this process, if anything does.
_running: list[Forkable] = []
#: All connections that are open in this process, of whichever thread.
_opened: Final[set[ReferenceType[BaseDatabaseWrapper]]] = set()
#: In a child, the parent's: kept, since to free one may send the server a farewell in the parent's name.
_kept: Final[list[Any]] = []
#: Handlers of the worker's own, which are not for the processes that tasks start.
_handlers: Final[dict[int, Any]] = {}


def guard(pool: Forkable) -> None:
    """From now on, children that tasks fork in this process run nothing of ``pool``."""
    _running[:] = [pool]


def handle(number: int, handler: Any) -> None:
    """Handle a signal in this process, and not in those that it forks."""
    _handlers[number] = handler
    signal.signal(number, handler)


def leave(error: BaseException | None = None) -> NoReturn:
    """End a forked child of a task, as Python ends a program: with the status that ``error`` stands for."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        status = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status & 0xFF)


def _note(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    _opened.add(ref(connection, _opened.discard))


connection_created.connect(_note, dispatch_uid="django_tasks.worker.forks")


def _before_fork() -> None:
    # Before, because what belongs to other threads is freed in the child as soon as it begins.
    if _running:
        # A signal that comes to a child right after its birth must find its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)
        wrappers = [wrapper for wrapper in (reference() for reference in tuple(_opened)) if wrapper is not None]
        _kept.extend(wrapper.connection for wrapper in wrappers)


def _after_fork_in_parent() -> None:
    if _running:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _handlers)
        _kept.clear()


def _after_fork_in_child() -> None:
    if not _running:
        return
    for pool in _running:
        pool.forget()
    _running.clear()
    end_loop(loop_thread.loop)
    _empty_executor()
    _leave_connections()
    _restore_signals()


def end_loop(loop: Any) -> None:
    """Let a forked child's event loop end the process at once: it must not run the coroutines that are its parent's."""
    if loop is None or loop.is_closed():
        return
    handles = getattr(loop, "_ready", None)
    loop.call_soon(leave)
    if handles is not None:
        # Ours is the last one: no other comes before the child's coroutine has let the loop go on.
        handles.extendleft([handles.pop()])


class _Farewell:
    """Ends the process when a thread of an executor takes it for work."""

    def run(self, *_context: object) -> None:
        """Do so."""
        leave()


def _empty_executor() -> None:
    # Where coroutines run synchronous code: what waits there is the parent's work.
    waiting: Any = SyncToAsync.single_thread_executor._work_queue  # noqa: SLF001  there is no public way to take work back
    while not waiting.empty():
        waiting.get_nowait()
    waiting.put(_Farewell())


def _leave_connections() -> None:
    for connection in connections.all(initialized_only=True):
        _leave_connection(connection)


def _leave_connection(connection: BaseDatabaseWrapper) -> None:
    if connection.connection is None:
        return
    if connection.in_atomic_block:
        # As Django has it for a connection that was closed inside of a transaction.
        connection.closed_in_transaction = True
        connection.needs_rollback = True
    else:
        connection.connection = None
        connection.run_on_commit = []


def _restore_signals() -> None:
    # A child can be terminated like any other program, unless the task has handlers of its own.
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)
        for number, handler in _handlers.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _handlers)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
