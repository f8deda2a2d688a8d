"""What else is kept of a task, beside its state and its value."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.documents import stamps_beside
from django_tasks.serializers import loads_json

#: Fields of Celery's document that only RESULT_EXTENDED and workflows bring.
_SOMETIMES: Final = ("name", "worker", "queue", "retries", "group_id", "parent_id", "root_id")


def extension(meta: ResultMeta) -> dict[str, Any]:
    """Return what is known beyond the state and the value, as it lies in Celery's document: stamps under their own names."""
    known = {name: value for name in _SOMETIMES if (value := getattr(meta, name)) is not None}
    known.update({name: loads_json(text) for name in ("args", "kwargs") if (text := getattr(meta, name)) is not None})
    return {**known, **stamps_beside(meta.stamps or {})}


class Details:
    """The part of ``AsyncResult`` that reads single details. None stands for what is not known (yet)."""

    _name: str | None

    def _fetch(self) -> ResultMeta | None:
        raise NotImplementedError

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task."""
        return None if (meta := self._fetch()) is None else meta.traceback

    @property
    def name(self) -> str | None:
        """The task's name (with RESULT_EXTENDED)."""
        if self._name is not None:
            return self._name
        return None if (meta := self._fetch()) is None else meta.name

    @property
    def args(self) -> Any:
        """The positional arguments (with RESULT_EXTENDED)."""
        meta = self._fetch()
        return None if meta is None or meta.args is None else loads_json(meta.args)

    @property
    def kwargs(self) -> Any:
        """The keyword arguments (with RESULT_EXTENDED)."""
        meta = self._fetch()
        return None if meta is None or meta.kwargs is None else loads_json(meta.kwargs)

    @property
    def stamps(self) -> Mapping[str, Any]:
        """The stamps that the task was sent with (with RESULT_EXTENDED)."""
        return {} if (meta := self._fetch()) is None else meta.stamps or {}

    @property
    def worker(self) -> str | None:
        """The worker that ran it."""
        return None if (meta := self._fetch()) is None else meta.worker

    @property
    def queue(self) -> str | None:
        """The queue that it came from."""
        return None if (meta := self._fetch()) is None else meta.queue

    @property
    def retries(self) -> int | None:
        """How often it was retried."""
        return None if (meta := self._fetch()) is None else meta.retries

    @property
    def date_done(self) -> datetime | None:
        """When it became ready."""
        return None if (meta := self._fetch()) is None else meta.date_done

    @property
    def date_started(self) -> datetime | None:
        """When it first started."""
        return None if (meta := self._fetch()) is None else meta.date_started

    @property
    def runtime(self) -> float | None:
        """How many seconds its last run took."""
        return None if (meta := self._fetch()) is None else meta.runtime
