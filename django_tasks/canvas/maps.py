"""``xmap``, ``xstarmap`` and ``chunks``: one task for many items."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

from django_tasks.canvas.groups import group
from django_tasks.canvas.signatures import Signature, maybe_signature, member_of, signature
from django_tasks.canvas.wire import copy_options, merge_options, part_of


class OverItems(Signature[list[Any]]):
    """A task, and a list of what it is to be called with."""

    def clone(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> "OverItems":
        """Return a copy of the same kind, with more options if given; the items are all its arguments."""
        copy = type(self).__new__(type(self))
        merged = merge_options(self.options, options) if options else self.options
        dict.update(copy, self, kwargs={**self.kwargs, "task": signature(self.kwargs["task"])}, options=copy_options(merged))
        return copy


class Mapped(OverItems):
    """A task and the items it is to be called with, in one message."""

    task_name: ClassVar[str]

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> "Mapped":
        """Make it from its wire form."""
        return cls(part_of(d, "task"), part_of(d, "it"), **(d.get("options") or {}))

    def __init__(self, task: Any, it: Iterable[Any], **options: Any) -> None:
        options.pop("app", None)
        items = {"task": member_of(task), "it": list(it)}
        super().__init__(self.task_name, (), items, options, immutable=True)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, route_name: str | None = None, **options: Any
    ) -> Any:
        """Send it; where the inner task has a queue or priority of its own, it goes there."""
        given = {name: value for name, value in options.items() if value is not None}
        return super().apply_async((), {}, **{**self._routing(), **self.options, **given})

    def freeze(self, *args: Any, **kwargs: Any) -> Any:
        """Give it its id; and the inner task's queue, as a worker sends it on that knows it as ``celery.map`` only."""
        self.options = {**self._routing(), **self.options}
        return super().freeze(*args, **kwargs)

    _freeze = freeze

    def _routing(self) -> dict[str, Any]:
        inner = maybe_signature(self.kwargs["task"]).find_task()
        return {} if inner is None else inner.routing_options()


@Signature.register_type()
class xmap(Mapped):
    """``task.map(items)``: call the task with each item, one after the other in one process."""

    task_name = "celery.map"

    def __repr__(self) -> str:
        return f"[{self.kwargs['task']['task']}(x) for x in {self.kwargs['it']!r:.100}]"


@Signature.register_type()
class xstarmap(Mapped):
    """``task.starmap(items)``: call the task with each item's elements as arguments, in one process."""

    task_name = "celery.starmap"

    def __repr__(self) -> str:
        return f"[{self.kwargs['task']['task']}(*x) for x in {self.kwargs['it']!r:.100}]"


@Signature.register_type()
class chunks(OverItems):
    """``task.chunks(items, n)``: a group of starmaps, each over ``n`` items. Fewer, larger messages."""

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> "chunks":
        """Make it from its wire form."""
        return cls(part_of(d, "task"), part_of(d, "it"), part_of(d, "n"), **(d.get("options") or {}))

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: Any = None) -> Any:
        """Send the chunks; returns their GroupResult."""
        return cls(task, it, n)()

    def __init__(self, task: Any, it: Iterable[Any], n: int, **options: Any) -> None:
        options.pop("app", None)
        size: Any = n  # what callers give is not always what they should
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"chunks of {n!r} items can't be made; n must be a whole number, 1 or more")
        items = {"task": member_of(task), "it": list(it), "n": n}
        super().__init__("celery.chunks", (), items, options, immutable=True)

    def __call__(self, **options: Any) -> Any:
        """Send the chunks; returns their GroupResult."""
        return self.apply_async(**options)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, route_name: str | None = None, **options: Any
    ) -> Any:
        """Send the chunks, in one publish; returns their GroupResult."""
        return self.group().apply_async((), {}, **{**self.options, **options})

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the chunks here; returns their GroupResult."""
        return self.group().apply((), {}, **{**self.options, **options})

    def group(self) -> group:
        """Return the group of starmaps."""
        items = iter(self.kwargs["it"])
        return group(xstarmap(self.kwargs["task"], part) for part in iter(lambda: list(islice(items, self.kwargs["n"])), []))

    def freeze(self, *args: Any, **kwargs: Any) -> Any:
        """Raise ValueError: chunks are many tasks, and no result is theirs alone."""
        raise ValueError("chunks can't be frozen, as they are many tasks; freeze the group that they are: chunks.group()")

    _freeze = freeze

    def as_part(self) -> Signature[Any]:
        """Return the group of starmaps, each with the options of the chunks: what follows them gets the list of their results."""
        members = self.group()
        for member in members.tasks:
            member.set(**{name: value for name, value in self.options.items() if name != "task_id"})
        return members

    def chained(self) -> list[Signature[Any]]:
        """Return the group, as which they lie in a chain."""
        return self.as_part().chained()

    def __or__(self, other: Any) -> Any:
        """``chunks | task``: run the task with the list of the chunks' results."""
        return self.as_part() | other if isinstance(other, Signature) else NotImplemented
