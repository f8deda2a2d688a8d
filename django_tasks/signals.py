"""Celery's signals, as Django signals: receivers watch, they change nothing. What changes things is ``middleware``.

``connect`` is a call, a bare decorator, or a decorator with ``sender=``. A receiver is kept until it is disconnected, and
one that raises is logged and never disturbs the task, the caller or the worker. A soft time limit that ends meanwhile reaches the task.
"""

import asyncio
import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from asgiref.sync import sync_to_async
from django.dispatch import Signal

from django_tasks.timelimits import let_pass

logger = logging.getLogger("django_tasks.signals")

R = TypeVar("R", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """One connected receiver: how to reach it, and for which sender; ``uid`` stands for the receiver where one was given."""

    uid: Any
    sender: Any
    reference: Callable[[], Callable[..., Any] | None]
    is_async: bool

    def is_of(self, uid: Any, receiver: Any, sender: Any) -> bool:
        """Whether connect was called with these."""
        if not (self.sender is sender or (isinstance(sender, str) and self.sender == sender)):
            return False
        # Bound methods are equal, never identical.
        return bool(self.uid == uid) if uid or self.uid else self.reference() == receiver

    def hears(self, sender: Any) -> bool:
        """Whether the receiver wants what ``sender`` sends."""
        wanted = self.sender
        if wanted is None or wanted is sender:
            return True
        if isinstance(wanted, str):
            return wanted == (sender if isinstance(sender, str) else getattr(sender, "name", None))
        return inspect.isroutine(wanted) and wanted is _function_of(sender)


class TaskSignal(Signal):
    """A signal by one of Celery's names.

    ``receivers`` is empty when nobody listens, which is the quick test before an expensive ``send``.
    """

    receivers: list[Any]

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        # Django's, but reentrant: a receiver may be dropped by the garbage collector while we hold it.
        self.lock: Any = threading.RLock()

    def __repr__(self) -> str:
        return f"<signal {self.name}>"

    @overload  # type: ignore[override]
    def connect(self, receiver: R, sender: Any = None, weak: bool = False, dispatch_uid: Any = None) -> R: ...

    @overload
    def connect(self, receiver: None = None, sender: Any = None, weak: bool = False, dispatch_uid: Any = None) -> Callable[[R], R]: ...

    def connect(self, receiver: Any = None, sender: Any = None, weak: bool = False, dispatch_uid: Any = None) -> Any:
        """Call ``receiver(sender=…, signal=…, …)`` whenever the signal is sent; return the receiver.

        ``sender`` narrows it to one task (the task, its function or its name) or worker. Without ``receiver`` this
        returns a decorator. ``weak=True`` forgets the receiver when nothing else holds it.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender=sender, weak=weak, dispatch_uid=dispatch_uid)
        if not callable(receiver):
            raise TypeError(f"{self.name}.connect() needs a function to call, not {receiver!r}; write sender=… for a sender")
        if not _takes_keywords(receiver):
            raise ValueError(f"{_name(receiver)} can't be connected to {self.name}: it must accept **kwargs, since signals gain arguments")
        wanted = _filter(sender)
        connection = Connection(
            uid=dispatch_uid,
            sender=wanted,
            reference=_weak(receiver, self._forget) if weak else lambda: receiver,
            is_async=inspect.iscoroutinefunction(receiver) or inspect.iscoroutinefunction(getattr(receiver, "__call__", None)),  # noqa: B004
        )
        with self.lock:
            if not any(known.is_of(dispatch_uid, receiver, wanted) for known in self.receivers):
                # A new list each time: a send that is under way goes on with the one it has.
                self.receivers = [*self.receivers, connection]
        return receiver

    def disconnect(self, receiver: Any = None, sender: Any = None, dispatch_uid: Any = None) -> bool:
        """Stop calling ``receiver``; say whether it was connected. ``sender`` and ``dispatch_uid`` as given to connect."""
        wanted = _filter(sender)
        with self.lock:
            left = [known for known in self.receivers if not known.is_of(dispatch_uid, receiver, wanted)]
            found = len(left) < len(self.receivers)
            self.receivers = left
        return found

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether anyone hears what this sender sends."""
        return any(connection.hears(sender) for connection in self.receivers)

    def send(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        """Call every receiver; return pairs of receiver and what it returned, or the exception it raised."""
        if not self.receivers:
            return []
        responses = []
        for receiver, is_async in self._heard_by(sender):
            call = _finish if is_async else _call
            responses.append((receiver, call(self, receiver, {"sender": sender, **named})))
        return responses

    async def asend(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        """Call every receiver from async code: async ones are awaited, others run in Django's thread for such calls."""
        responses = []
        for receiver, is_async in self._heard_by(sender):
            arguments = {"sender": sender, **named}
            response = await (_acall(self, receiver, arguments) if is_async else sync_to_async(_call)(self, receiver, arguments))
            responses.append((receiver, response))
        return responses

    #: Every send is robust, so these are only Django's other names.
    send_robust = send
    asend_robust = asend

    def _heard_by(self, sender: Any) -> list[tuple[Callable[..., Any], bool]]:
        found = [(connection.reference(), connection.is_async) for connection in self.receivers if connection.hears(sender)]
        return [(receiver, is_async) for receiver, is_async in found if receiver is not None]

    def _forget(self, gone: Any) -> None:
        with self.lock:
            self.receivers = [known for known in self.receivers if known.reference is not gone]


def _takes_keywords(receiver: Callable[..., Any]) -> bool:
    # Django has a function for this, with a cache that holds every receiver for ever, weak ones, too.
    try:
        parameters = inspect.signature(receiver).parameters.values()
    except (TypeError, ValueError):
        return True  # Written in C, perhaps; the call will tell.
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _filter(sender: Any) -> Any:
    # A task is known by its name, so that a receiver connected before the module was loaded twice still hears it.
    name = getattr(sender, "name", None)
    return name if isinstance(name, str) and callable(getattr(sender, "run", None)) else sender


def _function_of(task: Any) -> Any:
    run = getattr(task, "run", None)
    return None if run is None else inspect.unwrap(getattr(run, "__func__", run))


def _weak(receiver: Callable[..., Any], forget: Callable[[Any], None]) -> Callable[[], Callable[..., Any] | None]:
    if inspect.ismethod(receiver):
        return weakref.WeakMethod(receiver, forget)
    return weakref.ref(receiver, forget)


def _name(receiver: Any) -> str:
    named = getattr(receiver, "func", receiver)
    return f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', repr(named))}"


def _call(signal: TaskSignal, receiver: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return receiver(signal=signal, **arguments)
    except Exception as error:
        let_pass(error)
        logger.exception("The receiver %s of the signal %s raised; the others are called all the same", _name(receiver), signal.name)
        return error


async def _acall(signal: TaskSignal, receiver: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return await receiver(signal=signal, **arguments)
    except Exception as error:
        let_pass(error)
        logger.exception("The receiver %s of the signal %s raised; the others are called all the same", _name(receiver), signal.name)
        return error


def _finish(signal: TaskSignal, receiver: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Run an async receiver to its end from synchronous code, also when this thread's event loop is busy with us."""
    coroutine = _acall(signal, receiver, arguments)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _finish_in_thread(coroutine)


def _finish_in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    results: list[Any] = []
    context = copy_context()
    thread = threading.Thread(target=lambda: results.append(context.run(asyncio.run, coroutine)), name="django_tasks.signals")
    thread.start()
    thread.join()
    return results[0] if results else None


def _declare(name: str) -> TaskSignal:
    SIGNALS[name] = signal = TaskSignal(name)
    return signal


#: Every signal by its name.
SIGNALS: Final[dict[str, TaskSignal]] = {}

#: A message is about to leave. Sender: the task's name. body, exchange, routing_key, headers, properties, declare, retry_policy.
#: ``args, kwargs, embed = body``: what is changed in these, in headers and in properties, is sent.
before_task_publish = _declare("before_task_publish")
#: A message has left. Sender: the task's name. headers, body, exchange, routing_key.
after_task_publish = _declare("after_task_publish")
#: A worker took a message. Sender: the worker's consumer. request.
task_received = _declare("task_received")
#: A task is about to run. Sender: the task. task_id, task, args, kwargs.
task_prerun = _declare("task_prerun")
#: A task has run. Sender: the task. task_id, task, args, kwargs, retval, state.
task_postrun = _declare("task_postrun")
#: A task succeeded. Sender: the task. result.
task_success = _declare("task_success")
#: A task will be tried again. Sender: the task. request, reason, einfo.
task_retry = _declare("task_retry")
#: A task failed. Sender: the task. task_id, exception, args, kwargs, traceback, einfo.
task_failure = _declare("task_failure")
#: Something broke around a task. Sender: the task. task_id, args, kwargs, request, exception, traceback, einfo.
task_internal_error = _declare("task_internal_error")
#: A task was revoked or terminated. Sender: the task. request, terminated, signum, expired.
task_revoked = _declare("task_revoked")
#: A message was no task at all. Sender: the worker's consumer. message, exc.
task_rejected = _declare("task_rejected")
#: A message names a task that is not registered. Sender: the worker's consumer. message, exc, name, id.
task_unknown = _declare("task_unknown")
#: Celery's old name of after_task_publish; accepted and never sent.
task_sent = _declare("task_sent")
#: The first thing a worker does. Sender: its node name. instance (None), conf, options: what the command line says, to be changed.
celeryd_init = _declare("celeryd_init")
#: A worker is set up and not yet running. Sender: its node name. instance, conf.
celeryd_after_setup = _declare("celeryd_after_setup")
#: Modules with tasks are being imported. Sender: the app.
import_modules = _declare("import_modules")
#: A worker starts. Sender: the worker.
worker_init = _declare("worker_init")
#: A worker is about to start another process. Sender: the worker.
worker_before_create_process = _declare("worker_before_create_process")
#: Sent in each worker process when it starts.
worker_process_init = _declare("worker_process_init")
#: Sent in each worker process before it exits. pid, exitcode.
worker_process_shutdown = _declare("worker_process_shutdown")
#: A worker takes messages from now on. Sender: the worker.
worker_ready = _declare("worker_ready")
#: A worker was told to stop. Sender: its node name. sig, how, exitcode.
worker_shutting_down = _declare("worker_shutting_down")
#: A worker has stopped. Sender: the worker.
worker_shutdown = _declare("worker_shutdown")
#: A worker has shown a sign of life. Sender: its heart.
heartbeat_sent = _declare("heartbeat_sent")
#: A worker or beat starts. Django's LOGGING is in force; what a receiver configures counts, too. loglevel, logfile, format, colorize.
setup_logging = _declare("setup_logging")
#: After setup_logging. logger (the root's), loglevel, logfile, format, colorize.
after_setup_logger = _declare("after_setup_logger")
#: After setup_logging. logger (django_tasks), loglevel, logfile, format, colorize.
after_setup_task_logger = _declare("after_setup_task_logger")
#: Beat starts by itself. Sender: the beat service.
beat_init = _declare("beat_init")
#: Beat starts inside a worker. Sender: the beat service.
beat_embedded_init = _declare("beat_embedded_init")
#: Celery's, of options that a project adds to its commands; accepted and never sent.
user_preload_options = _declare("user_preload_options")
