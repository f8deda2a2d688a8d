"""``chord``: a task that runs when all tasks of a group are done, with the list of their results."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain as chain_of
from typing import Any, Final, cast

from django_tasks import result_backends
from django_tasks.canvas.calls import PLUMBING, listed
from django_tasks.canvas.dispatch import is_gathering, sending
from django_tasks.canvas.groups import group
from django_tasks.canvas.optionvalues import fit_link
from django_tasks.canvas.runs import Runs, begin
from django_tasks.canvas.signatures import Signature, maybe_signature, member_of, members_of
from django_tasks.canvas.texts import chord_text
from django_tasks.canvas.unmade import Unmade, batches
from django_tasks.canvas.wire import merge_options, part_of
from django_tasks.conf import settings
from django_tasks.messages import new_id
from django_tasks.result import GroupResult
from django_tasks.result.family import family_after, first_of
from django_tasks.result_backends.backend import NewChord

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
#: More parts than a chord can have.
_UNKNOWN: Final = 1 << 30
#: Options that go to the body, or stand in the header's parts already.
_OF_THE_HEADERS_ENDS = {"chain", "chord", "group_id", "group_index", "link", "link_error", "task_id"}
#: How often and how long Celery asks whether the header is done. Parts are counted here, so nobody asks.
_OF_POLLING = {"interval", "max_retries"}
#: Options of a chain that are its last step's.
LAST_STEPS = ("chord", "group_id", "group_index", "link", "task_id")
#: What running a chain takes for itself; the other options are its first step's.
TAKEN_BY_CHAINS = (*LAST_STEPS, "link_error", "parent_id", "root_id")
#: Options of a chord that say as what its body runs, which stands for the chord.
_OF_THE_BODY = ("chord", "group_id", "group_index", "parent_id", "root_id", "task_id")


@Signature.register_type()
class chord(Signature[Any]):
    """A header, whose tasks run side by side, and a body, called with the list of their results.

    ``chord([add.s(i, i) for i in range(10)])(total.s())``, or ``group(...) | total.s()``. If a part of the header
    fails, the body is not run: its result is a ChordError, and its error callbacks are called.
    """

    #: Of a chord that was frozen here.
    runs: Runs | None = None

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> "chord":
        """Make a chord from its wire form."""
        header = part_of(d, "header")
        more = dict(d["kwargs"])
        del more["header"]
        body = more.pop("body", None)
        frozen = isinstance(header, Mapping) and (header.get("options") or {}).get("task_id")
        made = cls(() if frozen else header, body, args=d.get("args"), kwargs=more, **(d.get("options") or {}))
        if frozen:
            # Whoever sends it, and sends it again after a crash, opens the same chord.
            made.tasks = maybe_signature(header, clone=True)
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
        more = {**(kwargs or {"kwargs": {}}), "header": _header(header), "body": None if body is None else member_of(body)}
        super().__init__(task, args, more, options, subtask_type="chord")

    @property
    def tasks(self) -> Any:
        """The header: a list of signatures, or a group once the chord is frozen."""
        return self.kwargs["header"]

    @tasks.setter
    def tasks(self, header: Any) -> None:
        self.kwargs["header"] = header if isinstance(header, group) else [member_of(part) for part in header]

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

    def __length_hint__(self) -> int:
        """Return how many results the header gives to the body."""
        return sum(task.parts() for task in self.header_tasks())

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
        if settings.TASK_ALWAYS_EAGER:
            return self.apply(args, kwargs, task_id=task_id, **options)
        args, header_kwargs, body, merged = self._call(args, kwargs, options)
        body_id = task_id or merged.get("task_id")
        # The group that a frozen body counts for stays: this chord may lie in a group in the header of a chord, which has the other id.
        body.options = merge_options(body.options, {name: value for name, value in merged.items() if name not in _OF_THE_CALL})
        unmade = self.kwargs["header"]
        if isinstance(unmade, Unmade) and unmade.is_waiting and not is_gathering():
            return self._send_as_made(batches(unmade), body, body_id, args, header_kwargs, merged)
        header = self.tasks.sharing() if isinstance(self.tasks, group) else group(list(self.tasks))
        group_id = header.options.get("task_id") or self.options.get("task_id")
        if not group_id or (self.runs is not None and self.runs.is_another()):
            group_id = new_id()
        begin(body)
        return self._send(header, body, group_id, body_id, args, header_kwargs, merged)

    def _call(
        self, args: Any, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any], Any, dict[str, Any]]:
        """Return the header's arguments, a copy of the body with all its links, and the options, of a call with these ones."""
        more = {**self.kwargs.get("kwargs", {}), **(kwargs or {})}
        given_body = more.pop("body", None)
        # Not by its truth: an empty group has none.
        body = self.body if given_body is None else given_body
        if body is None:
            raise TypeError(f"{self!r} can't be sent: call it with the body, as chord(header)(body)")
        merged = {**self.options, **{name: value for name, value in options.items() if value is not None}}
        for name in _OF_POLLING & merged.keys():
            del merged[name]
        args = (*args, *self.args) if args and not self.immutable else self.args
        return args, more, _with_links(member_of(body), merged), merged

    def _send(self, header: group, body: Any, group_id: str, body_id: str | None, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        root_id = body.options.get("root_id")
        body_result = _frozen(body, body_id, group_id)
        options = {name: value for name, value in options.items() if name not in _OF_THE_HEADERS_ENDS}
        header.options = {"task_id": group_id}
        if not header.parts():
            # Empty chains and groups have nothing to run, so no part will ever be done.
            with sending():
                header_result = header.apply_async(args, kwargs, **{**options, "task_id": group_id})
                body.apply_async(([],))
        else:
            shape = header.freeze(group_id=group_id, chord=body, root_id=root_id)
            with sending() as outbox:
                nested = any(isinstance(result, GroupResult) for result in shape.results)
                outbox.expect(NewChord(group_id, header.parts(), body, part_ids(shape), shape.as_tuple() if nested else None))
                header.apply_async(args, kwargs, **{**options, "task_id": group_id})
            header_result = shape
        first_of(body_result).parent = header_result
        return body_result

    def _send_as_made(
        self, made: Iterator[tuple[list[Any], bool]], body: Any, body_id: str | None, args: Any, kwargs: Any, options: dict[str, Any]
    ) -> Any:
        batch, is_last = next(made)
        group_id = self.options.get("task_id") or new_id()
        if is_last:
            return self._send(group(batch), body, group_id, body_id, args, kwargs, options)
        begin(body)
        body_result = _frozen(body, body_id, group_id)
        options = {name: value for name, value in options.items() if name not in _OF_THE_HEADERS_ENDS}
        header_result = send_header(((batch, False), made), body, group_id, args, kwargs, options)
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
        """Run the header and then the body, here and now; returns the body's result, whose parent is the header's."""
        args, header_kwargs, body, merged = self._call(args, {**(kwargs or {}), "body": body} if body is not None else kwargs, options)
        family = {name: merged.get(name) for name in ("parent_id", "root_id")}
        header_result = group(list(self.header_tasks())).run_members(args, header_kwargs, **family)
        run = body.run_members if isinstance(body, group) and body.tasks else body.apply
        # A frozen body has its own; the frozen chord's id is its header's.
        taken = {name: merged[name] for name in _OF_THE_BODY if merged.get(name) is not None and body.options.get(name) is None}
        values = header_result.get(propagate=propagate, disable_sync_subtasks=False)
        if header_result.results:
            after = family_after(header_result)
            taken["parent_id"] = after["parent_id"]
            if body.options.get("root_id") is None:
                taken.setdefault("root_id", after["root_id"])
        result = run((values,), **taken)
        first_of(result).parent = header_result
        return result

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
        if self.tasks.id is None:
            self.runs = Runs()
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
        copy.runs = self.runs
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
        copy.body = first
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
        errback = maybe_signature(fit_link(errback))
        for task in self.header_tasks():
            # With Celery's workers an inner chord's failure is not the outer one's: there it must be heard of at the inner one.
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
        return chord_text(list(self.header_tasks()), self.body)


def send_header(made: Any, body: Any, group_id: str, args: Any, kwargs: Any, options: dict[str, Any]) -> GroupResult:
    """Send the parts of a header as they are made; returns its result.

    Until the last ones are made the chord expects more parts than there ever are. They wait for that, so that it can't be complete
    before its size is known.
    """
    first, others = made
    backend, size = result_backends.current(), 0
    results: list[Any] = []
    backend.open_chords([NewChord(group_id, _UNKNOWN, body)])
    try:
        for batch, is_last in chain_of((first,), others):
            header = group(batch)
            header.options, header.first_index = {"task_id": group_id}, len(results)
            results += header.freeze(group_id=group_id, chord=body, root_id=body.options.get("root_id")).results
            size += header.parts()
            if is_last:
                shape = GroupResult(group_id, results)
                if any(isinstance(result, GroupResult) for result in results):
                    backend.store_group(group_id, shape.as_tuple())
                backend.grow_chord(group_id, size - _UNKNOWN)
            header.apply_async(args, kwargs, **{**options, "task_id": group_id})
    except BaseException:
        # Those that were sent run, and nothing follows them.
        backend.close_chords([group_id])
        raise
    return shape


def part_ids(shape: Any) -> list[str]:
    """Return the ids of the tasks whose results are the parts, of a header's result or of one that is added to it."""
    return [task_id for each in shape.results for task_id in part_ids(each)] if isinstance(shape, GroupResult) else [shape.id]


def _frozen(body: Any, body_id: str | None, group_id: str) -> Any:
    """Give a body its ids, and take out of it what would be in it twice; returns its result."""
    if body.subtask_type == "chain":
        body.unroll()
    result = body.freeze(body_id or new_id(), group_id=group_id, root_id=body.options.get("root_id"))
    drop_header_links(body)
    return result


def _header(header: Any) -> Any:
    if (
        isinstance(header, group)
        and isinstance(header.kwargs["tasks"], Unmade)
        and not header.options
        and header.kwargs["tasks"].is_waiting
    ):
        return header.kwargs["tasks"]
    if isinstance(header, Mapping):
        header = maybe_signature(header, clone=True)
        return header.members() if isinstance(header, group) else [header]
    if not isinstance(header, Iterable):
        raise TypeError(f"a chord's header is a list of signatures, or a group; {header!r} is none")
    # As in Celery: the parts are the chord's own, to be linked and stamped; and here a task may stand for its signature.
    parts = (part.s() if hasattr(part, "s") else maybe_signature(part, clone=True) for part in header)
    return members_of((parts if isinstance(header, Iterator) else list(parts),))


def _with_links(body: Any, options: Mapping[str, Any]) -> Any:
    """Return a copy of the body that has the chord's own links, too."""
    body = maybe_signature(body, clone=True)
    for callback in listed(options.get("link")):
        body.link(maybe_signature(callback, clone=True))
    for errback in listed(options.get("link_error")):
        body.link_error(maybe_signature(errback, clone=True))
    return body


def drop_header_links(sig: Any) -> None:
    """Take the body out of the header tasks of chords that are yet to be sent: ``chord`` holds it, and puts it back.

    Without this, nested chords would carry every body once for each task of the header.
    """
    if isinstance(sig, chord):
        if isinstance(sig.tasks, group):
            sig.tasks.options.pop("chord", None)
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
