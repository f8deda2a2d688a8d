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
from django_tasks.messages import TaskMessage, WireSignature
from django_tasks.result import AsyncResult

#: How a message is to be published: on_commit, retry, retry_policy.
Policy: TypeAlias = tuple[bool | None, bool | None, dict[str, Any] | None]

_AS_CONFIGURED: Policy = (None, None, None)


class Outbox:
    """Messages that leave together, and the chords that must be expected before they do."""

    def __init__(self) -> None:
        self._batches: list[tuple[Policy, list[TaskMessage]]] = []
        self._chords: list[tuple[str, int, WireSignature]] = []
        self._groups: list[tuple[str, Sequence[Any]]] = []

    def add(self, message: TaskMessage, policy: Policy) -> None:
        """Take a message."""
        if self._batches and self._batches[-1][0] == policy:
            self._batches[-1][1].append(message)
        else:
            self._batches.append((policy, [message]))

    def expect(self, group_id: str, size: int, body: WireSignature) -> None:
        """Take a chord: its parts are among the messages, or will be."""
        self._chords.append((group_id, size, body))

    def remember(self, group_id: str, members: Any) -> None:
        """Take a group whose shape must be known when its chord is complete."""
        self._groups.append((group_id, members))

    @property
    def messages(self) -> list[TaskMessage]:
        """All messages, in the order in which they came."""
        return [message for _, batch in self._batches for message in batch]

    def open_chords(self) -> None:
        """Tell the result backend what to count. Must come before the first part can run."""
        if self._groups or self._chords:
            backend = result_backends.current()
            for group_id, members in self._groups:
                backend.store_group(group_id, members)
            for group_id, size, body in self._chords:
                backend.open_chord(group_id, size, body)
            self._groups, self._chords = [], []

    def publish(self) -> None:
        """Send everything: one publish, or one for each way of publishing that calls asked for."""
        self.open_chords()
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
    outbox = _outbox.get()
    if outbox is not None:
        outbox.add(message, policy)
        return
    on_commit, retry, retry_policy = policy
    client.publish([message], on_commit=on_commit, retry=retry, retry_policy=retry_policy)


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
    if request is not None and getattr(request.task, "trail", True):
        request.children.append(result.as_tuple())
