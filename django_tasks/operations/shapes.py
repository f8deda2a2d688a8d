"""What a signature will send: which tasks it begins and ends with, and what leads from which to which."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

#: Signatures in each other that are looked into: what strangers store may be deep.
_DEEPEST: Final = 50


@dataclass(slots=True)
class Shape:
    """Tasks by id, those that start first, those that end last, and the arrows between."""

    tasks: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    first: Sequence[str] = ()
    last: Sequence[str] = ()
    arrows: list[tuple[str, str]] = field(default_factory=list)

    def take(self, other: "Shape") -> None:
        """Add the tasks and arrows of another one."""
        self.tasks.update(other.tasks)
        self.groups.update(other.groups)
        self.arrows += other.arrows


def shape_of(signature: Any, depth: int = 0) -> Shape:
    """Read a wire signature: a task, or a chain, group or chord of them, in each other. Nothing in it needs to be right."""
    if not isinstance(signature, Mapping) or depth > _DEEPEST:
        return Shape()
    inside = signature.get("kwargs")
    inside = inside if isinstance(inside, Mapping) else {}
    match signature.get("task"):
        case "celery.chain":
            return _in_a_row(_shapes(inside.get("tasks"), depth))
        case "celery.group":
            return _side_by_side(_shapes(inside.get("tasks"), depth))
        case "celery.chord":
            header = inside.get("header")
            parts = _shapes(header, depth) if isinstance(header, list | tuple) else [shape_of(header, depth + 1)]
            return _in_a_row([_side_by_side(parts), shape_of(inside.get("body"), depth + 1)])
        case name:
            return _single(str(name or ""), signature.get("options"))


def _single(name: str, options: Any) -> Shape:
    options = options if isinstance(options, Mapping) else {}
    task_id = options.get("task_id")
    if not isinstance(task_id, str) or not task_id:
        return Shape()
    group_id = options.get("group_id")
    return Shape({task_id: name}, {task_id: group_id} if isinstance(group_id, str) else {}, [task_id], [task_id])


def _shapes(signatures: Any, depth: int) -> list[Shape]:
    return [shape_of(one, depth + 1) for one in signatures] if isinstance(signatures, list | tuple) else []


def _side_by_side(shapes: Iterable[Shape]) -> Shape:
    whole = Shape()
    for shape in shapes:
        whole.take(shape)
        whole.first, whole.last = [*whole.first, *shape.first], [*whole.last, *shape.last]
    return whole


def _in_a_row(shapes: Iterable[Shape]) -> Shape:
    whole = Shape()
    for shape in shapes:
        if not shape.first:
            continue
        whole.take(shape)
        whole.arrows += [(begin, end) for begin in whole.last for end in shape.first]
        whole.first, whole.last = whole.first or shape.first, shape.last
    return whole
