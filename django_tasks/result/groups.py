"""Several tasks' results together."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from asgiref.sync import sync_to_async

from django_tasks import clock, result_backends, states
from django_tasks.exceptions import TimeoutError as TaskTimeoutError
from django_tasks.messages import new_id
from django_tasks.result.single import AsyncResult, EagerResult, assert_may_join, group_types, result_from_tuple
from django_tasks.result_backends.backend import ResultBackend


class ResultSet:
    """A collection of results that can be waited for together: one question to the backend for all of them."""

    def __init__(self, results: Iterable[Any], app: Any = None, ready_barrier: Any = None, **kwargs: Any) -> None:
        del app, ready_barrier, kwargs
        self.results: list[Any] = list(results)

    @property
    def backend(self) -> ResultBackend:
        """Where the results are kept."""
        return self.results[0].backend if self.results else result_backends.current()

    # ---- members

    def add(self, result: Any) -> None:
        """Add a result, unless it is there."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Any) -> None:
        """Remove a result or its id. KeyError if it is not there."""
        try:
            self.results.remove(AsyncResult(result) if isinstance(result, str) else result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Remove a result if it is there."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add several."""
        for result in results:
            self.add(result)

    def clear(self) -> None:
        """Remove all."""
        self.results.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, ResultSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.results))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(result) for result in self.results)}]>"

    # ---- what is known

    def leaves(self) -> Iterator[Any]:
        """Yield the tasks' results, also those of groups among the members."""
        for result in self.results:
            if isinstance(result, ResultSet):
                yield from result.leaves()
            else:
                yield result

    def _look(self) -> None:
        # One question for all that are not known to be ready.
        open_ones = [result for result in self.leaves() if not isinstance(result, EagerResult) and not result.is_settled]
        if not open_ones:
            return
        found = self.backend.fetch([result.id for result in open_ones])
        for result in open_ones:
            meta = found.get(result.id)
            if meta is not None and meta.status in states.READY_STATES:
                result.settle(meta)

    def _known_states(self) -> list[str]:
        self._look()
        return [result.state if isinstance(result, EagerResult) or result.is_settled else states.PENDING for result in self.leaves()]

    def ready(self) -> bool:
        """Whether all are ready."""
        return all(state in states.READY_STATES for state in self._known_states())

    def successful(self) -> bool:
        """Whether all have succeeded."""
        return all(state == states.SUCCESS for state in self._known_states())

    def failed(self) -> bool:
        """Whether one has failed."""
        return any(state == states.FAILURE for state in self._known_states())

    def waiting(self) -> bool:
        """Whether one is not ready."""
        return not self.ready()

    def completed_count(self) -> int:
        """How many have succeeded."""
        return sum(state == states.SUCCESS for state in self._known_states())

    def ready_count(self) -> int:
        """How many are ready, whatever came of them."""
        return sum(state in states.READY_STATES for state in self._known_states())

    @property
    def state(self) -> str:
        """SUCCESS or FAILURE when all are ready, else PENDING."""
        if not self.ready():
            return states.PENDING
        return states.FAILURE if self.failed() else states.SUCCESS

    # ---- waiting

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """Wait for all and return their values in order; the first failure is raised (``propagate``).

        ``timeout`` (seconds) is for all together; exceptions.TimeoutError when it has passed.
        """
        del interval, no_ack, on_message
        assert_may_join(denied=disable_sync_subtasks)
        self._wait(timeout, propagate=propagate, on_interval=on_interval)
        values = []
        for result in self.results:
            value = result.get(0, propagate=propagate, disable_sync_subtasks=False)
            if callback is not None:
                callback(result.id, value)
            values.append(value)
        return values

    join = join_native = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> list[Any]:  # noqa: ASYNC109  get()'s argument
        """Wait for all from async code."""
        return await sync_to_async(self.get, thread_sensitive=False)(timeout=timeout, propagate=propagate)

    def _wait(self, timeout: float | None, *, propagate: bool, on_interval: Callable[[], Any] | None) -> None:
        self._look()
        left = {result.id: result for result in self.leaves() if not isinstance(result, EagerResult) and not result.is_settled}
        end = None if timeout is None else clock.monotonic() + timeout
        while left:
            part = timeout if on_interval is None else 0.5
            if end is not None:
                part = min(part if part is not None else float("inf"), max(0.0, end - clock.monotonic()))
            try:
                for meta in self.backend.wait(list(left), part):
                    result = left.pop(meta.task_id)
                    result.settle(meta)
                    if propagate and meta.status in states.PROPAGATE_STATES:
                        result.get(disable_sync_subtasks=False, follow_parents=False)
            except TaskTimeoutError:
                if on_interval is None or (end is not None and clock.monotonic() >= end):
                    raise
                on_interval()

    def iterate(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> Iterator[Any]:
        """Yield values as tasks become ready, in that order."""
        del interval
        left = {result.id: result for result in self.leaves()}
        for task_id, result in list(left.items()):
            if isinstance(result, EagerResult):
                yield left.pop(task_id).get(propagate=propagate)
        for meta in self.backend.wait(list(left), timeout) if left else ():
            left[meta.task_id].settle(meta)
            yield left[meta.task_id].get(propagate=propagate, disable_sync_subtasks=False)

    def iter_native(self, timeout: float | None = None, **kwargs: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (task id, what is known) as tasks become ready."""
        del kwargs
        for meta in self.backend.wait([result.id for result in self.leaves()], timeout):
            yield meta.task_id, {"status": meta.status, "task_id": meta.task_id}

    def maybe_throw(self, callback: Callable[[str, Any], Any] | None = None, propagate: bool = True) -> None:
        """Raise the first failure that is known."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # ---- acting

    def forget(self) -> None:
        """Delete what is kept of all."""
        for result in self.results:
            result.forget()

    def revoke(self, connection: Any = None, terminate: bool = False, signal: str | None = None, **kwargs: Any) -> None:
        """Keep all from running."""
        for result in self.leaves():
            result.revoke(connection, terminate=terminate, signal=signal, **kwargs)

    def then(self, callback: Callable[[Any], Any], on_error: Callable[[Any], Any] | None = None, weak: bool = False) -> Self:
        """Call ``callback(self)`` if all have succeeded by now, ``on_error(self)`` if one has failed."""
        del weak
        if self.ready():
            chosen = callback if self.successful() else on_error
            if chosen is not None:
                chosen(self)
        return self


class GroupResult(ResultSet):
    """The results of a group, under an id of their own; can be saved and restored."""

    def __init__(self, id: str | None = None, results: Iterable[Any] | None = None, parent: Any = None, **kwargs: Any) -> None:
        super().__init__(results or (), **kwargs)
        self.id = id or new_id()
        self.parent = parent

    @property
    def task_id(self) -> str:
        """The group's id."""
        return self.id

    @property
    def children(self) -> list[Any]:
        """The members' results."""
        return self.results

    def save(self, backend: ResultBackend | None = None) -> Self:
        """Keep the members' ids in the result backend, for ``restore``."""
        (backend or self.backend).store_group(self.id, self.as_tuple())
        return self

    def delete(self, backend: ResultBackend | None = None) -> None:
        """Delete what ``save`` has kept."""
        (backend or self.backend).forget_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: ResultBackend | None = None, app: Any = None) -> Any:
        """Return a saved group, or None."""
        del app
        stored = (backend or result_backends.current()).fetch_group(id)
        return None if stored is None else result_from_tuple(stored, backend)

    def as_tuple(self) -> tuple[Any, Any]:
        """Return Celery's wire form: ``((id, parent), [members])``."""
        return (self.id, self.parent.as_tuple() if self.parent is not None else None), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[str]:
        """Return the group's id, as a part of a chain."""
        return [*(self.parent.as_list() if self.parent is not None else []), self.id]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return other.id == self.id and other.results == self.results and other.parent == self.parent
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(result) for result in self.results)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, self.results, self.parent)


group_types.append(GroupResult)
