"""What a case of the tables is, and how its outcome is had from an engine."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

#: Seconds that any one answer may take.
PATIENCE = float(os.environ.get("WORKFLOW_PATIENCE", "50"))

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Case:
    """A workflow and its outcome: a value, or the text of an exception."""

    name: str
    run: Callable[[SimpleNamespace], Any]
    expected: Any

    def outcome(self, engine: SimpleNamespace) -> Any:
        """Run it. A signature that it returns is sent, a result waited for; ids in texts become ``ID``."""
        try:
            found = self.run(engine)
            if isinstance(found, dict) and "subtask_type" in found:
                found = found.apply_async()
            return plain(value_of(found))
        except Exception as error:
            return failure(error)


class Table(list[Case]):
    """Cases; ``@table.gives(7)`` enters a function as one."""

    def gives(self, expected: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Enter the decorated function, whose name is the case's, with what must come of it."""

        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            self.append(Case(function.__name__.replace("_", " "), function, expected))
            return function

        return enter


def value_of(found: Any) -> Any:
    """Wait for a result; anything else is a value already."""
    return found.get(timeout=PATIENCE) if hasattr(found, "get") and hasattr(found, "id") else found


def failure(error: BaseException) -> str:
    """An exception as text."""
    return plain(f"{type(error).__name__}: {error}")


def outcome_of(result: Any) -> Any:
    """Wait for a result; its value, or its exception as text."""
    try:
        return plain(value_of(result))
    except Exception as error:
        return failure(error)


def plain(value: Any) -> Any:
    """Replace ids in texts."""
    return _ID.sub("ID", value) if isinstance(value, str) else value
