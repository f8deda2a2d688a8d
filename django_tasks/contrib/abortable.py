"""Tasks that look whether they are to stop: Celery's ``celery.contrib.abortable``.

    @shared_task(bind=True, base=AbortableTask)
    def sweep(self):
        for room in rooms():
            if self.is_aborted():
                return "stopped"
            clean(room)

    sweep.delay().abort()

A task that must end at once, or never begin, is revoked instead: ``AsyncResult(id).revoke(terminate=True)``.
"""

from typing import Any, Final, ParamSpec, TypeVar

from django_tasks import result
from django_tasks.tasks import Task

P = ParamSpec("P")
R = TypeVar("R")

#: The state of a task that was asked to stop.
ABORTED: Final = "ABORTED"


class AbortableAsyncResult(result.AsyncResult[R]):
    """A result whose task can be asked to stop."""

    def is_aborted(self) -> bool:
        """Whether the task has been asked to stop, and has not ended since."""
        return self.state == ABORTED

    def abort(self) -> Any:
        """Ask the task to stop. It stops when it looks; asking one that has ended changes nothing."""
        if self.ready():
            return None
        return self.backend.store_result(self.id, None, ABORTED)


class AbortableTask(Task[P, R]):
    """A base class for tasks that look at ``self.is_aborted()`` from time to time."""

    abstract = True

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AbortableAsyncResult[R]:  # noqa: N802  Celery's name
        """Return what stands for the result of the call with this id."""
        return AbortableAsyncResult(task_id, **kwargs)

    def is_aborted(self, *, task_id: str | None = None) -> bool:
        """Whether this run, or the task with this id, has been asked to stop. Asks the result backend each time."""
        asked = task_id or self.request.id
        return asked is not None and self.AsyncResult(asked).is_aborted()
