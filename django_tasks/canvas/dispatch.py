"""Sending what a workflow needs now: every message of one call leaves in one publish.

``sending()`` gathers what is sent inside the block and publishes it at its end; nested blocks join the outermost.
``gathering()`` only gathers: what follows a task leaves with its outcome, not before.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from django_tasks import client, result_backends
from django_tasks.canvas.calls import build_message
from django_tasks.context import current_request
from django_tasks.messages import TaskMessage
from django_tasks.outcomes import Followups
from django_tasks.result import AsyncResult
from django_tasks.result_backends.backend import NewChord, ResultMeta

#: How a message is to be published: on_commit, retry, retry_policy.
Policy: TypeAlias = tuple[bool | None, bool | None, dict[str, Any] | None]

_AS_CONFIGURED: Policy = (None, None, None)


class Outbox:
    """Messages that leave together, and the chords that must be expected before they do."""

    def __init__(self) -> None:
        self._batches: list[tuple[Policy, list[TaskMessage]]] = []
        self._chords: list[NewChord] = []

    def add(self, messages: Sequence[TaskMessage], policy: Policy) -> None:
        """Take messages."""
        if self._batches and self._batches[-1][0] == policy:
            self._batches[-1][1].extend(messages)
        else:
            self._batches.append((policy, list(messages)))

    def take(self, other: "Outbox") -> None:
        """Take all that another one has gathered."""
        for policy, messages in other._batches:  # noqa: SLF001  one of its kind
            self.add(messages, policy)
        self._chords.extend(other._chords)  # noqa: SLF001

    def expect(self, chord: NewChord) -> None:
        """Take a chord: its parts are among the messages, or will be."""
        self._chords.append(chord)

    @property
    def messages(self) -> list[TaskMessage]:
        """All messages, in the order in which they came."""
        return [message for _, batch in self._batches for message in batch]

    def followups(self, metas: Sequence[ResultMeta] = ()) -> Followups:
        """Return what was gathered as what follows a task, with results of tasks that will never run."""
        return Followups(self.messages, metas, self._chords)

    def publish(self) -> None:
        """Send everything: one publish, or one for each way of publishing that calls asked for."""
        # Before the first part can run.
        if self._chords:
            result_backends.current().open_chords(self._chords)
        self._chords = []
        for (on_commit, retry, retry_policy), batch in self._batches:
            client.publish(batch, on_commit=on_commit, retry=retry, retry_policy=retry_policy)


_outbox: ContextVar[Outbox | None] = ContextVar("django_tasks_outbox", default=None)


@contextmanager
def gathering() -> Iterator[Outbox]:
    """Gather what is sent inside the block, without publishing it."""
    outbox = Outbox()
    token = _outbox.set(outbox)
    try:
        yield outbox
    finally:
        _outbox.reset(token)


@contextmanager
def sending() -> Iterator[Outbox]:
    """Publish together, at the end of the block, what is sent inside it; nothing if the block raises."""
    outer = _outbox.get()
    if outer is not None:
        yield outer
        return
    with gathering() as outbox:
        yield outbox
    outbox.publish()


def is_gathering() -> bool:
    """Whether what is sent now would leave later, with what is gathered around it."""
    return _outbox.get() is not None


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Let what is sent inside the block join what is being gathered around it; nothing of it if the block raises."""
    outer = _outbox.get()
    if outer is None:
        yield
        return
    with gathering() as outbox:
        yield
    outer.take(outbox)


@contextmanager
def at_once() -> Iterator[None]:
    """Let what is sent inside the block leave by itself, whatever is being gathered around it."""
    token = _outbox.set(None)
    try:
        yield
    finally:
        _outbox.reset(token)


def send(message: TaskMessage, policy: Policy = _AS_CONFIGURED) -> None:
    """Publish a message, with the others that are being gathered if there are."""
    send_all([message], policy)


def send_all(messages: Sequence[TaskMessage], policy: Policy) -> None:
    """Publish messages together, with the others that are being gathered if there are."""
    outbox = _outbox.get()
    if outbox is not None:
        outbox.add(messages, policy)
        return
    on_commit, retry, retry_policy = policy
    client.publish(messages, on_commit=on_commit, retry=retry, retry_policy=retry_policy)


def send_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> AsyncResult[Any]:
    """Build and send one call; what comes back stands for its result."""
    message = build_message(name, args, kwargs, options)
    get = options.get
    send(message, (get("on_commit"), get("retry"), get("retry_policy")))
    result: AsyncResult[Any] = AsyncResult(message.id, task_name=name)
    if message.ignore_result:
        result.ignored = True
    if current_request() is not None and get("add_to_parent", True):
        note_child(result)
    return result


def note_child(result: Any) -> None:
    """Enter a result among the children of the task that runs here, if one does."""
    request = current_request()
    if request is not None and getattr(request.definition, "trail", True):
        request.children.append(result.as_tuple())
