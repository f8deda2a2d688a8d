"""The result of a task that has run already, in this process."""

from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

from django_tasks import states
from django_tasks.exceptions import TaskRevokedError
from django_tasks.result.single import AsyncResult

R = TypeVar("R")


class EagerResult(AsyncResult[R]):
    """The result of a task that has run in this process already (``apply``, eager mode); always ready."""

    is_kept: ClassVar[bool] = False
    #: The task that its workflow began with, where that is known.
    root_id: str | None = None

    def __init__(self, id: str, ret_value: Any, state: str, traceback: str | None = None, name: str | None = None) -> None:
        super().__init__(id, task_name=name)
        self._value = ret_value
        self._state = state
        self._traceback = traceback

    @property
    def is_settled(self) -> bool:
        """Yes: there is nothing to ask for."""
        return True

    @property
    def supports_native_join(self) -> bool:
        """No: it lies in no result backend."""
        return False

    @property
    def state(self) -> str:
        """The state at the end of the run."""
        return self._state

    @property
    def result(self) -> Any:
        """The value, or the exception."""
        return self._value

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task."""
        return self._traceback

    @property
    def children(self) -> list[Any] | None:
        """Nothing is kept of what an eager task sent."""
        return []

    def _fetch(self) -> None:
        # Of a run in this process no more is known than what this object has.
        return None

    def document(self) -> dict[str, Any]:
        """Return what is known as Celery's dictionary."""
        return {
            "task_id": self.id,
            "status": self._state,
            "result": self._value,
            "traceback": self._traceback,
            "children": [],
            "name": self._name,
        }

    def exists(self) -> bool:
        """Yes: it is in this object."""
        return True

    def ready(self) -> bool:
        """Yes: it has run."""
        return True

    def get(  # type: ignore[override]
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        **kwargs: Any,
    ) -> R:
        """Return the value, or raise the exception (``propagate``). Allowed inside tasks: there is nothing to wait for.

        A task that ended with Ignore or Reject has no value: None.
        """
        del timeout, disable_sync_subtasks, kwargs
        if self._state in (states.IGNORED, states.REJECTED):
            return None  # type: ignore[return-value]
        if propagate and self._state in states.PROPAGATE_STATES:
            raise self._value if isinstance(self._value, BaseException) else Exception(self._value)
        if callback is not None:
            callback(self.id, self._value)
        return self._value  # type: ignore[no-any-return]

    wait = get  # type: ignore[assignment]

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  get()'s argument
        propagate: bool = True,
        **kwargs: Any,
    ) -> R:
        """Return the value, or raise the exception (``propagate``)."""
        return self.get(timeout, propagate, **kwargs)

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise the exception if it failed; else return the value."""
        return self.get(propagate=propagate, callback=callback)

    maybe_reraise = maybe_throw

    def then(self, callback: Callable[[Any], Any], on_error: Callable[[Any], Any] | None = None, weak: bool = False) -> Self:
        """Call ``callback(result)`` now, or ``on_error(result)`` if it didn't succeed."""
        del weak
        chosen = callback if self._state == states.SUCCESS else on_error
        if chosen is not None:
            chosen(self)
        return self

    def forget(self) -> None:
        """Do nothing: nothing is kept."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Become what a revoked task's result is, although it has run: REVOKED with TaskRevokedError."""
        del args, kwargs
        self._state, self._value, self._traceback = states.REVOKED, TaskRevokedError("revoked"), None

    def __copy__(self) -> Self:
        return type(self)(self.id, self._value, self._state, self._traceback, self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, self._value, self._state, self._traceback, self._name)
