"""One task's result: its state, its value, and what came of it."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar

from asgiref.sync import sync_to_async
from django.apps import apps

from django_tasks import clock, result_backends, states
from django_tasks.context import current_request
from django_tasks.exceptions import IncompleteStream, TaskRevokedError
from django_tasks.result.graph import DependencyGraph
from django_tasks.result_backends.backend import ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import decode, encode_exception, encode_value
from django_tasks.serializers import loads_json

R = TypeVar("R")

#: GroupResult enters itself here: it needs AsyncResult, and AsyncResult's children may be groups.
group_types: list[Callable[..., Any]] = []

_joining_allowed: ContextVar[bool] = ContextVar("django_tasks_joining_allowed", default=False)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let tasks wait for other tasks inside this block. A worker whose slots all wait so stands still."""
    token = _joining_allowed.set(True)
    try:
        yield
    finally:
        _joining_allowed.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Forbid inside this block what ``allow_join_result`` allows."""
    token = _joining_allowed.set(False)
    try:
        yield
    finally:
        _joining_allowed.reset(token)


def assert_may_join(*, denied: bool = True) -> None:
    """Raise RuntimeError inside a task: waiting for another one there can stop a worker for ever."""
    if denied and current_request() is not None and not _joining_allowed.get():
        raise RuntimeError(
            "Never call result.get() within a task: it takes a worker's slot to wait for another slot, and all may wait for ever. "
            "Use a chain, a callback or a chord, or allow it with get(disable_sync_subtasks=False)."
        )


class AsyncResult(Generic[R]):
    """Stands for a task by its id; knows nothing else until it is asked.

    A task that nobody knows is PENDING, since nothing is stored before it starts or ends. Reading asks the
    result backend each time, until the task is ready.
    """

    TimeoutError: ClassVar[type[Exception]] = TimeoutError

    def __init__(
        self,
        id: str,
        backend: ResultBackend | None = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
    ) -> None:
        if not id:
            raise ValueError(f"a result needs a task's id, not {id!r}")
        del app  # there is one; the argument is Celery's
        self.id = id
        self.parent = parent
        self._backend = backend
        self._name = task_name
        self._meta: ResultMeta | None = None
        self._callbacks: list[tuple[Callable[[Any], Any], Callable[[Any], Any] | None]] = []

    @property
    def backend(self) -> ResultBackend:
        """Where the result is kept."""
        return self._backend if self._backend is not None else result_backends.current()

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.id

    # ---- what is known

    def _fetch(self) -> ResultMeta | None:
        if self._meta is None:
            found = self.backend.fetch([self.id]).get(self.id)
            if found is None or found.status not in states.READY_STATES:
                return found
            self.settle(found)
        return self._meta

    def settle(self, meta: ResultMeta) -> None:
        """Take over what is final, and call who waits for it."""
        self._meta = meta
        callbacks, self._callbacks = self._callbacks, []
        for on_success, on_error in callbacks:
            if meta.status == states.SUCCESS:
                on_success(self)
            elif on_error is not None:
                on_error(self)

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
        return None if meta is None else decode(meta)

    @property
    def info(self) -> Any:
        """The result, under its older name."""
        return self.result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task."""
        return self._read("traceback")

    @property
    def name(self) -> str | None:
        """The task's name (with RESULT_EXTENDED)."""
        return self._name or self._read("name")

    @property
    def args(self) -> Any:
        """The positional arguments (with RESULT_EXTENDED)."""
        text = self._read("args")
        return None if text is None else loads_json(text)

    @property
    def kwargs(self) -> Any:
        """The keyword arguments (with RESULT_EXTENDED)."""
        text = self._read("kwargs")
        return None if text is None else loads_json(text)

    @property
    def worker(self) -> str | None:
        """The worker that ran it."""
        return self._read("worker")

    @property
    def queue(self) -> str | None:
        """The queue that it came from."""
        return self._read("queue")

    @property
    def retries(self) -> int | None:
        """How often it was retried."""
        return self._read("retries")

    @property
    def date_done(self) -> datetime | None:
        """When it became ready."""
        return self._read("date_done")

    @property
    def date_started(self) -> datetime | None:
        """When it first started."""
        return self._read("date_started")

    def _read(self, name: str) -> Any:
        meta = self._fetch()
        return None if meta is None else getattr(meta, name)

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

        ``timeout`` is in seconds; exceptions.TimeoutError is raised when it has passed, None waits for ever. A
        parent's error comes first (``follow_parents``). ``on_interval`` is called between looks. RuntimeError inside a
        task, unless ``disable_sync_subtasks=False``. ``interval`` and ``no_ack`` are Celery's and change nothing.
        """
        del interval, no_ack, EXCEPTION_STATES
        assert_may_join(denied=disable_sync_subtasks)
        if self._meta is None:
            self._wait(timeout, on_interval)
        meta = self._settled()
        if follow_parents and propagate and meta.status in PROPAGATE_STATES:
            # What follows a failed task fails with it, so there is no need to wait for parents, some of which keep no result.
            for node in reversed(list(self._parents())):
                node.maybe_throw()
        return self._value_of(meta, propagate, PROPAGATE_STATES, callback, on_message)

    def _settled(self) -> ResultMeta:
        if self._meta is None:
            raise IncompleteStream
        return self._meta

    def _value_of(
        self,
        meta: ResultMeta,
        propagate: bool,
        raised: Collection[str],
        callback: Callable[[str, Any], Any] | None,
        on_message: Callable[[Any], Any] | None,
    ) -> R:
        if on_message is not None:
            on_message(_document(meta))
        value = decode(meta)
        if propagate and meta.status in raised and isinstance(value, BaseException):
            raise value
        if callback is not None:
            callback(self.id, value)
        return value  # type: ignore[no-any-return]

    wait = get

    def _wait(self, timeout: float | None, on_interval: Callable[[], Any] | None) -> None:
        if on_interval is None:
            for meta in self.backend.wait([self.id], timeout):
                self.settle(meta)
            return
        end = None if timeout is None else clock.monotonic() + timeout
        while self._meta is None:
            part = 0.5 if end is None else min(0.5, max(0.0, end - clock.monotonic()))
            try:
                for meta in self.backend.wait([self.id], part):
                    self.settle(meta)
            except TimeoutError:
                on_interval()
                if end is not None and clock.monotonic() >= end:
                    raise

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:  # noqa: ASYNC109  get()'s argument
        """Wait for the value from async code, without holding the event loop."""
        return await sync_to_async(self.get, thread_sensitive=False)(timeout=timeout, propagate=propagate)

    def __await__(self) -> Any:
        return self.aget().__await__()

    def _parents(self) -> Iterator[Any]:
        node = self.parent
        while node is not None:
            yield node
            node = getattr(node, "parent", None)

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise the task's exception if it has failed; else return what is known."""
        meta = self._fetch()
        value = None if meta is None else decode(meta)
        if propagate and meta is not None and meta.status in states.PROPAGATE_STATES and isinstance(value, BaseException):
            raise value
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def then(self, callback: Callable[[Any], Any], on_error: Callable[[Any], Any] | None = None, weak: bool = False) -> Self:
        """Call ``callback(result)`` once the task has succeeded: now, or when a later reading notices."""
        del weak
        if self._fetch() is not None and self._meta is not None:
            self._callbacks.append((callback, on_error))
            self.settle(self._meta)
        else:
            self._callbacks.append((callback, on_error))
        return self

    # ---- acting

    def forget(self) -> None:
        """Delete what is kept of this task."""
        self._meta = None
        self.backend.forget([self.id])

    def revoke(
        self, connection: Any = None, terminate: bool = False, signal: str | None = None, wait: bool = False, timeout: float | None = None
    ) -> None:
        """Keep the task from running; with ``terminate`` stop it if it runs.

        Workers heed it within a second or two, also ones that start later. ``signal`` is kept for the record: a
        process is always killed. ``wait`` waits for the state REVOKED, for ``timeout`` seconds at most.
        """
        del connection
        revoke_tasks([self.id], terminate=terminate, signal=signal, backend=self.backend)
        if wait:
            self.get(timeout=timeout, propagate=False)

    # ---- what came of it

    @property
    def children(self) -> list[Any] | None:
        """Results of the tasks that it sent; None if that is not known."""
        stored = self._read("children")
        return None if stored is None else [result_from_tuple(child, self._backend) for child in stored]

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (parent, result) for this one and all that came of it. IncompleteStream if one is not ready."""
        stack: deque[tuple[Any, Any]] = deque([(None, self)])
        incomplete = False
        while stack:
            parent, node = stack.popleft()
            yield parent, node
            if node.ready():
                stack.extend((node, child) for child in node.children or ())
            else:
                incomplete = True
        if incomplete and not intermediate:
            raise IncompleteStream

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """Yield (result, value) for this one and all that came of it."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def get_leaf(self) -> Any:
        """Return the value of the last result that came of this one."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> DependencyGraph[Any]:
        """Return which results came of which."""
        del formatter
        graph: DependencyGraph[Any] = DependencyGraph()
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph[Any]:
        """Which results came of which, as far as is known."""
        return self.build_graph(intermediate=True)

    def as_tuple(self) -> tuple[Any, Any]:
        """Return Celery's wire form: ``((id, parent), None)``."""
        return (self.id, self.parent.as_tuple() if self.parent is not None else None), None

    def as_list(self) -> list[str]:
        """Return the ids of this one and its parents, this one last."""
        return [*(self.parent.as_list() if self.parent is not None else []), self.id]

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

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, None, self._name, None, self.parent)


