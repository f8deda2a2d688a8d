"""What the database says of revoked tasks and stamps."""

import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

from django.db import Error as DatabaseError
from django.db.models import Count, Max

from django_tasks import clock
from django_tasks.models import Revocation, RevokedStamp
from django_tasks.worker.revoked import REMEMBERED, RevokedStamps, RevokedTasks

logger = logging.getLogger("django_tasks.worker")

#: Rows of revoked tasks that a node reads at once.
CHUNK: Final = 500
#: Seconds for which a node looks for rows with smaller numbers than those it knows.
LONGEST_TRANSACTION: Final = 600.0
#: Most stamps that count, the latest ones: each process keeps them all.
MOST: Final = 10_000


def learn_revocations(revoked: RevokedTasks) -> None:
    """Let a process know what was revoked before the worker started, unless it does; what is revoked later its node reports."""
    if revoked.complete:
        return
    try:
        latest = Revocation.objects.order_by("-id").values_list("task_id", "id")[:REMEMBERED]
        revoked.add(dict(list(latest)[::-1]))
        revoked.stamps = RevokedStamps((name, value) for _, name, value, _ in _rows())
    except DatabaseError as error:
        logger.error("The revocations can't be read yet; the node will tell them: %s", error)  # noqa: TRY400
    else:
        revoked.complete = True


def _rows() -> list[tuple[int, str, str, bool]]:
    return list(RevokedStamp.objects.order_by("-id").values_list("id", "name", "value", "terminate")[:MOST])


class RevocationWatch:
    """Gives a node the rows of revoked tasks that are new to it, a chunk at a time, the latest first.

    Numbers alone don't tell: a row of a long transaction comes after rows with larger ones. So a number counts as past only when it
    has been known for ``LONGEST_TRANSACTION``.
    """

    def __init__(self) -> None:
        self._past = 0
        self._known: dict[int, float] = {}
        self._seen: Mapping[str, Any] = {}

    def look(self) -> list[tuple[int, str, bool, str]]:
        """Return number, task id, whether to stop it, and the signal of what is new."""
        now = clock.monotonic()
        self._let_pass(now - LONGEST_TRANSACTION)
        rows = Revocation.objects.filter(id__gt=self._past)
        seen = rows.aggregate(count=Count("id"), last=Max("id"))
        if seen == self._seen:
            return []
        # Whoever revokes a task now must not wait until all that was revoked before this node began has been told.
        latest = rows.order_by("-id").values_list("id", flat=True)[:REMEMBERED]
        new = [number for number in latest if number not in self._known]
        if len(new) <= CHUNK:
            self._seen = seen
        found = list(Revocation.objects.filter(id__in=new[:CHUNK]).order_by("id").values_list("id", "task_id", "terminate", "signal"))
        self._known.update((row[0], now) for row in found)
        return found

    def _let_pass(self, before: float) -> None:
        past = [number for number, since in self._known.items() if since < before]
        if past:
            self._past = max(past)
            self._known = {number: since for number, since in self._known.items() if number > self._past}


class StampWatch:
    """Notices, for a node, which rows have come and which have gone."""

    def __init__(self) -> None:
        self._seen: Mapping[str, Any] = {"count": 0, "last": None}
        self._known: Collection[int] = frozenset()

    def look(self) -> dict[str, Any] | None:
        """Return the command for this node's processes, or None if nothing is new: all stamps, and which running tasks to stop."""
        seen = RevokedStamp.objects.aggregate(count=Count("id"), last=Max("id"))
        if seen == self._seen:
            return None
        rows = _rows()
        # Not by their numbers alone: a row of a long transaction may come after one with a larger number.
        stopping = [(name, value) for number, name, value, terminate in rows if terminate and number not in self._known]
        self._seen, self._known = seen, frozenset(row[0] for row in rows)
        return {"do": "revoked_stamps", "stamps": [(name, value) for _, name, value, _ in rows], "stop": stopping}
