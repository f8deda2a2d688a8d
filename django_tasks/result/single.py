"""One task's result: its state, its value, and what came of it."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import Any, ClassVar, Final, Generic, Self, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async

from django_tasks import exceptions, result_backends, states
from django_tasks.result import joining, waiting
from django_tasks.result.arguments import fit_id, refuse_callbacks, refuse_interval
from django_tasks.result.details import Details, extension
from django_tasks.result.family import Family, ResultBase, parents_of
from django_tasks.result.revocation import Revocable, revoke_tasks
from django_tasks.result_backends.backend import ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import decode

R = TypeVar("R")

#: GroupResult enters itself here: it needs AsyncResult, and AsyncResult's children may be groups.
group_types: list[Callable[..., Any]] = []

_UNREAD: Final = object()


class AsyncResult(Details, Family, Revocable, ResultBase, Generic[R]):
    """Stands for a task by its id; knows nothing else until it is asked.

    A task of which nothing is kept is PENDING: it waits, or was never sent, or has been forgotten (``exists()`` says
    no). Reading asks the result backend each time, until the task is ready.
    """

    #: What ``get()`` raises when time is up.
    TimeoutError: ClassVar[type[exceptions.TimeoutError]] = exceptions.TimeoutError

    #: Nothing is kept of this task (``ignore_result``): ``get()`` returns None at once.
    ignored: bool = False
    #: It lies in the result backend; an EagerResult doesn't.
    is_kept: ClassVar[bool] = True

    # Here and not in __init__: a group makes thousands of these.
    _meta: ResultMeta | None = None
    _decoded: Any = _UNREAD
    _callbacks: list[tuple[Callable[[Any], Any], Callable[[Any], Any] | None]] | None = None

    def __init__(
        self,
        id: str | UUID,
        backend: ResultBackend | None = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
    ) -> None:
        if type(id) is not str or not id:
            id = fit_id(id)
        del app  # there is one; the argument is Celery's
        self.id = id
        self.parent = parent
        self._backend = backend
        self._name = task_name

    @property
    def backend(self) -> ResultBackend:
        """Where the result is kept."""
        return self._backend if self._backend is not None else result_backends.current()

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.id

    @task_id.setter
    def task_id(self, id: str) -> None:
        self.id = fit_id(id)
        self.drop()

    @property
    def supports_native_join(self) -> bool:
        """Whether a group of such results is asked for in one question: yes, of every result backend."""
        return True

    # ---- what is known

    def _fetch(self) -> ResultMeta | None:
        if self._meta is None:
            # Here and not in __init__, which each call of a task comes by.
            found = self.backend.fetch([fit_id(self.id)]).get(self.id)
            if found is None or found.status not in states.READY_STATES:
                return found
            self.settle(found)
        return self._meta

    def settle(self, meta: ResultMeta) -> None:
        """Take over what is final, and call who waits for it."""
        self._meta = meta
        callbacks, self._callbacks = self._callbacks, None
        for on_success, on_error in callbacks or ():
            self._tell(on_success if meta.status == states.SUCCESS else on_error)

    def _tell(self, callback: Callable[[Any], Any] | None) -> None:
        if callback is not None:
            callback(self)

    @property
    def is_settled(self) -> bool:
        """Whether the final state has been read already, so that asking again costs nothing."""
        return self._meta is not None

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED or a state of the task's own."""
        meta = self._fetch()
        return states.PENDING if meta is None else meta.status

    @property
    def status(self) -> str:
        """The state, under its older name."""
        return self.state

    @property
    def result(self) -> Any:
        """The return value, or the exception; of a running task what it last told (``update_state``)."""
        meta = self._fetch()
        if meta is None or meta is not self._meta:
            return None if meta is None else decode(meta)
        if self._decoded is _UNREAD:
            self._decoded = decode(meta)
        return self._decoded

    @property
    def info(self) -> Any:
        """The result, under its older name."""
        return self.result

    def exists(self) -> bool:
        """Whether anything is kept of the task; PENDING alone doesn't tell."""
        return self._fetch() is not None

    def ready(self) -> bool:
        """Whether the task has succeeded, failed or been revoked."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether it returned."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether it raised."""
        return self.state == states.FAILURE

    # ---- waiting

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
        EXCEPTION_STATES: Collection[str] = states.EXCEPTION_STATES,  # noqa: N803  Celery's names
        PROPAGATE_STATES: Collection[str] = states.PROPAGATE_STATES,  # noqa: N803
    ) -> R:
        """Wait until the task is ready and return its value, or raise its exception (``propagate``).

        ``timeout`` is in seconds; exceptions.TimeoutError is raised when it has passed, None waits for ever. The
        failure of a parent is raised in its place, or while it waits for it (``follow_parents``). ``on_interval`` is
        called every ``interval`` seconds, ``on_message(document)`` with each state that lasts, and the last one.
        RuntimeError inside a task, unless ``disable_sync_subtasks=False``. ``no_ack`` is Celery's and changes nothing.
        """
        del no_ack, EXCEPTION_STATES
        if self.ignored:
            return None  # type: ignore[return-value]
        joining.assert_may_join(denied=disable_sync_subtasks)
        refuse_callbacks(callback=callback, on_message=on_message, on_interval=on_interval)
        refuse_interval(interval)
        parents = list(parents_of(self)) if follow_parents and propagate else []
        if on_message is not None:
            interval, on_interval = waiting.OFTEN, waiting.Changes(self, on_message, on_interval, interval)
        for _ in waiting.arrivals([self], timeout, parents=parents, interval=interval, on_interval=on_interval):
            pass
        if parents and self._settled().status in PROPAGATE_STATES:
            # What follows a failed task fails with it, so there is no need to wait for parents, some of which keep no result.
            waiting.raise_failures(parents)
        return self._ended(propagate, PROPAGATE_STATES, callback, on_message)

    wait = get

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  get()'s argument
        propagate: bool = True,
        *,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Do what ``get`` does from async code; ``await result`` is the same. Holds neither the event loop nor a thread."""
        if self.ignored:
            return None  # type: ignore[return-value]
        joining.assert_may_join(denied=disable_sync_subtasks)
        refuse_callbacks(callback=callback)
        parents = list(parents_of(self)) if follow_parents and propagate else []
        async for _ in waiting.aarrivals([self], timeout, parents=parents):
            pass
        if parents and self._settled().status in states.PROPAGATE_STATES:
            await sync_to_async(waiting.raise_failures)(parents)
        return self._ended(propagate, states.PROPAGATE_STATES, callback, None)

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

    def _settled(self) -> ResultMeta:
        if self._meta is None:
            raise exceptions.IncompleteStream(f"the result of {self.id} is not there yet")
        return self._meta

    def _ended(
        self,
        propagate: bool,
        raised: Collection[str],
        callback: Callable[[str, Any], Any] | None,
        on_message: Callable[[Any], Any] | None,
    ) -> R:
        meta = self._settled()
        if on_message is not None:
            on_message(self.document())
        if propagate and meta.status in raised:
            _raise(meta)
        value = self.result
        if callback is not None:
            callback(self.id, value)
        return value  # type: ignore[no-any-return]

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise the task's exception if it has failed; else return what is known."""
        meta = self._fetch()
        if propagate and meta is not None and meta.status in states.PROPAGATE_STATES:
            _raise(meta)
        value = None if meta is None else self.result if meta is self._meta else decode(meta)
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def then(self, callback: Callable[[Any], Any], on_error: Callable[[Any], Any] | None = None, weak: bool = False) -> Self:
        """Call ``callback(result)`` once the task has succeeded, else ``on_error(result)``: now, or when a later reading notices."""
        del weak
        refuse_callbacks(callback=callback, on_error=on_error)
        meta = self._fetch()
        if meta is not None and meta is self._meta:
            self._tell(callback if meta.status == states.SUCCESS else on_error)
        else:
            self._callbacks = [*(self._callbacks or ()), (callback, on_error)]
        return self

    def leaves(self) -> Iterator[Any]:
        """Yield this result: of a group of results, ``leaves()`` are all tasks'."""
        yield self

    def document(self) -> dict[str, Any]:
        """Return what is known as Celery's dictionary."""
        meta = self._fetch()
        if meta is None:
            return {"task_id": self.id, "status": states.PENDING, "result": None, "traceback": None, "children": []}
        return {
            "task_id": meta.task_id,
            "status": meta.status,
            "result": self.result if meta is self._meta else decode(meta),
            "traceback": meta.traceback,
            "children": children_of(meta, self._backend) or [],
            "date_done": meta.date_done,
            **extension(meta),
        }

    def _get_task_meta(self) -> dict[str, Any]:
        # Celery's guide reads stamps by it.
        return self.document()

    # ---- acting

    def forget(self) -> None:
        """Delete what is kept of this task and of its parents."""
        forget_all(leaf for node in (self, *parents_of(self)) for leaf in node.leaves())

    def drop(self) -> None:
        """Know nothing any more; the next reading asks the backend."""
        self._meta, self._decoded = None, _UNREAD

    def _revoke(self, *, terminate: bool, signal: str | None) -> None:
        revoke_tasks([self.id], terminate=terminate, signal=signal, backend=self.backend)

    # ---- what came of it

    @property
    def children(self) -> list[Any] | None:
        """Results of the tasks that it sent, once it is ready; None if that is not known."""
        meta = self._fetch()
        return None if meta is None else children_of(meta, self._backend)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return other.id == self.id
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __copy__(self) -> Self:
        return type(self)(self.id, self._backend, self._name, None, self.parent)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, None, self._name, None, self.parent)


