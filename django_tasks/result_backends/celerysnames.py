"""What Celery's backends offer for one task, by Celery's names: for code that says ``self.backend.get_state(task_id)``."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

from django_tasks import clock, states

if TYPE_CHECKING:
    from django_tasks.result_backends.backend import OpenChord, ResultMeta


def _nothing_follows(backend: Any, meta: Any, request: Any, error: Any) -> None:
    return None


class OneTask:
    """Reading and storing what is kept of one task. ``AsyncResult`` and ``Task.update_state`` know more, and are the usual way."""

    #: What an outcome sets off, which rooms above this one know: called with backend, meta, request and exception (or None).
    followed: ClassVar[Callable[[Any, Any, Any, Any], None]] = staticmethod(_nothing_follows)

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
        self._keep(task_id, result, state, traceback, request)
        return result

    def _keep(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any) -> "ResultMeta":
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
            group_index=getattr(request, "group_index", None),
            chord=getattr(request, "chord", None),
        )
        self.store([meta])
        return meta

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        """Keep STARTED, with details."""
        return self.store_result(task_id, meta, states.STARTED)

    def mark_as_retry(self, task_id: str, exc: Any, traceback: str | None = None, request: Any = None, **more: Any) -> Any:
        """Keep RETRY, with the exception behind it."""
        return self.store_result(task_id, exc, states.RETRY, traceback, request, **more)

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS) -> None:
        """Keep a task's value. With the ``request`` of a part of a chord, the part counts."""
        self._mark(task_id, result, state, None, request, None, kept=store_result)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Keep a task's exception.

        With its ``request`` the steps of its chain fail, and the part that it is of a chord has failed; unless ``call_errbacks`` is
        False its error callbacks are called.
        """
        if request is not None and not call_errbacks:
            request = copy(request)
            request.errbacks = None
        self._mark(task_id, exc, state, traceback, request, exc, kept=store_result)

    def _mark(self, task_id: str, value: Any, state: str, traceback: str | None, request: Any, error: Any, *, kept: bool) -> None:
        if kept:
            meta = self._keep(task_id, value, state, traceback, request)
            if request is not None:
                type(self).followed(self, meta, request, error)

    # ---- chords

    @abstractmethod
    def check_chords(self) -> None:
        """Raise where this backend can't count the parts of chords."""

    @abstractmethod
    def find_chords(self, group_ids: Collection[str]) -> "list[OpenChord]":
        """Return those of these chords that still wait for parts."""

    @abstractmethod
    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Expect more parts."""

    def ensure_chords_allowed(self) -> None:
        """Raise, saying why, where this backend can't count the parts of chords."""
        self.check_chords()

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Let a chord that waits expect this many parts. ``chord(...)`` and ``Task.add_to_chord`` do it by themselves."""
        for chord in self.find_chords([group_id]):
            self.grow_chord(group_id, chord_size - chord.size)
