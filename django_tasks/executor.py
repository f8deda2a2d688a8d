"""Runs one task and says what happened, as data: never raises, writes nothing, opens no connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django_tasks.context import Request
from django_tasks.messages import Settlement, TaskMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one run.

    ``value`` is the return value, or the exception of FAILURE, RETRY and REVOKED. ``result`` is that value
    encoded for the result backend, with ``content_type`` and ``content_encoding``. ``followups`` leave with the
    outcome: callbacks, the next step of a chain, a retry. ``settlement`` is None for the usual: acknowledge.
    ``runtime`` is in seconds.
    """

    request: Request
    state: str
    value: Any = None
    traceback: str | None = None
    runtime: float = 0.0
    started_at: float | None = None
    result: str | None = None
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    followups: Sequence[TaskMessage] = ()
    settlement: Settlement | None = None
    store: bool = True