def _raise(meta: ResultMeta) -> None:
    # A new one each time: an exception that is raised again gathers tracebacks, and keeps their frames.
    error = decode(meta)
    raise error if isinstance(error, BaseException) else exceptions.TaskError(error)


def forget_all(results: Iterable[Any]) -> None:
    """Delete what is kept of these tasks, at once for each backend; eager results keep what they have."""
    for backend, named in waiting.by_backend(result for result in results if result.is_kept):
        backend.forget(list(named))
        for same in named.values():
            for result in same:
                result.drop()


def children_of(meta: ResultMeta, backend: ResultBackend | None) -> list[Any] | None:
    """Return the results of the tasks that this one sent; None if that is not known."""
    return None if meta.children is None else [result_from_tuple(child, backend=backend) for child in meta.children]


def result_from_tuple(r: Any, app: Any = None, *, backend: ResultBackend | None = None) -> Any:
    """Build the result object that Celery's wire form ``r`` stands for; a result object is returned as it is. ``app`` is Celery's."""
    if r is None or hasattr(r, "as_tuple"):
        return r
    head, members = r
    task_id, parent = head if isinstance(head, list | tuple) else (head, None)
    above = result_from_tuple(parent, app, backend=backend)
    if members is not None:
        return group_types[0](task_id, [result_from_tuple(member, app, backend=backend) for member in members], parent=above)
    return AsyncResult(task_id, backend=backend, parent=above)
