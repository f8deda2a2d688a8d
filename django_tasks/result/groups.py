"""Several tasks' results together."""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from typing import Any, ClassVar, Self

from asgiref.sync import sync_to_async

from django_tasks import exceptions, result_backends, states
from django_tasks.messages import new_id
from django_tasks.result import joining, waiting
from django_tasks.result.arguments import fit_id, member_of, members_of, refuse_callbacks
from django_tasks.result.family import ResultBase, parents_of
from django_tasks.result.revocation import Revocable, revoke_tasks
from django_tasks.result.single import forget_all, group_types, result_from_tuple
from django_tasks.result_backends.backend import ResultBackend


class ResultSet(Revocable, ResultBase):
    """A collection of results that can be waited for together: one question to the backend for all of them."""

    #: What ``get()`` raises when time is up.
    TimeoutError: ClassVar[type[exceptions.TimeoutError]] = exceptions.TimeoutError

    def __init__(self, results: Iterable[Any], app: Any = None, ready_barrier: Any = None, **kwargs: Any) -> None:
        del app, ready_barrier, kwargs
        self.results: list[Any] = members_of(results)
        self._callbacks: list[tuple[Callable[[Any], Any], Callable[[Any], Any] | None]] = []

    @property
    def backend(self) -> ResultBackend:
        """Where the results are kept."""
        return self.results[0].backend if self.results else result_backends.current()

    @property
    def supports_native_join(self) -> bool | None:
        """Whether all are asked for in one question; None for an empty set. ``join`` and ``join_native`` are the same."""
        return bool(self.results[0].supports_native_join) if self.results else None

    # ---- members

    def add(self, result: Any) -> None:
        """Add a result, unless it is there."""
        if member_of(result) not in self.results:
            self.results.append(result)

    def remove(self, result: Any) -> None:
        """Remove a result or its id. KeyError if it is not there."""
        try:
            self.results.remove(result)  # equal to its id
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

    # Members come and go.
    __hash__ = None  # type: ignore[assignment]

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

    def _known_states(self) -> list[str]:
        leaves = list(self.leaves())
        waiting.Unsettled(leaves).look()
        self._tell([leaf.state if leaf.is_settled else states.PENDING for leaf in leaves])
        return [leaf.state if leaf.is_settled else states.PENDING for leaf in leaves]

    def _tell(self, known: list[str]) -> None:
        if self._callbacks and all(state in states.READY_STATES for state in known):
            callbacks, self._callbacks = self._callbacks, []
            well = all(state == states.SUCCESS for state in known)
            for on_success, on_error in callbacks:
                chosen = on_success if well else on_error
                if chosen is not None:
                    chosen(self)

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
        """Wait for all and return their values in order; a failure is raised as soon as it is known (``propagate``).

        ``timeout`` (seconds) is for all together; exceptions.TimeoutError when it has passed. ``on_interval`` is called
        every ``interval`` seconds, ``callback(id, value)`` in order at the end, ``on_message(document)`` for each task as
        it becomes ready. RuntimeError inside a task, unless ``disable_sync_subtasks=False``.
        """
        del no_ack
        joining.assert_may_join(denied=disable_sync_subtasks)
        refuse_callbacks(callback=callback, on_message=on_message, on_interval=on_interval)
        leaves, parents = list(self.leaves()), list(parents_of(self)) if propagate else []
        waiting.Unsettled(leaves).look()
        _show((leaf for leaf in leaves if leaf.is_settled), on_message)
        if propagate:
            _raise_first(leaves, parents)
        for leaf in waiting.arrivals(leaves, timeout, parents=parents, interval=interval, on_interval=on_interval):
            _show([leaf], on_message)
            if propagate:
                _raise_first([leaf], parents)
        return self._values(propagate, callback)

    join = join_native = get

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  get()'s argument
        propagate: bool = True,
        *,
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """Do what ``get`` does from async code; ``await results`` is the same. Holds neither the event loop nor a thread."""
        joining.assert_may_join(denied=disable_sync_subtasks)
        refuse_callbacks(callback=callback)
        leaves, parents = list(self.leaves()), list(parents_of(self)) if propagate else []
        if propagate:
            _raise_known(leaves)
        async for leaf in waiting.aarrivals(leaves, timeout, parents=parents):
            if propagate and leaf.state in states.PROPAGATE_STATES:
                await sync_to_async(_raise_first)([leaf], parents)
        return self._values(propagate, callback)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self.aget().__await__()

    def _values(self, propagate: bool, callback: Callable[[str, Any], Any] | None) -> list[Any]:
        self._tell([leaf.state for leaf in self.leaves() if not leaf.ignored])
        values = []
        for result in self.results:
            value = result.get(0, propagate=propagate, disable_sync_subtasks=False)
            if callback is not None:
                callback(result.id, value)
            values.append(value)
        return values

    def iterate(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> Iterator[Any]:
        """Yield the tasks' values as they become ready, in that order."""
        for leaf in self._arriving(timeout, interval):
            yield leaf.get(0, propagate=propagate, disable_sync_subtasks=False)

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (task id, Celery's dictionary of what is known) as tasks become ready, failed ones as well."""
        del no_ack
        for leaf in self._arriving(timeout, interval, on_interval):
            _show([leaf], on_message)
            yield leaf.id, leaf.document()

    def _arriving(self, timeout: float | None, interval: float, on_interval: Callable[[], Any] | None = None) -> Iterator[Any]:
        joining.assert_may_join()
        leaves = list(self.leaves())
        known = [leaf for leaf in leaves if leaf.is_settled]
        coming = [leaf for leaf in leaves if not leaf.is_settled]
        left = len(leaves)
        for leaf in chain(known, waiting.arrivals(coming, timeout, interval=interval, on_interval=on_interval)):
            left -= 1
            if not left:
                # Before the last one is handed out: who takes it may not ask for another.
                self._tell([each.state for each in leaves if not each.ignored])
            yield leaf

    def maybe_throw(self, callback: Callable[[str, Any], Any] | None = None, propagate: bool = True) -> None:
        """Raise the first failure that is known."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    # ---- acting

    def forget(self) -> None:
        """Delete what is kept of all, and of what each of them follows."""
        forget_all(leaf for result in self.leaves() for node in (result, *parents_of(result)) for leaf in node.leaves())

    def _revoke(self, *, terminate: bool, signal: str | None) -> None:
        leaves = list(self.leaves())
        for backend, named in waiting.by_backend(leaf for leaf in leaves if leaf.is_kept):
            revoke_tasks(list(named), terminate=terminate, signal=signal, backend=backend)
        for leaf in leaves:
            if not leaf.is_kept:
                leaf.revoke()

    def then(self, callback: Callable[[Any], Any], on_error: Callable[[Any], Any] | None = None, weak: bool = False) -> Self:
        """Call ``callback(self)`` once all have succeeded, else ``on_error(self)``: now, or when a later reading notices."""
        del weak
        refuse_callbacks(callback=callback, on_error=on_error)
        self._callbacks.append((callback, on_error))
        self._known_states()
        return self


def _show(ready: Iterable[Any], on_message: Callable[[Any], Any] | None) -> None:
    if on_message is not None:
        for leaf in ready:
            on_message(leaf.document())


def _raise_known(leaves: Iterable[Any]) -> None:
    for leaf in leaves:
        if leaf.is_settled:
            leaf.maybe_throw()


def _raise_first(leaves: Iterable[Any], parents: list[Any]) -> None:
    """Raise the first failure that is known among these; where they follow others that have failed, the others'."""
    failed = [leaf for leaf in leaves if leaf.is_settled and leaf.state in states.PROPAGATE_STATES]
    if failed:
        waiting.raise_failures([*parents_of(failed[0]), *parents])
        failed[0].maybe_throw()


class GroupResult(ResultSet):
    """The results of a group, under an id of their own; can be saved and restored."""

    def __init__(self, id: str | None = None, results: Iterable[Any] | None = None, parent: Any = None, **kwargs: Any) -> None:
        super().__init__(results or (), **kwargs)
        self.id = fit_id(id, "a group needs an id") if id else new_id()
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
        """Return a saved group, or None. Raises TypeError and ValueError for what can be no group's id."""
        del app
        stored = (backend or result_backends.current()).fetch_group(fit_id(id, "a saved group has an id"))
        return None if stored is None else result_from_tuple(stored, backend=backend)

    def as_tuple(self) -> tuple[Any, Any]:
        """Return Celery's wire form: ``((id, parent), [members])``."""
        return (self.id, self.parent.as_tuple() if self.parent is not None else None), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[str]:
        """Return the ids of the group and what it follows, the nearest first."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else ())]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return other.id == self.id and other.results == self.results and other.parent == self.parent
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]
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
