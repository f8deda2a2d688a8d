"""How signatures look as text: as the calls they are, with a module named once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def call_text(name: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as text: ``shop.tasks.add(2, y=3)``."""
    shown = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"


def shortened(name: str, text: str) -> str:
    """Leave the module of a task's name out of a text where it comes again."""
    module, dot, _ = name.rpartition(".")
    before, found, after = text.partition(module + dot) if module else (text, "", "")
    return before + found + after.replace(module + dot, "") if found else text


def chord_text(header: Sequence[Any], body: Any) -> str:
    """Return a chord as Celery shows it: ``%``, and the body as it is called with the header."""
    if body is None:
        return f"<chord without body: {header!r}>"
    if body.subtask_type == "chain" and body.tasks:
        first, *others = body.tasks
        return shortened(first["task"], f"%({' | '.join([first.reprcall(header), *map(repr, others)])})")
    return shortened(body["task"], f"%{body.reprcall(header)}")
