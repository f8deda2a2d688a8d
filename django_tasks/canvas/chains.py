"""``chain``: tasks one after the other, each with the result of the one before."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any, cast

from django_tasks import result_backends
from django_tasks.canvas.calls import listed
from django_tasks.canvas.chords import LAST_STEPS, TAKEN_BY_CHAINS, chord, drop_header_links
from django_tasks.canvas.groups import group
from django_tasks.canvas.runs import begin
from django_tasks.canvas.signatures import Signature, maybe_signature, members_of
from django_tasks.canvas.texts import shortened
from django_tasks.canvas.wire import part_of
from django_tasks.conf import settings
from django_tasks.result.family import family_after, first_of, is_result
from django_tasks.states import IGNORED, REJECTED


@Signature.register_type()
class chain(Signature[Any]):
    """Steps to run one after the other: ``chain(a.s(1), b.s(), c.s())``, the same as ``a.s(1) | b.s() | c.s()``.

    Sending it returns the result of the last step; ``parent`` leads to the earlier ones. A group inside a chain
    becomes a chord with the step after it. ``chain(group(...), ...)`` is what ``|`` makes of it: a chord or a group.
    """

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        """Fold the steps as ``|`` does; the outcome may be something else than a chain."""
        options.pop("app", None)
        if options or not tasks or (len(tasks) == 1 and isinstance(tasks[0], Mapping)):
            return super().__new__(cls)
        folded = _fold(members_of(tasks))
        if not isinstance(folded, list):
            return folded
        made = super().__new__(cls)
        made.__dict__["_folded"] = folded
        return made

    def __init__(self, *tasks: Any, **options: Any) -> None:
        options.pop("app", None)
        folded = self.__dict__.pop("_folded", None)
        if folded is None:
            folded = members_of(tasks)
        super().__init__("celery.chain", (), {"tasks": folded}, options, subtask_type="chain")

    @classmethod
    def of(cls, tasks: Iterable[Any], **options: Any) -> "chain":
        """Make a chain of exactly these steps."""
        made = dict.__new__(cls)
        made.__dict__["_folded"] = [maybe_signature(task) for task in tasks]
        made.__init__(**options)  # type: ignore[misc]
        return made

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> "chain":
        """Make a chain from its wire form."""
        made = cls.of(part_of(d, "tasks"), **(d.get("options") or {}))
        made.args = tuple(d.get("args") or ())
        made.immutable = bool(d.get("immutable", False))
        return made

    @property
    def tasks(self) -> "list[Signature[Any]]":
        """The steps."""
        return cast("list[Signature[Any]]", self.kwargs["tasks"])

    @tasks.setter
    def tasks(self, steps: Iterable[Any]) -> None:
        self.kwargs["tasks"] = [maybe_signature(step) for step in steps]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send the chain; these arguments go to its first step."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def __or__(self, other: Any) -> Any:
        """``chain | task``: one more step."""
        if not isinstance(other, Signature):
            return NotImplemented
        if isinstance(other, group) and not other.tasks:
            return self
        folded = _fold(other.chained() if isinstance(other, chain) else [other], self.unchain_tasks())
        return type(self).of(folded) if isinstance(folded, list) else folded

    def chained(self) -> "list[Signature[Any]]":
        """Return copies of the steps, with the chain's links on them."""
        return self.unchain_tasks()

    def unchain_tasks(self) -> "list[Signature[Any]]":
        """Return copies of the steps: the last has the chain's callbacks, all its error callbacks, the first its other options."""
        steps = [task.clone() for task in self.tasks]
        given = {name: value for name, value in self.options.items() if name not in TAKEN_BY_CHAINS and value is not None}
        if steps and given:
            steps[0] = steps[0].clone(**given)
        for callback in listed(self.options.get("link")) if steps else ():
            steps[-1].link(callback)
        for errback in listed(self.options.get("link_error")):
            for step in steps:
                step.link_error(errback)
        return steps

    def parts(self) -> int:
        """Return how many results the chain contributes to a chord: those of its last step that has any."""
        return next((count for count in (task.parts() for task in reversed(self.tasks)) if count), 0)

    def clone(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> "chain":
        """Return a copy with its own steps."""
        copy = cast(chain, super().clone(args, kwargs, **options))
        copy.tasks = [task.clone() for task in copy.tasks]
        return copy

    def unroll(self) -> None:
        """Put what follows a chord's body beside the chord, in this copy that is about to be sent."""
        self.tasks = list(_flattened(self.tasks, copies=True))

    # ---- calling it

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: str | None = None, **options: Any) -> Any:
        """Send the first step, which carries the others; returns the last step's result."""
        if settings.TASK_ALWAYS_EAGER:
            return self.apply(args, kwargs, **options)
        given = {**self.options, **{name: value for name, value in options.items() if value is not None}}
        taken = {name: given.pop(name, None) for name in TAKEN_BY_CHAINS}
        args = (*args, *self.args) if args and not self.immutable else self.args
        steps, results = self._prepared(args, kwargs, taken, copies=True)
        if not steps:
            return None
        if any(map(_counts, steps[1:])):
            # Here, and not in a worker when its turn has come.
            result_backends.current().check_chords()
        for callback in listed(taken["link"]):
            steps[-1].append_to_list_option("link", callback)
        rest = [*(given.pop("chain", None) or ()), *reversed(steps[1:])]
        if taken["parent_id"]:
            given["parent_id"] = taken["parent_id"]
        sent = steps[0].apply_async(chain=rest or None, **given)
        return sent if len(steps) == 1 and is_result(sent) else results[-1]

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run the steps here, one after the other; returns the last one's EagerResult."""
        given = {name: value for name, value in {**self.options, **options}.items() if value is not None}
        last = {name: given.pop(name) for name in LAST_STEPS if name in given}
        errbacks = listed(given.pop("link_error", None))
        steps = [_with_errbacks(step, errbacks) for step in _flattened(self.tasks, copies=True)]
        for callback in listed(last.pop("link", None)) if steps else ():
            steps[-1].append_to_list_option("link", callback)
        result: Any = None
        partial = (args, kwargs)
        for left, step in zip(reversed(range(len(steps))), steps, strict=True):
            previous, result = result, step.apply(*partial, **(given if left else {**given, **last}))
            first_of(result).parent = previous
            if getattr(result, "state", None) in (IGNORED, REJECTED):
                break
            if left:
                partial = ((result.get(disable_sync_subtasks=False),), None)
                given.update(family_after(result))
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
        """Give every step its id; returns the last step's result."""
        taken = {"chord": chord, "group_id": group_id, "group_index": group_index, "root_id": root_id, "task_id": _id}
        self.tasks, results = self._prepared(self.args, {}, taken, copies=False)
        self.args = ()
        if not results:
            raise ValueError("an empty chain has no result, so it can't be frozen")
        self.id = results[-1].id
        return results[-1]

    _freeze = freeze

    def _prepared(self, args: Any, kwargs: Any, taken: Mapping[str, Any], *, copies: bool) -> tuple[list[Any], list[Any]]:
        """Return the steps as they will be sent, frozen, and their results, each the parent of the next."""
        steps = _upgraded(list(_distinct(_flattened(self.tasks, copies=copies))))
        if not steps:
            return [], []
        if args or kwargs:
            steps[0].args, steps[0].kwargs, _ = steps[0].merged(args, kwargs)
        if copies:
            # The first is sent by itself, and begins its run then.
            for step in steps[1:]:
                begin(step)
        if errbacks := listed(taken.get("link_error")):
            steps = [_with_errbacks(step, errbacks) for step in steps]
        results = [step.freeze(root_id=taken.get("root_id")) for step in steps[:-1]]
        results.append(
            steps[-1].freeze(
                taken.get("task_id"),
                root_id=taken.get("root_id"),
                group_id=taken.get("group_id"),
                chord=taken.get("chord"),
                group_index=taken.get("group_index"),
            )
        )
        for previous, result in pairwise(results):
            first_of(result).parent = previous
        if copies:
            for step in steps:
                drop_header_links(step)
        return steps, results

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp every step."""
        visited = None if visitor is None else visitor.on_chain_start(self, **headers) or {}
        stamps = self._stamps(visited, append_stamps, **headers)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_chain_end(self, **stamps)
        return self

    def __repr__(self) -> str:
        return shortened(self.tasks[0]["task"], " | ".join(map(repr, self.tasks))) if self.tasks else "chain(<empty>)"


def _fold(tasks: Sequence[Signature[Any]], steps: list[Signature[Any]] | None = None) -> Any:
    """Add steps to a chain's as ``|`` does: a list of steps, or the group or chord that a leading group turns into."""
    steps = [] if steps is None else steps
    for position, task in enumerate(tasks):
        for index, step in enumerate(inner := task.chained()):
            if isinstance(step, group):
                if not step.tasks:
                    continue
                if not steps:
                    # A leading group composes with what follows by its own rules.
                    return reduce(or_, [*inner[index + 1 :], *tasks[position + 1 :]], step)
            _add_step(steps, step)
    return steps


