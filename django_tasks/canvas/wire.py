"""The wire form of a signature: typed views of its dictionary, and how options and stamps are laid over each other."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, cast

from django_tasks.canvas.calls import OPTION_NAMES, listed

#: Options that later ones never replace: a chord that lost a member's group would wait for ever.
FIXED_OPTIONS: Final = frozenset({"group_id", "stamped_headers"})


class WireForm(dict[str, Any]):
    """A dictionary with ``task``, ``args``, ``kwargs``, ``options``, ``subtask_type`` and ``immutable``.

    The views return what the dictionary holds, not copies: changes reach the message.
    """

    @property
    def task(self) -> str:
        """Name of the task."""
        return cast(str, self["task"])

    name = task

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments."""
        return cast(tuple[Any, ...], self["args"])

    @args.setter
    def args(self, value: Sequence[Any]) -> None:
        self["args"] = tuple(value)

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return cast(dict[str, Any], self["kwargs"])

    @kwargs.setter
    def kwargs(self, value: dict[str, Any]) -> None:
        self["kwargs"] = value

    @property
    def options(self) -> dict[str, Any]:
        """Calling options, as ``apply_async`` takes them."""
        return cast(dict[str, Any], self["options"])

    @options.setter
    def options(self, value: dict[str, Any]) -> None:
        self["options"] = value

    @property
    def subtask_type(self) -> str | None:
        """Kind of signature: None for a plain call, else ``chain``, ``group``, ``chord`` or a class of your own."""
        return cast("str | None", self["subtask_type"])

    @subtask_type.setter
    def subtask_type(self, value: str | None) -> None:
        self["subtask_type"] = value

    @property
    def immutable(self) -> bool:
        """Whether results of earlier tasks and arguments of ``delay`` are kept away from the task."""
        return cast(bool, self["immutable"])

    @immutable.setter
    def immutable(self, value: bool) -> None:
        self["immutable"] = value

    @property
    def id(self) -> str | None:
        """The task id, once the signature is frozen."""
        return self.options.get("task_id")

    @id.setter
    def id(self, value: str | None) -> None:
        self.options["task_id"] = value

    @property
    def root_id(self) -> str | None:
        """Id of the workflow's first task, if set."""
        return self.options.get("root_id")

    @property
    def parent_id(self) -> str | None:
        """Id of the task that sends this one, if set."""
        return self.options.get("parent_id")


def copy_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a signature's options, so that links of the copy are its own.

    A chord's body is shared: every part of the chord carries it, and nobody changes it.
    """
    return {name: value if name == "chord" or isinstance(value, str | int) else deepcopy(value) for name, value in options.items()}


def part_of(wire: Mapping[str, Any], name: str) -> Any:
    """Return one of the things that a workflow in the form of a dictionary is made of. TypeError where it is not in there."""
    try:
        return wire["kwargs"][name]
    except (KeyError, TypeError):
        raise TypeError(
            f"a signature of the kind {wire.get('subtask_type')!r}, in the form of a dictionary, has {name!r} among its 'kwargs';"
            f" this has none: {dict(wire)!r:.200}"
        ) from None


def merge_options(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the options of a call over a signature's own; what chords and stamps depend on stays."""
    if not own:
        return dict(given)
    fixed = FIXED_OPTIONS.union(own.get("stamped_headers") or ()) if "stamped_headers" in own else FIXED_OPTIONS
    return {**own, **{name: value for name, value in given.items() if name not in fixed or name not in own}}


def only_stamps(marks: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a visitor returned beside its stamps: no call could be made with it."""
    stamped = marks["stamped_headers"]
    return {name: value for name, value in marks.items() if name in stamped or name in OPTION_NAMES}


def merge_stamps(stamps: Mapping[str, Any], more: Mapping[str, Any] | None, *, append: bool) -> dict[str, Any]:
    """Join two sets of stamps: what both have becomes a list of both with ``append``, else the later one counts."""
    merged = dict(stamps)
    names = list(merged.setdefault("stamped_headers", list(merged)))
    if more:
        names += more.get("stamped_headers") or [name for name in more if name != "stamped_headers"]
    for name, value in (more or {}).items():
        if name == "stamped_headers":
            continue
        if append and name in merged and merged[name] != value:
            merged[name] = [*listed(merged[name]), *listed(value)]
        else:
            merged[name] = value
    merged["stamped_headers"] = sorted(set(names))
    return merged