class EagerResult(AsyncResult[R]):
    """The result of a task that has run in this process already (``apply``, eager mode)."""

    def __init__(self, id: str, ret_value: Any, state: str, traceback: str | None = None, name: str | None = None) -> None:
        super().__init__(id, task_name=name)
        self._value = ret_value
        self._state = state
        self._traceback = traceback

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

    def _read(self, name: str) -> Any:
        return None

    def get(  # type: ignore[override]
        self, timeout: float | None = None, propagate: bool = True, disable_sync_subtasks: bool = True, **kwargs: Any
    ) -> R:
        """Return the value, or raise the exception (``propagate``)."""
        del timeout, disable_sync_subtasks
        if propagate and self._state in states.PROPAGATE_STATES and isinstance(self._value, BaseException):
            raise self._value
        callback = kwargs.get("callback")
        if callback is not None:
            callback(self.id, self._value)
        return self._value  # type: ignore[no-any-return]

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:  # noqa: ASYNC109  get()'s argument
        """Return the value."""
        return self.get(timeout, propagate)

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise the exception if it failed; else return the value."""
        return self.get(propagate=propagate, callback=callback)

    def then(self, callback: Callable[[Any], Any], on_error: Callable[[Any], Any] | None = None, weak: bool = False) -> Self:
        """Call ``callback(result)`` now."""
        del weak
        chosen = callback if self._state == states.SUCCESS else on_error
        if chosen is not None:
            chosen(self)
        return self

    def forget(self) -> None:
        """Do nothing: nothing is kept."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Mark it as revoked, as Celery does; it has run already."""
        del args, kwargs
        self._state = states.REVOKED

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, self._value, self._state, self._traceback, self._name)