def _add_step(steps: list[Signature[Any]], step: Signature[Any]) -> None:
    last = steps[-1] if steps else None
    if isinstance(last, group) and not isinstance(step, group):
        steps[-1] = chord(last, step)
    elif isinstance(last, chord) and not isinstance(step, chord):
        # What follows a chord follows its body. The chord may be the caller's: change a copy.
        steps[-1] = longer = last.clone()
        longer.body = longer.body | step
    else:
        steps.append(step)


def _with_errbacks(step: Signature[Any], errbacks: Iterable[Any]) -> Signature[Any]:
    # A group's members may have error callbacks of their own, which an option of the group would replace.
    by_parts = isinstance(step, group) or (isinstance(step, chord) and settings.TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER)
    if by_parts:
        step = step.clone()
    for errback in errbacks:
        if by_parts:
            step.link_error(errback)
        else:
            step.append_to_list_option("link_error", errback)
    return step


def _flattened(tasks: Iterable[Any], *, copies: bool) -> Iterator[Signature[Any]]:
    """Yield the steps to send: nested chains spliced, lone members for their groups, empty groups left out."""
    found = list(_spliced(tasks, copies=copies))
    steps = [step for step in found if not (isinstance(step, group) and not step.tasks)]
    return iter(steps or found[:1])


