"""How often a message has been started before, and what ended it: rows for what RabbitMQ does not tell.

RabbitMQ says of a message that came back only that it did. So every redelivery is counted in a row of its task, until the
message is settled. What nobody started (given back unread) is counted back. A row may be lost to a database that is away:
then a message counts as started once.
"""

import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

from django.db import Error as DatabaseError
from django.db import connections, router
from django.db.models import F

from django_tasks import clock
from django_tasks.dbaccess import close_if_broken
from django_tasks.messages import Death

logger = logging.getLogger("django_tasks.brokers")

#: Keys a statement.
_BATCH: Final = 500
#: After this long a row tells of a message that is gone.
_KEPT: Final = timedelta(days=7)
#: One in so many writes removes old rows.
_TIDYING: Final = 50

R = TypeVar("R")


class Redeliveries:
    """The rows. Database errors are logged and never raised: messages go on."""

    def explained(self, keys: Collection[str]) -> set[str]:
        """Return those whose row says already what happened: how the process died, or that nobody had started them."""

        def ask() -> set[str]:
            rows = _rows(keys).filter(starts__lt=0) | _rows(keys).exclude(cause="")
            return set(rows.values_list("task_id", flat=True))

        return self._safely("be asked", ask, set())

    def count(self, keys: Sequence[str]) -> dict[str, tuple[int, Death | None]]:
        """Count one more start of each; return how often each has been started again, and how the last one ended."""

        def write() -> dict[str, tuple[int, Death | None]]:
            found: dict[str, tuple[int, Death | None]] = {}
            for part in _parts(keys):
                self._add(part, 1)
                for row in _rows(part):
                    found[row.task_id] = (row.starts, Death(row.cause, row.how) if row.cause else None)
                told = [key for key in part if key in found and found[key][1] is not None]
                if told:
                    # What ended this start; the next one may end in another way.
                    _rows(told).update(cause="", how="")
            return found

        return self._safely("be counted", write, {})

    def count_back(self, keys: Sequence[str]) -> None:
        """Take one start back of each: they go back to the queue without having been started."""

        def write() -> None:
            for part in _parts(keys):
                self._add(part, -1)

        self._safely("be counted back", write, None)

    def forget(self, keys: Sequence[str]) -> None:
        """Delete the rows of what has been settled."""

        def write() -> None:
            for part in _parts(keys):
                _rows(part).delete()

        self._safely("be deleted", write, None)

    def remember(self, deaths: Mapping[str, Death]) -> None:
        """Write down how the processes died that ran these."""
        from django_tasks.models import Redelivery

        def write() -> None:
            now = clock.now()
            rows = [
                Redelivery(task_id=key, cause=death.cause[:32], how=death.how[:255], updated_at=now) for key, death in deaths.items() if key
            ]
            unique: dict[str, Any] = {} if _is_mysql() else {"unique_fields": ["task_id"]}
            Redelivery.objects.bulk_create(
                rows, batch_size=_BATCH, update_conflicts=True, update_fields=["cause", "how", "updated_at"], **unique
            )

        self._safely("be written", write, None)

    def _add(self, keys: Sequence[str], number: int) -> None:
        from django_tasks.models import Redelivery

        now = clock.now()
        Redelivery.objects.bulk_create([Redelivery(task_id=key, starts=0, updated_at=now) for key in sorted(keys)], ignore_conflicts=True)
        _rows(keys).update(starts=F("starts") + number, updated_at=now)
        if random.random() * _TIDYING < 1:
            Redelivery.objects.filter(updated_at__lt=now - _KEPT).delete()

    @staticmethod
    def _safely(what: str, work: Callable[[], R], otherwise: R) -> R:
        try:
            return work()
        except DatabaseError as error:
            logger.error("Redeliveries can't %s; messages that come again count as started once: %s", what, error)  # noqa: TRY400
            close_if_broken(connections[_alias()])
            return otherwise


def _rows(keys: Iterable[str]) -> Any:
    from django_tasks.models import Redelivery

    return Redelivery.objects.filter(task_id__in=list(keys))


def _parts(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH))


def _alias() -> str:
    from django_tasks.models import Redelivery

    alias: str = router.db_for_write(Redelivery)
    return alias


def _is_mysql() -> bool:
    return connections[_alias()].vendor == "mysql"
