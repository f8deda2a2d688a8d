"""``group``: tasks that run side by side."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from django_tasks.canvas.alike import send_alike
from django_tasks.canvas.dispatch import is_gathering, note_child, sending
from django_tasks.canvas.optionvalues import fit_link
from django_tasks.canvas.signatures import Signature, maybe_signature, members_of
from django_tasks.canvas.texts import shortened
from django_tasks.canvas.unmade import Unmade, batches
from django_tasks.canvas.wire import merge_options, part_of
from django_tasks.client import undisturbed
from django_tasks.conf import settings
from django_tasks.messages import new_id
from django_tasks.result import GroupResult
from django_tasks.result.family import is_result

#: Options of a group that are no member's.
_ITS_OWN = frozenset({"chord", "group_id", "group_index", "parent_id", "root_id", "task_id"})


@Signature.register_type()
class group(Signature[list[Any]]):
    """Tasks to run in parallel: ``group(add.s(i, i) for i in range(10))``.

    Calling it (or ``delay``, ``apply_async``) sends all members in one publish and returns a GroupResult; arguments
    go to every member. ``group(...) | task.s()`` is a chord. Options given are those of each member.

    A generator is asked for members while they are sent, a thousand at a time, or fewer where it is slow: the first may run before
    the last is made. If it raises, those that were sent run.
    """

    #: Position of the first member, where this is a part of a larger group.
    first_index: int = 0

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> "group":
        """Make a group from its wire form."""
        made = cls([maybe_signature(task) for task in part_of(d, "tasks")], **(d.get("options") or {}))
        made.args = tuple(d.get("args") or ())
        return made

    def __init__(self, *tasks: Any, **options: Any) -> None:
        options.pop("app", None)
        if len(tasks) == 1:
            if isinstance(tasks[0], group):
                tasks = (tasks[0].tasks,)
            elif isinstance(tasks[0], Signature):
                tasks = (tasks[0].clone(),)
        super().__init__("celery.group", (), {"tasks": members_of(tasks)}, options, subtask_type="group")

    @property
    def tasks(self) -> "list[Signature[Any]]":
        """The members."""
        return cast("list[Signature[Any]]", self.kwargs["tasks"])

    @tasks.setter
    def tasks(self, members: Iterable[Any]) -> None:
        self.kwargs["tasks"] = [maybe_signature(member) for member in members]

    def __len__(self) -> int:
        return len(self.tasks)

    def __call__(self, *partial_args: Any, **options: Any) -> Any:
        """Send the members with these arguments."""
        return self.apply_async(partial_args, **options)

    def __or__(self, other: Any) -> Any:
        """``group | task``: run the task with the list of the members' results."""
        if not isinstance(other, Signature):
            return NotImplemented
        if isinstance(other, group) and not other.tasks:
            return self
        chord: Any = self.TYPES["chord"]
        return chord(self, body=other)

    def chained(self) -> "list[Signature[Any]]":
        """Return itself, or what its only member puts into a chain."""
        return self.members()[0].chained() if len(self.tasks) == 1 else [self]

    def members(self) -> "list[Signature[Any]]":
        """Return the members to be called without the group: with its options, if it has any, in copies."""
        given = {name: value for name, value in self.options.items() if name not in _ITS_OWN and value is not None}
        return [task.clone(**given) for task in self.tasks] if given else self.tasks

    def parts(self) -> int:
        """Return how many results the members contribute to a chord."""
        return sum(task.parts() for task in self.tasks)

    def leaves(self) -> "Iterator[Signature[Any]]":
        """Return the members, with those of nested groups in their place; empty chains have nothing to run."""
        return _leaves(self.tasks)

    # ---- calling it

    def apply_async(  # type: ignore[override]
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        add_to_parent: bool = True,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> Any:
        """Send all members in one publish; returns a GroupResult. Links belong on the members, or make it a chord."""
        if link is not None or link_error is not None:
            raise TypeError("a group takes no link or link_error: use a chord, or link the members; nothing was sent")
        if settings.TASK_ALWAYS_EAGER:
            return self.apply(args, kwargs, **options)
        unmade = self.kwargs["tasks"]
        as_made = isinstance(unmade, Unmade) and unmade.is_waiting and not is_gathering()
        if not as_made and not self.tasks:
            return self.freeze()
        given = merge_options(self.options, {name: value for name, value in options.items() if value is not None})
        group_id = given.pop("task_id", None) or new_id()
        given.pop("group_index", None)
        given["group_id"] = group_id
        parts = (batch for batch, _ in batches(unmade)) if as_made else (self.tasks,)
        results: list[Any] = []
        for part in parts:
            results += _send_members(list(_leaves(part)), self.first_index + len(results), args, kwargs, given)
        result = _lone(GroupResult(group_id, results))
        if add_to_parent and results:
            note_child(result)
        return result

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the members here, one after the other; returns a GroupResult."""
        return _lone(self.run_members(args, kwargs, **options)) if self.tasks else self.freeze()

    def run_members(self, args: Any = None, kwargs: Any = None, **options: Any) -> GroupResult:
        """Run the members here; returns one result for each, even if only one is left that ends in a group itself."""
        given = merge_options(self.options, options)
        group_id = given.pop("task_id", None) or new_id()
        given["group_id"] = group_id
        return GroupResult(group_id, [task.clone().apply(args, kwargs, **given) for task in self.leaves()])

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give every member its id; returns the GroupResult."""
        options = self.options
        own_id = options.get("task_id")
        if own_id is None:
            own_id = options["task_id"] = new_id()
        if group_id:
            options["group_id"] = group_id
        if chord is not None:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        root_id = options.setdefault("root_id", root_id)
        parent_id = options.setdefault("parent_id", parent_id)
        self.tasks = [task.clone() for task in self.leaves()]
        results = [
            task.freeze(group_id=group_id, chord=chord, root_id=root_id, parent_id=parent_id, group_index=index)
            for index, task in enumerate(self.tasks, self.first_index)
        ]
        return GroupResult(own_id, results)

    _freeze = freeze

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> "group":
        """Give the members growing countdowns: start, start + step … as far as ``stop`` allows; returns the group itself."""
        countdown = start
        for task in self.tasks:
            task.set(countdown=countdown)
            if not stop or countdown + step <= stop:
                countdown += step
        return self

    # ---- changing it

    def clone(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> "group":
        """Return a copy with its own members."""
        copy = cast(group, super().clone(args, kwargs, **options))
        copy.kwargs["tasks"] = [task.clone() for task in copy.tasks]
        return copy

    def sharing(self) -> "group":
        """Return a copy that has the same members, for those who don't change them: freezing takes copies itself."""
        copy = cast(group, super().clone())
        copy.first_index = self.first_index
        return copy

    def set_immutable(self, immutable: bool) -> None:
        """Say whether the members take further arguments."""
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Call ``callback``, without arguments, when the first member succeeds. For all results use a chord."""
        if not self.tasks:
            raise ValueError("a group without members has nothing that could be followed; nothing was linked")
        return self.tasks[0].link(maybe_signature(fit_link(callback), clone=True).set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Call ``errback`` for every member that fails."""
        errback = maybe_signature(fit_link(errback))
        if self.options.get("link_error"):
            # Options of the group replace its members' when it runs.
            self.append_to_list_option("link_error", errback)
        return tuple(task.link_error(errback.clone()) for task in self.tasks)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp every member."""
        visited = None if visitor is None else visitor.on_group_start(self, **headers) or {}
        stamps = self._stamps(visited, append_stamps, **headers)
        self.stamp_links(visitor, append_stamps, **stamps)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **stamps)
        if visitor is not None:
            visitor.on_group_end(self, **stamps)
        return self

    def __repr__(self) -> str:
        return shortened(self.tasks[0]["task"], f"group({self.tasks!r})") if self.tasks else "group(<empty>)"


def _leaves(tasks: "Iterable[Signature[Any]]") -> "Iterator[Signature[Any]]":
    for task in tasks:
        if isinstance(task, group):
            yield from _leaves(task.members())
        elif not _is_empty(task):
            yield task


def _is_empty(task: Signature[Any]) -> bool:
    return task.subtask_type == "chain" and all(map(_is_empty, task.kwargs["tasks"]))


def _lone(result: Any) -> Any:
    """Return the members' result of a lone chain that ends in a group: it is what one waits for."""
    lone = result.results[0] if len(result.results) == 1 else None
    return lone if isinstance(lone, GroupResult) else result


def _send_members(members: list[Signature[Any]], first_index: int, args: Any, kwargs: Any, options: dict[str, Any]) -> list[Any]:
    if not members:
        return []
    with undisturbed(len(members)), sending():
        results = None if args or kwargs else send_alike(members, options, first_index)
        if results is None:
            results = [_send_member(task, index, args, kwargs, options) for index, task in enumerate(members, first_index)]
    return results


def _send_member(task: Signature[Any], index: int, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
    if task.subtask_type is not None:
        # A workflow inside the group: a copy gets its ids, so that what is sent is what the result stands for.
        task = task.clone()
        result = task.freeze(group_id=options["group_id"], root_id=options.get("root_id"), group_index=index)
        task.apply_async(args, kwargs, add_to_parent=False, **options)
        return result
    # The id is made here: a task class of the project's may send when the transaction commits, and return nothing.
    task_id = task.options.get("task_id") or new_id()
    sent = task.apply_async(args, kwargs, **{**options, "group_index": index, "add_to_parent": False, "task_id": task_id})
    return sent if is_result(sent) else task.AsyncResult(task_id)
