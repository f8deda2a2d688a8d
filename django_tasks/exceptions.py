"""Every public error, by Celery's names. The docstring of a class is its message where none is given."""

import builtins
from datetime import datetime
from typing import Any


class TaskError(Exception):
    """Something went wrong with a background task."""

    def __str__(self) -> str:
        return super().__str__() if self.args else (type(self).__doc__ or "").strip()


#: Celery's name for it.
CeleryError = TaskError


class ImproperlyConfigured(TaskError):
    """A setting has a value that can't be used."""


class OperationalError(TaskError):
    """The broker or the result backend can't be reached; nothing was sent or stored."""


class ServerFullError(OperationalError):
    """The server answers, and has no memory for what it was to keep; what lies in it can still be read and deleted."""


class ServerRefusedError(OperationalError):
    """The server answers and will go on refusing: an unknown database, missing tables, wrong credentials."""


class SerializationError(TaskError):
    """A value can't be turned into a message, or a message into a value."""


class ContentDisallowed(SerializationError):
    """The message has a content type that ACCEPT_CONTENT does not list."""


class DecodeError(SerializationError):
    """The message's body can't be read."""


class EncodeError(SerializationError):
    """The value can't be serialized."""


class TaskPredicate(TaskError):
    """Raised inside a task to say what is to become of it."""


class Retry(TaskPredicate):
    """The task is to be tried again.

    ``exc`` is the error behind it, ``when`` the delay in seconds or the time of the next try; ``message`` is
    what will be sent.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(message or "", exc, when)
        self.message = message
        self.exc = exc
        self.excs = _shown(exc) if exc is not None else None
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        #: The TaskMessage to send; set by ``Task.retry``.
        self.task_message: Any = None

    def humanize(self) -> str:
        """Say when the next try will be."""
        return f"in {self.when}s" if isinstance(self.when, int | float) else f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        return f"Retry {self.humanize()}" + (f": {self.excs}" if self.excs else "")


def _shown(error: BaseException) -> str:
    try:
        return repr(error)
    except SoftTimeLimitExceeded:
        raise
    except Exception as problem:  # noqa: BLE001  somebody's __repr__; the task is tried again all the same
        return f"<{type(error).__qualname__} whose repr raised {type(problem).__qualname__}>"


class Ignore(TaskPredicate):
    """The task's outcome is not to be recorded; the message is acknowledged."""


class Reject(TaskPredicate):
    """The message is refused: given back to the queue with ``requeue=True``, else a dead letter."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __str__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class NotRegistered(KeyError, TaskError):
    """No task of this name is known to this process."""

    def __str__(self) -> str:
        return f"Task of kind {self.args[0] if self.args else None!r} never registered"


class AlreadyRegistered(TaskError):
    """Another task has this name already."""


class MaxRetriesExceededError(TaskError):
    """The task was retried as often as max_retries allows."""

    def __init__(self, *args: Any, task_args: Any = (), task_kwargs: Any = None) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = task_kwargs or {}


class TaskRevokedError(TaskError):
    """The task was revoked, so it has no result."""


class InvalidTaskError(TaskError):
    """The message is no valid call of a task."""


class IncompleteStream(TaskError):
    """The result is not there yet."""


class ChordError(TaskError):
    """A part of the chord's header failed, so its body can't run."""


class TimeoutError(TaskError, builtins.TimeoutError):
    """The operation took longer than its timeout."""


class SoftTimeLimitExceeded(Exception):
    """The soft time limit has been exceeded. Raised inside the task, which may catch it to clean up."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args}"


class TimeLimitExceeded(Exception):
    """The hard time limit has been exceeded and the task's process was killed."""

    def __str__(self) -> str:
        return f"TimeLimitExceeded{self.args}"


class WorkerLostError(Exception):
    """The process that ran the task died before it had finished."""


class Terminated(Exception):
    """The task was terminated on request."""


class WorkerTerminate(SystemExit):
    """The worker must stop at once."""


class WorkerShutdown(SystemExit):
    """The worker must stop when what runs is done."""


class QueueNotFound(KeyError, TaskError):
    """The task was routed to a queue that TASK_QUEUES does not have, and TASK_CREATE_MISSING_QUEUES is off."""

    # A KeyError would show its message in quotes.
    __str__ = TaskError.__str__


class BackendError(TaskError):
    """The result backend could not do what was asked of it."""


class BackendGetMetaError(BackendError):
    """The result could not be read."""


class BackendStoreError(BackendError):
    """The result could not be stored."""


class CeleryWarning(UserWarning):
    """The class of Celery's warnings. Nothing here warns by it: it is for filters that name it."""


class CDeprecationWarning(DeprecationWarning):
    """Celery's warning of what is going. Nothing here warns by it: it is for filters that name it."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """Celery's warning of what will be going. Nothing here warns by it: it is for filters that name it."""


class AlwaysEagerIgnored(RuntimeWarning):
    """``app.send_task`` sent a task although TASK_ALWAYS_EAGER is on: it knows a name, and not what to run."""
