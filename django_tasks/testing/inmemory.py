"""Messages and results in memory for the time of a test, run when the test says so."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, Final, TypedDict, Unpack

from asgiref.sync import sync_to_async

from django_tasks import brokers, clock, result_backends
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.messages import DeadMessage
from django_tasks.outcomes import Outcome
from django_tasks.registry import registry
from django_tasks.result_backends.memory import MemoryResultBackend
from django_tasks.testing.overriding import overridden, scope
from django_tasks.testing.publications import Criteria, Publication, Wanted, complaint, publication, task_name, uncommitted
from django_tasks.testing.timetravel import Journey, Target, arrival, travel

_numbers = count(1)
#: The queues of the blocks that are open, innermost last.
_open: Final[list["TaskQueue"]] = []


class RunOptions(TypedDict, total=False):
    """How ``run_pending`` runs; see ``TaskQueue.run_pending``."""

    until_empty: bool
    now: Target | None
    raise_errors: bool | None


class TaskQueue:
    """What ``in_memory()`` yields: looks at what was published, and runs it."""

    def __init__(self, broker: MemoryBroker, *, raise_errors: bool = False) -> None:
        self._broker = broker
        self._raise_errors = raise_errors
        self._journal = broker.keep_journal()
        self._journeys = ExitStack()
        self._journey: Journey | None = None
        #: What would have become dead letters: rejected, unknown or unreadable messages.
        self.dead: list[DeadMessage] = []

    # ---- what there is

    def pending(self, task: Any = None) -> list[Publication]:
        """Return what waits to be run: first what is due, in the order in which it will run, then what is delayed."""
        times = {id(envelope): at for at, envelope in self._journal}
        return _of_task([publication(envelope, times.get(id(envelope))) for envelope in self._broker.waiting()], task)

    @property
    def messages(self) -> list[Publication]:
        """What waits to be run."""
        return self.pending()

    def __len__(self) -> int:
        return len(self._broker.waiting())

    def __bool__(self) -> bool:
        return True

    def published(self, task: Any = None) -> list[Publication]:
        """Return what was published so far, or what of one task, run since or not. Retries are no publications of their own."""
        return _of_task([one for at, envelope in self._journal if not (one := publication(envelope, at)).retries], task)

    def uncommitted(self, task: Any = None) -> list[Publication]:
        """Return what waits for the commit of a transaction that is open."""
        return _of_task(uncommitted(), task)

    def clear(self) -> None:
        """Forget what was published, and delete what waits. Results stay."""
        for queue in self._broker.queues():
            self._broker.purge(queue)
        self._journal.clear()
        self.dead.clear()

    # ---- running it

    def run_pending(
        self, limit: int | None = None, *, until_empty: bool = True, now: Target | None = None, raise_errors: bool | None = None
    ) -> list[Outcome]:
        """Run what is due in this thread, as a worker would, and return what became of it, in order.

        What that publishes runs, too, unless ``until_empty`` is False; ``limit`` is the most messages to run. ``now`` runs
        what is due at another time, or after that much (a timedelta). With ``raise_errors`` the first failure is raised;
        otherwise failures are outcomes and results, and their error callbacks run. Retries, links and chords are a
        worker's own; rate limits are not observed.
        """
        from django_tasks.testing.draining import drain

        errors = self._raise_errors if raise_errors is None else raise_errors
        return drain(
            self._broker, limit=limit, until_empty=until_empty, now=now, raise_errors=errors, dead=self.dead, waiting=self.uncommitted
        )

    async def arun_pending(self, limit: int | None = None, **options: Unpack[RunOptions]) -> list[Outcome]:
        """``run_pending`` for async tests."""
        return await sync_to_async(self.run_pending, thread_sensitive=True)(limit, **options)

    def travel(self, to: Target | None = None, **delta: float) -> None:
        """Go to another time until the end of the block: ``travel(hours=2)``, ``travel(to=datetime(2030, 1, 1))``."""
        target = (clock.now() if to is None else arrival(to, clock.now())) + timedelta(**delta)
        if self._journey is None:
            self._journey = self._journeys.enter_context(travel(target))
        else:
            self._journey.to(target)

    def close(self) -> None:
        """Return to the present and forget every message."""
        self._journeys.close()
        self._journey = None
        self._broker.clear()

    # ---- assertions

    def assert_published(self, task: Any = None, *, times: int | None = None, **criteria: Unpack[Criteria]) -> list[Publication]:
        """Assert that a task (or the task of a name) was published; return its publications.

        ``args``, ``kwargs``, ``queue``, ``countdown``, ``eta`` and ``priority`` say more of it: what is left out may be anything, and
        times may be a second off. ``times`` asks for an exact number, None for at least one. Raises AssertionError, which says
        what was published instead and what waits for a commit.
        """
        __tracebackhide__ = True
        wanted, everything, found = self._search(task, criteria)
        if times is None and not found:
            raise AssertionError(complaint(wanted, "was not published.", everything))
        if times is not None and len(found) != times:
            raise AssertionError(complaint(wanted, f"was published {_often(len(found))}, not {_often(times)}.", everything))
        return found

    def assert_not_published(self, task: Any = None, **criteria: Unpack[Criteria]) -> None:
        """Assert that no such task was published; without arguments, that nothing was. ``criteria`` are those of ``assert_published``."""
        __tracebackhide__ = True
        wanted, everything, found = self._search(task, criteria)
        if found:
            raise AssertionError(complaint(wanted, f"was published {_often(len(found))}.", everything))

    def _search(self, task: Any, criteria: Criteria) -> tuple[Wanted, list[Publication], list[Publication]]:
        wanted, everything = Wanted(task=task_name(task), **criteria), self.published()
        return wanted, everything, [one for one in everything if wanted.fits(one)]


def _of_task(found: list[Publication], task: Any) -> list[Publication]:
    name = task_name(task)
    return found if name is None else [one for one in found if one.task == name]


def _often(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


@scope
def in_memory(*, on_commit: bool | None = None, raise_errors: bool = False) -> Iterator[TaskQueue]:
    """Keep messages and results in memory inside the block, and run them when the test says so.

    Whatever broker, results or eager mode the project has set are back afterwards. ``on_commit=False`` publishes at once,
    whatever transaction is open; None leaves it to TASK_PUBLISH_ON_COMMIT. ``raise_errors`` is the default of ``run_pending``.
    Tasks that are declared inside of functions meanwhile are forgotten, too.
    Context manager and decorator; the decorated function isn't given the queue: use ``published()`` and its like there.
    """
    place = f"memory://tests-{next(_numbers)}"
    values: dict[str, Any] = {"BROKER_URL": place, "RESULT_BACKEND": place, "TASK_ALWAYS_EAGER": False, "TASK_PUBLISH_OUTBOX": False}
    if on_commit is not None:
        values["TASK_PUBLISH_ON_COMMIT"] = on_commit
    with overridden(**values), local_tasks():
        broker = brokers.current()
        if not isinstance(broker, MemoryBroker):
            raise TypeError(f"{place} opened {broker!r}, which is no MemoryBroker")
        queue = TaskQueue(broker, raise_errors=raise_errors)
        _open.append(queue)
        try:
            yield queue
        finally:
            _open.remove(queue)
            queue.close()
            results = result_backends.current()
            if isinstance(results, MemoryResultBackend):
                results.clear()


@contextmanager
def local_tasks() -> Iterator[None]:
    """Forget, at the end, tasks that were declared inside of functions: the next test may declare others of these names."""
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            function = getattr(registry[name], "run", None)
            if "<locals>" in getattr(getattr(function, "__func__", function), "__qualname__", ""):
                registry.unregister(name)


def innermost() -> TaskQueue:
    """Return the queue of the innermost ``in_memory`` block; RuntimeError outside of one."""
    if not _open:
        raise RuntimeError("no messages are kept in memory: open a block with in_memory(), or use the pytest fixture `tasks`")
    return _open[-1]


def published(task: Any = None) -> list[Publication]:
    """Return what was published in the innermost ``in_memory`` block, or what of one task."""
    return innermost().published(task)


def assert_published(task: Any = None, *, times: int | None = None, **criteria: Unpack[Criteria]) -> list[Publication]:
    """``TaskQueue.assert_published`` of the innermost ``in_memory`` block."""
    __tracebackhide__ = True
    return innermost().assert_published(task, times=times, **criteria)


def assert_not_published(task: Any = None, **criteria: Unpack[Criteria]) -> None:
    """``TaskQueue.assert_not_published`` of the innermost ``in_memory`` block."""
    __tracebackhide__ = True
    innermost().assert_not_published(task, **criteria)


def run_pending(limit: int | None = None, **options: Unpack[RunOptions]) -> list[Outcome]:
    """Run what is due in this thread and return what became of it: of the innermost ``in_memory`` block, or of the project's broker.

    With the database broker that works inside a TestCase's transaction. The arguments are those of ``TaskQueue.run_pending``.
    """
    if _open:
        return _open[-1].run_pending(limit, **options)
    from django_tasks.testing.draining import drain

    return drain(
        brokers.current(),
        limit=limit,
        until_empty=options.get("until_empty", True),
        now=options.get("now"),
        raise_errors=bool(options.get("raise_errors")),
        dead=None,
        waiting=uncommitted,
    )
