"""What Celery's backends offer for one task, by Celery's names: for code that says ``self.backend.get_state(task_id)``."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from django_tasks import clock, states

if TYPE_CHECKING:
    from django_tasks.result_backends.backend import ResultMeta


class OneTask:
    """Reading and storing what is kept of one task. ``AsyncResult`` and ``Task.update_state`` know more, and are the usual way."""

    @abstractmethod
    def fetch(self, task_ids: Collection[str]) -> "dict[str, ResultMeta]":
        """Read what is kept of these tasks."""

    @abstractmethod
    def store(self, metas: "Sequence[ResultMeta]") -> None:
        """Keep all of them."""

    def get_task_meta(self, task_id: str) -> dict[str, Any]:
        """Return state, value and traceback as Celery's dictionary; of an unknown task the state is PENDING."""
        meta = self.fetch([task_id]).get(task_id)
        if meta is None:
            return {"task_id": task_id, "status": states.PENDING, "result": None, "traceback": None, "children": []}
        from django_tasks.result_backends.encoding import decode

        known = {"task_id": task_id, "status": meta.status, "result": decode(meta), "traceback": meta.traceback}
        return {**known, "children": list(meta.children or ()), "date_done": meta.date_done}

    def get_state(self, task_id: str) -> str:
        """Return a task's state."""
        state: str = self.get_task_meta(task_id)["status"]
        return state

    get_status = get_state

    def get_result(self, task_id: str) -> Any:
        """Return what a task has returned, its exception, or the details of its state."""
        return self.get_task_meta(task_id)["result"]

    def get_traceback(self, task_id: str) -> str | None:
        """Return the traceback of a failed task."""
        traceback: str | None = self.get_task_meta(task_id)["traceback"]
        return traceback

    def store_result(self, task_id: str, result: Any, state: str, traceback: str | None = None, request: Any = None, **more: Any) -> Any:
        """Keep a state and a value, which may be an exception, and return the value.

        It stores, and no more: links and error callbacks are not called, and no part of a chord is counted. Those are the worker's.
        """
        del more
        from django_tasks.result_backends.backend import ResultMeta
        from django_tasks.result_backends.encoding import encode_value

        text, content_type, content_encoding = encode_value(result)
        meta = ResultMeta(
            task_id=task_id,
            status=state,
            result=text,
            content_type=content_type,
            content_encoding=content_encoding,
            traceback=traceback,
            date_done=clock.now() if state in states.READY_STATES else None,
            name=getattr(request, "task", None),
            root_id=getattr(request, "root_id", None),
            parent_id=getattr(request, "parent_id", None),
            group_id=getattr(request, "group", None),
        )
        self.store([meta])
        return result
