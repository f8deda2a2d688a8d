"""What was published, as tests look at it, and the assertions with what they say when they fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict

from django.db import connections

from django_tasks import clock
from django_tasks.canvas.eager import travelled
from django_tasks.client import Departure
from django_tasks.conf import settings
from django_tasks.exceptions import TaskError
from django_tasks.messages import Envelope
from django_tasks.protocol import decode
from django_tasks.registry import registry

#: How far from what was asked a countdown or an eta may be: a test takes its time.
TOLERANCE: Final = timedelta(seconds=1)
_SHOWN: Final = 20


class UncommittedWarning(UserWarning):
    """Nothing was there to run, since what was published waits for a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A task that was published.

    ``args`` and ``kwargs`` are as a worker receives them: tuples have become lists. ``at`` is when it was published;
    ``eta`` and ``expires`` are times in UTC, or None.
    """

    task: str
    id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    priority: int = 0
    at: datetime | None = None
    eta: datetime | None = None
    expires: datetime | None = None
    retries: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def countdown(self) -> float | None:
        """Seconds from publishing to ``eta``; None for what may run at once."""
        return None if self.eta is None or self.at is None else (self.eta - self.at).total_seconds()

    def __str__(self) -> str:
        arguments = ", ".join([*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())])
        notes = [f"queue={self.queue!r}"]
        if self.countdown is not None:
            notes.append(f"countdown={round(self.countdown, 1):g}")
        if self.priority:
            notes.append(f"priority={self.priority}")
        if self.retries:
            notes.append(f"retry {self.retries}")
        return f"{self.task}({arguments})  {', '.join(notes)}"


def publication(envelope: Envelope, at: datetime | None) -> Publication:
    """Read an envelope."""
    headers = envelope.headers
    try:
        message = decode(envelope, accept=settings.ACCEPT_CONTENT)
    except TaskError:
        return Publication(
            task=str(headers.get("task")), id=str(headers.get("id")), args=["<unreadable>"], kwargs={}, queue=envelope.queue, at=at
        )
    return Publication(
        task=message.task,
        id=message.id,
        args=message.args,
        kwargs=message.kwargs,
        queue=envelope.queue,
        priority=envelope.priority,
        at=at,
        eta=message.eta,
        expires=message.expires,
        retries=message.retries,
        headers=message.headers,
    )


def uncommitted() -> list[Publication]:
    """Return what leaves when a transaction commits that is still open: of a TestCase's own, that is never.

    Django's tests leave hooks where they are when they call them; what these have published is left out.
    """
    hooks = [hook for connection in connections.all(initialized_only=True) for _, hook, *_ in connection.run_on_commit]
    waiting = [hook for hook in hooks if isinstance(hook, Departure) and not hook.called]
    return [publication(envelope, None) for hook in waiting for envelope in hook.envelopes]


COMMIT_HINT: Final = (
    "They leave when the transaction commits, and a TestCase's own (pytest-django's db) never does. Publish inside "
    "captureOnCommitCallbacks(execute=True), or django_capture_on_commit_callbacks(execute=True); or test with in_memory(on_commit=False)."
)


class Criteria(TypedDict, total=False):
    """What a publication must be like, beside its task. What is left out, or None, may be anything."""

    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    queue: str | None
    countdown: float | timedelta | None
    eta: datetime | None
    priority: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A task's name and ``Criteria``; None stands for anything."""

    task: str | None = None
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    queue: str | None = None
    countdown: float | timedelta | None = None
    eta: datetime | None = None
    priority: int | None = None

    def fits(self, one: Publication) -> bool:
        """Whether this is what is looked for."""
        return (
            self.task in {None, one.task}
            and self.queue in {None, one.queue}
            and self.priority in {None, one.priority}
            and self._fits_arguments(one)
            and self._fits_time(one)
        )

    def _fits_arguments(self, one: Publication) -> bool:
        args, kwargs = self.args, self.kwargs
        if args is None and kwargs is None:
            return True
        found = (list(one.args) if args is not None else [], dict(one.kwargs) if kwargs is not None else {})
        wanted = (list(args or ()), dict(kwargs or {}))
        if wanted == found:
            return True
        # As a worker would receive them. What can't travel, unittest.mock.ANY for instance, was compared already.
        try:
            args, kwargs = travelled(registry.find(one.task), *wanted, None)
        except (TaskError, AttributeError):
            return False
        return (list(args), dict(kwargs)) == found

    def _fits_time(self, one: Publication) -> bool:
        if self.countdown is not None:
            seconds = self.countdown.total_seconds() if isinstance(self.countdown, timedelta) else self.countdown
            if one.countdown is None or abs(one.countdown - seconds) > TOLERANCE.total_seconds():
                return False
        return self.eta is None or (one.eta is not None and abs(one.eta - clock.as_utc(self.eta)) <= TOLERANCE)

    def __str__(self) -> str:
        given = ("args", "kwargs", "queue", "countdown", "eta", "priority")
        parts = [f"{name}={value!r}" for name in given if (value := getattr(self, name)) is not None]
        return " with ".join(part for part in (self.task or "any task", ", ".join(parts)) if part)


def task_name(task: Any) -> str | None:
    """Return the name of a task, given as one or by its name."""
    if task is None or isinstance(task, str):
        return task
    name = getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"{task!r} is no task: give a task or its name")
    return name


def listing(found: Sequence[Publication]) -> str:
    """Say what was published, a line each."""
    if not found:
        return "Nothing was published."
    lines = [f"  {number}. {one}" for number, one in enumerate(found[:_SHOWN], 1)]
    if len(found) > _SHOWN:
        lines.append(f"  ... and {len(found) - _SHOWN} more")
    return "\n".join(["Published was:", *lines])


def complaint(wanted: Wanted, problem: str, found: Sequence[Publication]) -> str:
    """Say what is wrong, what there is instead, and what waits for a commit."""
    parts = [f"{wanted} {problem}", listing(found), _misspelt(wanted)]
    if waiting := uncommitted():
        lines = [f"  - {one}" for one in waiting[:_SHOWN]]
        parts.append("\n".join([f"{len(waiting)} message(s) wait for a commit:", *lines, COMMIT_HINT]))
    return "\n".join(part for part in parts if part)


def _misspelt(wanted: Wanted) -> str:
    known = wanted.task is None or registry.find(wanted.task) is not None
    return "" if known else f"No task is registered as {wanted.task!r}."
