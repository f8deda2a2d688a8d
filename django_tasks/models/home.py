"""Where rows are read: where they are written, whatever a router says of reading.

A replica lags. A worker that asked it would hear of a revocation late, see a queue as it was before it was paused, and count
itself as not there.
"""

from functools import cache
from typing import TypeVar

from django.db import models, router

from django_tasks import urls
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured

M = TypeVar("M", bound=models.Model)


class OwnRows(models.Manager[M]):
    """Reads from the database to which the router sends this model's writes; ``using`` chooses another one."""

    def home(self) -> str:
        """Name the database of these rows."""
        alias: str = router.db_for_write(self.model)
        return alias

    def get_queryset(self) -> "models.QuerySet[M]":
        """Return all rows, of the database that was asked for or of their home."""
        rows = super().get_queryset()
        return rows if self._db else rows.using(self.home())


class ResultRows(OwnRows[M]):
    """The same for rows that the database result backend writes: into the database that RESULT_BACKEND names."""

    def home(self) -> str:
        """Name the database of RESULT_BACKEND; with results elsewhere, the router's."""
        return _named(settings.RESULT_BACKEND) or super().home()


def _named(results: object) -> str | None:
    return _alias(results) if isinstance(results, str) else None


@cache
def _alias(text: str) -> str | None:
    try:
        url = urls.parse(text)
    except ImproperlyConfigured:
        # A system check says so, and each use of the results.
        return None
    return url.alias if url.scheme == "db" else None
