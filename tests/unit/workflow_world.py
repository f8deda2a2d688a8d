"""A worker of a few lines for the tests of workflows: real executor, real wire format, a dictionary for results."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from django_tasks import client, result_backends, routing
from django_tasks.canvas.completion import resolve
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.executor import Executor
from django_tasks.messages import TaskMessage
from django_tasks.outcomes import Outcome
from django_tasks.protocol import decode, encode
from django_tasks.registry import registry
from django_tasks.result_backends.backend import NewChord, ReadyChord, ResultMeta
from django_tasks.result_backends.encoding import decode as decode_result
from django_tasks.states import READY_STATES


def request_for(task: Any, **fields: Any) -> Request:
    """Return a request as a worker makes it."""
    return Request(message=TaskMessage(**{"id": "the-id", "task": task.name, "root_id": "the-root", **fields}), definition=task)


class Results:
    """A result backend as far as workflows use it."""

    #: They are kept, not sent.
    reply_to = ""

    def __init__(self) -> None:
        self.metas: dict[str, ResultMeta] = {}
        self.groups: dict[str, Any] = {}
        self.chords: dict[str, list[Any]] = {}
        self.parts: dict[str, dict[str, ResultMeta]] = {}
        self.expired: list[Any] = []

    def store(self, metas: Any) -> None:
        """Keep what is stored."""
        self.metas.update({meta.task_id: meta for meta in metas})

    def store_group(self, group_id: str, members: Any) -> None:
        """Keep a group's tuples."""
        self.groups[group_id] = members

    def fetch_group(self, group_id: str) -> Any:
        """Return a group's tuples."""
        return self.groups.get(group_id)

    def check_chords(self) -> None:
        """Chords are counted here."""

    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Expect these chords' parts."""
        for chord in chords:
            if chord.shape is not None:
                self.groups[chord.group_id] = chord.shape
            self.chords.setdefault(chord.group_id, [chord.size, chord.body])

    def close_chords(self, group_ids: Any) -> None:
        """Forget chords that go no further."""
        for group_id in group_ids:
            self.chords[group_id] = [1 << 40, None]

    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Expect more parts."""
        self.chords[group_id][0] += by

    def count_chord_parts(self, metas: Any) -> list[ReadyChord]:
        """Count parts; return the chords that are complete."""
        ready = []
        for meta in metas:
            assert meta.group_id in self.chords, f"a part of the unopened chord {meta.group_id} came back"
            parts = self.parts.setdefault(meta.group_id, {})
            if meta.task_id in parts:
                continue
            parts[meta.task_id] = meta
            size, body = self.chords[meta.group_id]
            assert len(parts) <= size, "a chord got more parts than it has"
            if len(parts) == size:
                ordered = sorted(parts.values(), key=lambda part: part.group_index)
                ready.append(ReadyChord(meta.group_id, body, ordered, self.groups.get(meta.group_id)))
        return ready


class World:
    """Publish into it, ``run()`` it, and look at ``results``; ``published`` holds the batches as they were sent."""

    def __init__(self, monkeypatch: Any, results: Any = None) -> None:
        self.results = Results() if results is None else results
        self.published: list[list[TaskMessage]] = []
        self.policies: list[dict[str, Any]] = []
        self.queue: deque[TaskMessage] = deque()
        self.ran: list[TaskMessage] = []
        self._executor = Executor(follow=followups)
        monkeypatch.setattr(client, "publish", self.publish)
        monkeypatch.setattr(result_backends, "current", lambda: self.results)

    def publish(self, messages: Any, **policy: Any) -> None:
        """Take messages in place of the client: they travel as JSON."""
        self.published.append(list(messages))
        self.policies.append(policy)
        destinations = routing.Router().destinations(messages)
        self.queue.extend(
            decode(envelope, accept=["application/json", "json"]) for envelope in encode(messages, destinations, origin="t@h")
        )

    @property
    def messages(self) -> list[TaskMessage]:
        """All messages published so far."""
        return [message for batch in self.published for message in batch]

    def run(self, *, most: int = 500) -> None:
        """Run what is in the queue, and what that sends, to the end."""
        while self.queue:
            assert len(self.ran) < most, "the workflow does not end"
            self.step()

    def step(self) -> Outcome:
        """Run the next message."""
        message = self.queue.popleft()
        self.ran.append(message)
        request = Request(message=message, definition=registry[message.task], hostname="w1@here")
        outcome = self._executor.execute(request)
        self._complete(request, outcome)
        return outcome

    def _complete(self, request: Request, outcome: Outcome) -> None:
        message = request.message
        metas = list(outcome.followups.metas)
        if outcome.store:
            metas.append(
                ResultMeta(
                    task_id=message.id,
                    status=outcome.state,
                    result=outcome.result,
                    content_type=outcome.content_type,
                    content_encoding=outcome.content_encoding,
                    name=message.task,
                    group_id=message.group,
                    group_index=message.group_index,
                    chord=message.embed.get("chord"),
                    children=list(request.children),
                )
            )
        sent, opened = list(outcome.followups.messages), list(outcome.followups.chords)
        while metas:
            self.results.store(metas)
            parts = [meta for meta in metas if meta.chord is not None and meta.status in READY_STATES]
            metas = []
            for ready in self.results.count_chord_parts(parts):
                last = [part for part in parts if part.group_id == ready.group_id][-1]
                resolution = resolve(ready, last)
                sent.extend(resolution.messages)
                opened.extend(resolution.chords)
                metas.extend(resolution.metas)
        self.results.open_chords(opened)
        if sent:
            self.publish(sent)

    def value(self, result: Any) -> Any:
        """Return what the task of a result (or the members of a group's) returned, or its exception."""
        members = getattr(result, "results", None)
        if members is not None:
            return [self.value(member) for member in members]
        return decode_result(self._meta(result.id))

    def _meta(self, task_id: str) -> ResultMeta:
        return self.results.metas[task_id] if isinstance(self.results, Results) else self.results.fetch([task_id])[task_id]

    def state(self, result: Any) -> str:
        """Return the stored state of a result."""
        return self._meta(result.id).status