def _distinct(steps: Iterable[Signature[Any]]) -> Iterator[Signature[Any]]:
    """Yield the steps, each an object of its own, since it gets an id of its own: ``chain(step, step)``."""
    seen: set[int] = set()
    for step in steps:
        yield step.clone() if id(step) in seen else step
        seen.add(id(step))


def _spliced(tasks: Iterable[Any], *, copies: bool) -> Iterator[Signature[Any]]:
    for task in tasks:
        step = task.sharing() if copies and isinstance(task, group) else maybe_signature(task, clone=copies)
        if isinstance(step, group) and len(step.tasks) == 1:
            step = step.members()[0].clone() if copies else step.members()[0]
        if isinstance(step, chain):
            yield from _spliced(step.unchain_tasks() if copies else step.tasks, copies=copies)
        elif isinstance(step, chord) and copies:
            yield from step.split()
        else:
            yield step


def _counts(sig: Any) -> bool:
    """Whether there is a chord in it."""
    return isinstance(sig, chord) or (sig.subtask_type in {"chain", "group"} and any(map(_counts, sig.tasks)))


def _upgraded(steps: list[Signature[Any]]) -> list[Signature[Any]]:
    """Make each group that has a step after it the header of a chord with that step; so, too, a chord that ends in a group."""
    done: list[Signature[Any]] = []
    for step in reversed(steps):
        if done and _ends_in_group(step):
            done[-1] = _joined(step, done[-1])
        else:
            done.append(step)
    return done[::-1]


def _ends_in_group(step: Any) -> bool:
    if isinstance(step, chord):
        return _ends_in_group(step.body)
    if isinstance(step, chain):
        return bool(step.tasks) and _ends_in_group(step.tasks[-1])
    return isinstance(step, group)


def _joined(step: Any, following: Signature[Any]) -> Signature[Any]:
    """Return what gives the values of a step's last group to the step that follows, as a list."""
    if isinstance(step, group):
        return chord(step, following)
    if isinstance(step, chain):
        return chain.of([*step.tasks, following], **step.options)
    longer = step.clone()
    longer.body = _joined(step.body, following)
    return cast("Signature[Any]", longer)
