"""``chord``: a task that runs when all tasks of a group are done, with the list of their results."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from django_tasks import result_backends
from django_tasks.canvas.calls import PLUMBING, listed
from django_tasks.canvas.dispatch import gathering, sending
from django_tasks.canvas.failures import Failure, call_errbacks, failed_metas
from django_tasks.canvas.groups import group
from django_tasks.canvas.signatures import Signature, first_of, maybe_signature, members_of
from django_tasks.conf import settings
from django_tasks.exceptions import ChordError
from django_tasks.messages import TaskMessage, new_id
from django_tasks.outcomes import Followups
from django_tasks.result import GroupResult
from django_tasks.result_backends.backend import ReadyChord, ResultMeta
from django_tasks.result_backends.encoding import decode
from django_tasks.states import PROPAGATE_STATES

logger = logging.getLogger("django_tasks.canvas")

#: Options of one call that must not travel with the body: they are about publishing the header.
_OF_THE_CALL = PLUMBING | {
    "add_to_parent",
    "countdown",
    "eta",
    "link",
    "link_error",
    "on_commit",
    "parent_id",
    "retry",
    "retry_policy",
    "task_id",
}


@Signature.register_type()
class chord(Signature[Any]):
    """A header, whose tasks run side by side, and a body, called with the list of their results.

    ``chord([add.s(i, i) for i in range(10)])(total.s())``, or ``group(...) | total.s()``. If a part of the header
    fails, the body is not run: its result is a ChordError, and its error callbacks are called.
    """

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> "chord":
        """Make a chord from its wire form."""
        more = dict(d["kwargs"])
        header, body = more.pop("header", ()), more.pop("body", None)
        made = cls(header, body, args=d.get("args"), kwargs=more, **(d.get("options") or {}))
        made.immutable = bool(d.get("immutable", False))
        return made

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Any = None,
        **options: Any,
    ) -> None:
        more = {**(kwargs or {"kwargs": {}}), "header": _header(header), "body": maybe_signature(body)}
        super().__init__(task, args, more, options, subtask_type="chord")

    @property
    def tasks(self) -> Any:
        """The header: a list of signatures, or a group once the chord is frozen."""
        return self.kwargs["header"]

    @tasks.setter
    def tasks(self, header: Any) -> None:
        self.kwargs["header"] = header

    @property
    def body(self) -> Any:
        """The signature to call with the results; None as long as there is none."""
        return self.kwargs["body"]

    @body.setter
    def body(self, body: Any) -> None:
        self.kwargs["body"] = body

    def header_tasks(self) -> "list[Signature[Any]]":
        """Return the tasks of the header."""
        return cast("list[Signature[Any]]", self.tasks.tasks if isinstance(self.tasks, group) else self.tasks)

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send the chord with this body."""
        return self.apply_async((), {"body": body} if body is not None else {}, **options)

    def __or__(self, other: Any) -> Any:
        """``chord | task``: what follows a chord follows its body."""
        if not isinstance(other, Signature):
            return NotImplemented
        steps = other.chained()
        if other.subtask_type != "chain" and len(steps) == 1 and not isinstance(steps[0], group):
            copy = self.clone()
            copy.body = copy.body | steps[0]
            return copy
        return super().__or__(other)

    def parts(self) -> int:
        """Return how many results the body contributes to a chord around this one."""
        return cast(int, self.body.parts()) if self.body is not None else 0

    # ---- calling it

    def apply_async(  # type: ignore[override]
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the header's tasks in one publish; returns the body's result, whose parent is the header's."""
        more = dict(kwargs or {})
        body = more.pop("body", None) or self.body
        if body is None:
            raise TypeError(f"{self!r} can't be sent: call it with the body, as chord(header)(body)")
        given = {name: value for name, value in options.items() if value is not None}
        if settings.TASK_ALWAYS_EAGER:
            return self._apply_with(_with_links(body, {**self.options, **given}), args, more)
        args = (*args, *self.args) if args and not self.immutable else self.args
        merged = {**self.options, **given}
        body_id = task_id or merged.get("task_id")
        body = _with_links(body, merged)
        body.options.update({name: value for name, value in merged.items() if name not in _OF_THE_CALL})
        header = self.tasks.clone() if isinstance(self.tasks, group) else group(list(self.tasks))
        group_id = header.options.get("task_id") or self.options.get("task_id") or new_id()
        return self._send(header, body, group_id, body_id, args, {**self.kwargs.get("kwargs", {}), **more}, merged)

    def _send(self, header: group, body: Any, group_id: str, body_id: str | None, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        root_id = body.options.get("root_id")
        if body.subtask_type == "chain":
            body.unroll()
        body_result = body.freeze(body_id or new_id(), group_id=group_id, root_id=root_id)
        drop_header_links(body)
        for name in ("chain", "chord", "task_id", "link", "link_error", "group_id", "group_index"):
            options.pop(name, None)
        header.options = {"task_id": group_id}
        if not header.tasks:
            header_result = GroupResult(group_id, [])
            body.apply_async(([],))
        else:
            shape = header.freeze(group_id=group_id, chord=body, root_id=root_id)
            with sending() as outbox:
                outbox.expect(group_id, header.parts(), body)
                if any(isinstance(result, GroupResult) for result in shape.results):
                    outbox.remember(group_id, shape.as_tuple())
                header.apply_async(args, kwargs, **{**options, "task_id": group_id})
            header_result = shape
        first_of(body_result).parent = header_result
        return body_result

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        propagate: bool = True,
        body: Any = None,
        **options: Any,
    ) -> Any:
        """Run the header and then the body, here and now."""
        return self._apply_with(self.body if body is None else body, args, kwargs, propagate=propagate)

    def _apply_with(self, body: Any, args: Any, kwargs: Any, *, propagate: bool = True) -> Any:
        header_result = group(list(self.header_tasks())).apply(args, kwargs)
        return body.apply((header_result.get(propagate=propagate, disable_sync_subtasks=False),))

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give header and body their ids; returns the body's result."""
        if not isinstance(self.tasks, group):
            self.tasks = group(self.tasks)
        header_result = self.tasks.freeze(parent_id=parent_id, root_id=root_id, chord=self.body)
        self.id = self.tasks.id
        if self.body is None:
            return None
        body_result = self.body.freeze(_id, root_id=root_id, chord=chord, group_id=group_id, group_index=group_index)
        first_of(body_result).parent = header_result
        return body_result

    _freeze = freeze

    # ---- changing it

    def clone(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> "chord":
        """Return a copy with its own body."""
        copy = cast(chord, super().clone(args, kwargs, **options))
        copy.body = maybe_signature(copy.body, clone=True)
        return copy

    def split(self) -> "list[Signature[Any]]":
        """Return this chord with only the first step of a body that is a chain, and then the other steps.

        Every part of the header carries the body: steps that come after it are cheaper beside the chord than in it.
        """
        body = self.body
        if body is None or body.subtask_type != "chain" or not body.tasks or isinstance(body.tasks[0], group):
            return [self]
        first, *others = body.unchain_tasks()
        copy = self.clone()
        inherited = {name: value for name, value in body.options.items() if name not in _CONSUMED_BY_CHAINS}
        copy.body = first.clone(**inherited)
        return [copy, *others]

    def set_immutable(self, immutable: bool) -> None:
        """Say whether the header's tasks take further arguments."""
        for task in self.header_tasks():
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Call ``callback`` with the body's result."""
        self.body.link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Call ``errback`` when the body fails, or can't run because a part of the header did.

        With TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER it is called for each part that fails, too.
        """
        errback = maybe_signature(errback)
        for task in self.header_tasks():
            if isinstance(task, chord) or settings.TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER:
                task.link_error(errback.clone())
        self.body.link_error(errback)
        return errback

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp the header's tasks and the body."""
        visited = None if visitor is None else visitor.on_chord_header_start(self, **headers) or {}
        stamps = self._stamps(visited, append_stamps, **headers)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self.header_tasks():
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_chord_header_end(self, **stamps)
        if self.body is not None:
            visited = None if visitor is None else visitor.on_chord_body(self, **stamps) or {}
            self.body.stamp(visitor, append_stamps, **self._stamps(visited, append_stamps, **stamps))
        return self

    def __repr__(self) -> str:
        return f"chord({list(self.header_tasks())!r}, {self.body!r})"


#: What running a chain takes from its own options; the others are its first step's.
_CONSUMED_BY_CHAINS = frozenset({"chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"})


def _header(header: Any) -> Any:
    if isinstance(header, Mapping):
        header = maybe_signature(header)
        return header.tasks if isinstance(header, group) else [header]
    return members_of((header,))


def _with_links(body: Any, options: Mapping[str, Any]) -> Any:
    """Return a copy of the body that has the chord's own links, too."""
    body = _own(body)
    for callback in listed(options.get("link")):
        body.link(_own(callback))
    for errback in listed(options.get("link_error")):
        body.link_error(_own(errback))
    return body


def _own(sig: Any) -> Any:
    copy = maybe_signature(sig, clone=True)
    if isinstance(copy, group):
        copy.tasks = [_own(task) for task in copy.tasks]
    return copy


def drop_header_links(sig: Any) -> None:
    """Take the body out of the header tasks of chords that are yet to be sent: ``chord`` holds it, and puts it back.

    Without this, nested chords would carry every body once for each task of the header.
    """
    if isinstance(sig, chord):
        for task in sig.header_tasks():
            _forget_chord(task)
            drop_header_links(task)
        drop_header_links(sig.body)
    elif isinstance(sig, Signature) and sig.subtask_type in {"group", "chain"}:
        for task in sig.kwargs["tasks"]:
            drop_header_links(task)


def _forget_chord(sig: Any) -> None:
    sig.options.pop("chord", None)
    if isinstance(sig, chord):
        if sig.body is not None:
            _forget_chord(sig.body)
    elif sig.subtask_type == "group":
        for task in sig.kwargs["tasks"]:
            _forget_chord(task)
    elif sig.subtask_type == "chain" and sig.kwargs["tasks"]:
        _forget_chord(sig.kwargs["tasks"][-1])


# ---- when all parts are done


def resolve(ready: ReadyChord) -> Followups:
    """Say what a complete chord sets off: the body with the results, or, if a part failed, its failure."""
    body = maybe_signature(ready.body)
    failed = next((part for part in ready.parts if part.status in PROPAGATE_STATES), None)
    try:
        if failed is None:
            with gathering() as outbox:
                body.apply_async((_results(ready),))
            outbox.open_chords()
            return Followups(outbox.messages)
        cause = decode(failed)
        error = ChordError(f"Dependency {failed.task_id} raised {cause!r}")
        error.__cause__ = cause if isinstance(cause, BaseException) else None
    except Exception as problem:
        logger.exception("The body of chord %s can't be called", ready.group_id)
        error = ChordError(f"Callback error: {problem!r}")
        error.__cause__ = problem
    return _failed(body, error)


def body_messages(ready: ReadyChord) -> list[TaskMessage]:
    """Return the messages of ``resolve(ready)``."""
    return list(resolve(ready).messages)


def _results(ready: ReadyChord) -> list[Any]:
    shape = result_backends.current().fetch_group(ready.group_id)
    if shape is None:
        return [decode(part) for part in ready.parts]
    values = {part.task_id: decode(part) for part in ready.parts}
    _, members = shape
    return [_shaped(member, values) for member in members]


def _shaped(node: Any, values: Mapping[str, Any]) -> Any:
    """Put values into the places of their result tuples: ``[[id, parent], None]``, or ``[[id, parent], members]``."""
    (task_id, _), members = node
    return values[task_id] if members is None else [_shaped(member, values) for member in members]


def _failed(body: Any, error: ChordError) -> Followups:
    failure = Failure(error)
    metas: list[ResultMeta] = []
    with gathering() as outbox:
        for sig in _ends(body):
            call_errbacks(listed(sig.options.get("link_error")), sig.id, sig.options.get("root_id"), error, task=sig.task)
    for sig in _all_calls(body):
        metas.extend(failed_metas([sig], failure))
    metas.extend(failed_metas(body.options.get("chain") or (), failure))
    outbox.open_chords()
    return Followups(outbox.messages, metas)


def _ends(sig: Any) -> Iterator[Any]:
    if isinstance(sig, group):
        for task in sig.tasks:
            yield from _ends(task)
    else:
        yield sig


def _all_calls(sig: Any) -> Iterator[Any]:
    """Yield every call of the body that will never be made and has an id to be waited for."""
    if isinstance(sig, group):
        for task in sig.tasks:
            yield from _all_calls(task)
    elif isinstance(sig, chord):
        yield from _all_calls(sig.body)
    elif sig.subtask_type == "chain":
        for task in sig.kwargs["tasks"]:
            yield from _all_calls(maybe_signature(task))
    else:
        yield sig
