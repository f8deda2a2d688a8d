"""How far a running task has come, as it says in its state: ``Task.progress``, and the forms that Celery's users know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django_tasks import states
from django_tasks.operations.texts import encodable

#: Names of the same things: ours, those of Celery's guide (``meta={"current": 3, "total": 10}``), and celery-progress's.
_DONE: Final = ("done", "current")
_MESSAGE: Final = ("message", "description")
_CELERYS: Final = states.ALL_STATES | {states.REJECTED, states.IGNORED}


@dataclass(frozen=True, slots=True)
class Progress:
    """So much of a total, and what is being done. ``total`` is None where the end isn't known."""

    done: float
    total: float | None = None
    message: str = ""

    @property
    def share(self) -> float | None:
        """From 0 to 1; None without a total."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None


def progress_of(status: str, value: Any) -> Progress | None:
    """Read what a task stored with a state of its own; None for Celery's states, and for what says nothing of this."""
    if status in _CELERYS or not isinstance(value, Mapping):
        return None
    done, total = _first(value, _DONE), value.get("total")
    try:
        return Progress(float(done), None if total is None else float(total), encodable(str(_first(value, _MESSAGE) or "")))
    except (OverflowError, TypeError, ValueError):
        return None


def _first(value: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((value[name] for name in names if name in value), None)
