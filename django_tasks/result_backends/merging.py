"""What a later write does to what is kept already: one rule for every backend.

* SUCCESS is final.
* A state that is not ready (STARTED, RETRY, a task's own) never replaces one that is. So who has been told that a task
  failed is not told later that it runs; if it does run again, its new end counts.
* What a write doesn't know (name, arguments, worker, ...) stays as it was; the first start and the first sending stay.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from django_tasks import states
from django_tasks.result_backends.backend import ResultMeta

#: Fields that a write without them leaves alone.
KEPT: Final = (
    *("name", "args", "kwargs", "worker", "queue", "periodic_task_name", "group_id", "group_index", "root_id", "parent_id"),
    *("children", "runtime"),
)


def stays(held: str, new: str) -> bool:
    """Whether a kept state outlives a write of a new one."""
    return held == states.SUCCESS or (held in states.READY_STATES and new not in states.READY_STATES)


def merged(held: ResultMeta | None, new: ResultMeta) -> ResultMeta:
    """Return what is to be kept of a task after a write."""
    if held is None:
        return new
    if stays(held.status, new.status):
        return held
    known = {name: getattr(held, name) for name in KEPT if getattr(new, name) is None}
    started, sent = held.date_started or new.date_started, held.date_created or new.date_created
    retries = max(held.retries, new.retries)
    return replace(new, **known, date_started=started, date_created=sent, retries=retries)


def folded(metas: Iterable[ResultMeta]) -> list[ResultMeta]:
    """Make one write of a batch's several writes about one task; the order of the rest stays."""
    found: dict[str, ResultMeta] = {}
    for meta in metas:
        found[meta.task_id] = merged(found.get(meta.task_id), meta)
    return list(found.values())