def revoke_tasks(
    task_ids: Sequence[str], *, terminate: bool = False, signal: str | None = None, by: str = "", backend: ResultBackend | None = None
) -> None:
    """Record that these tasks are not to run; workers read that every second or so.

    Those of which nothing is known yet become REVOKED at once, so that nobody waits for them.
    """
    revocations = apps.get_model("django_tasks", "Revocation").objects
    # Anew, with a larger id: that is how workers notice.
    revocations.filter(task_id__in=task_ids).delete()
    now = clock.now()
    revocations.bulk_create(
        revocations.model(task_id=task_id, terminate=terminate, signal=signal or "SIGTERM", revoked_at=now, revoked_by=by)
        for task_id in task_ids
    )
    store = backend or result_backends.current()
    if not store.reads:
        return
    known = store.fetch(task_ids)
    text, content_type, content_encoding = encode_value(encode_exception(TaskRevokedError("revoked")))
    store.store(
        [
            ResultMeta(
                task_id=task_id,
                status=states.REVOKED,
                result=text,
                content_type=content_type,
                content_encoding=content_encoding,
                date_done=now,
            )
            for task_id in task_ids
            if task_id not in known or known[task_id].status in {states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED}
        ]
    )


def result_from_tuple(wire: Any, backend: ResultBackend | None = None) -> Any:
    """Build the result object that Celery's wire form stands for."""
    if wire is None or isinstance(wire, AsyncResult):
        return wire
    head, members = wire
    task_id, parent = head if isinstance(head, list | tuple) else (head, None)
    above = result_from_tuple(parent, backend)
    if members is not None:
        return group_types[0](task_id, [result_from_tuple(member, backend) for member in members], parent=above)
    return AsyncResult(task_id, backend=backend, parent=above)


def _document(meta: ResultMeta) -> dict[str, Any]:
    return {"task_id": meta.task_id, "status": meta.status, "result": decode(meta), "traceback": meta.traceback, "children": meta.children}
