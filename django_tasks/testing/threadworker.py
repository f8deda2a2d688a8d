"""A worker in a thread of the test: the parts that a worker's process has, without the process."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test.testcases import LiveServerThread

from django_tasks import brokers, clock, log
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.registry import registry
from django_tasks.testing.overriding import Scope, scope
from django_tasks.testing.receiving import forwarding

if TYPE_CHECKING:
    from django_tasks.worker.options import WorkerOptions

logger = logging.getLogger("django_tasks.testing")

POOLS: Final = ("solo", "threads", "asyncio")
#: Celery's names for processes.
_PROCESSES: Final = ("prefork", "processes")
#: Seconds between two words to a worker that it is to stop.
_PROMPT: Final = 0.02


class ThreadWorker:
    """What ``worker()`` yields. It has no supervisor and no node: no hard time limits, no heartbeat, no remote control."""

    def __init__(self, options: "WorkerOptions") -> None:
        from django_tasks.worker.child import Child
        from django_tasks.worker.ratelimits import RateLimits
        from django_tasks.worker.scoreboard import Scoreboard

        self._options = options
        self._scoreboard = Scoreboard(1, options.slots)
        consumer_id = f"{options.name}/{options.instance}/1"
        self._child = Child(options, consumer_id=consumer_id, block=self._scoreboard[0], rates=RateLimits(registry))
        self._consumer = self._child.consumer
        self._be_content_without_database()
        self._opened = OpenedConnections()
        self._forwarding = forwarding(brokers.current(), consumer_id)
        self._shared = _shareable() if options.pool == "solo" else []
        self._thread = threading.Thread(target=self._run, name="django_tasks-worker", daemon=True)
        self._record_factory = logging.getLogRecordFactory()
        self._error: BaseException | None = None
        self._stopped = False

    @property
    def name(self) -> str:
        """The worker's name, as results show it."""
        return self._options.name

    @property
    def hostname(self) -> str:
        """The name, in Celery's word."""
        return self.name

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it reads."""
        return self._options.queues

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def start(self) -> Self:
        """Start the threads."""
        self._opened.__enter__()
        for connection in self._shared:
            connection.inc_thread_sharing()
        self._forwarding.__enter__()
        self._thread.start()
        return self

    def stop(self, timeout: float | None = 10.0) -> None:
        """Finish what runs, give the rest back, and end the threads and their connections.

        ``timeout`` is in seconds: RuntimeError names what runs on after it.
        """
        if self._stopped:
            return
        end = None if timeout is None else clock.monotonic() + timeout
        while self._thread.is_alive() and (end is None or clock.monotonic() < end):
            # Again and again: once it has obeyed, the consumer waits for its broker up to a second, unless it is woken.
            self._consumer.command({"do": "stop"})
            self._thread.join(_PROMPT)
        # What it has changed of this process ends here, even if it does not.
        if logging.getLogRecordFactory() is not self._record_factory:
            log.remove_task_context()
        self._opened.stop_noting()
        if self._thread.is_alive():
            running = ", ".join(f"{one.request.message.task}[{one.request.message.id}]" for one in self._child.pool.running())
            raise RuntimeError(f"the worker runs on after {timeout} s, with {running or 'nothing'}: its threads die with the process")
        self._stopped = True
        self._forwarding.__exit__(None, None, None)
        for connection in self._shared:
            connection.dec_thread_sharing()
        self._opened.__exit__(None, None, None)
        if self._error is not None:
            raise self._error

    def reload(self) -> None:
        """Accepted from Celery's worker: tasks that are declared later are known at once."""

    def ensure_started(self) -> None:
        """Accepted from Celery's worker: what is published before it has started is run then."""

    def _run(self) -> None:
        try:
            for connection in self._shared:
                connections[connection.alias] = connection
            self._child.run()
        except BaseException as error:  # noqa: BLE001  raised by stop(), in the test's thread
            self._error = error
            self._consumer.command({"do": "stop"})
        finally:
            shared = {connection.alias for connection in self._shared}
            for connection in connections.all(initialized_only=True):
                if connection.alias not in shared:
                    connection.close()

    def _be_content_without_database(self) -> None:
        """Let a worker on a broker in memory start in a test that may not touch the database."""
        learn: Callable[[], None] = self._consumer._learn_revocations  # noqa: SLF001

        def try_to_learn() -> None:
            try:
                learn()
            except Exception as error:  # noqa: BLE001  pytest-django's and Django's own refusals
                logger.debug("The revocations can't be read in this test: %s", error)

        self._consumer._learn_revocations = try_to_learn  # type: ignore[method-assign]  # noqa: SLF001


class OpenedConnections:
    """Closes the database connections that other threads than the test's open meanwhile.

    A test database can't be dropped before. Those of a live server are its own to close.
    """

    def __init__(self) -> None:
        self._test = threading.current_thread()
        self._opened: list[BaseDatabaseWrapper] = []

    def __enter__(self) -> Self:
        connection_created.connect(self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop_noting()
        for connection in self._opened:
            connection.inc_thread_sharing()
            connection.close()
            connection.dec_thread_sharing()

    def stop_noting(self) -> None:
        """Close no connection that is opened from now on."""
        connection_created.disconnect(self._note)

    def _note(self, *, connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
        thread = threading.current_thread()
        theirs = thread is self._test or thread is threading.main_thread() or isinstance(thread, LiveServerThread)
        if not theirs and all(connection is not known for known in self._opened):
            self._opened.append(connection)


def _shareable() -> list[BaseDatabaseWrapper]:
    """Return this thread's connections to SQLite databases in memory, which a live server shares with its thread, too."""
    found = [connection for connection in connections.all() if connection.vendor == "sqlite" and not connection.in_atomic_block]
    return [connection for connection in found if connection.is_in_memory_db()]  # type: ignore[attr-defined]


def _refuse_what_would_wait_for_ever(pool: str) -> None:
    if pool not in POOLS:
        raise ImproperlyConfigured(f"a worker in a thread can't have the pool {pool!r}: there are {', '.join(POOLS)}")
    broker = brokers.current()
    alias = getattr(broker, "alias", None)
    if not broker.joins_transaction or alias is None:
        return
    connection = connections[alias]
    if connection.in_atomic_block:
        raise ImproperlyConfigured(
            f"the messages of this test are rows of its transaction on {alias!r}, which no other thread can see: use "
            "TransactionTestCase, pytest-django's transactional_db, in_memory(), or run_pending()"
        )
    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
        raise ImproperlyConfigured(
            f"the database {alias!r} lies in memory, where a worker's threads lock each other out: give it a file "
            f"(DATABASES[{alias!r}]['TEST'] = {{'NAME': ...}}), or use in_memory()"
        )


def _known_queues() -> list[str]:
    """Return the queues that the settings and the tasks name."""
    from django_tasks.worker.options import chosen_queues

    routes = settings.TASK_ROUTES if isinstance(settings.TASK_ROUTES, dict) else {}
    routed = [route.get("queue") if isinstance(route, dict) else route for route in routes.values()]
    named = [*chosen_queues((), ()), *(getattr(task, "queue", None) for task in registry.values()), *routed]
    return list(dict.fromkeys(queue for queue in named if isinstance(queue, str)))


def _names(queues: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in queues.split(",")] if isinstance(queues, str) else list(queues)


@scope
def worker(
    queues: str | Sequence[str] | None = None,
    *,
    exclude_queues: str | Sequence[str] = (),
    pool: str = "solo",
    concurrency: int = 1,
    name: str = "tests@localhost",
    shutdown_timeout: float = 10.0,
) -> Iterator[ThreadWorker]:
    """Run a worker on the current broker in threads of this process, as long as the block lasts.

    ``pool`` is solo, threads or asyncio, with ``concurrency`` tasks at once; ``queues`` (``"a,b"``, or a list) are all
    that settings and tasks name, without ``exclude_queues``. At the end it finishes what runs (``shutdown_timeout``, seconds),
    and closes its threads and database connections. Its threads see what is committed: use TransactionTestCase or
    transactional_db. Raises ImproperlyConfigured where it would see nothing: on the database broker inside a TestCase's
    transaction, or in a SQLite database in memory.
    """
    from django_tasks.worker.options import WorkerOptions, chosen_queues

    _refuse_what_would_wait_for_ever(pool)
    options = WorkerOptions(
        name=name,
        queues=chosen_queues(_names(queues or ()) or _known_queues(), _names(exclude_queues)),
        pool=pool,
        concurrency=1 if pool == "solo" else concurrency,
        lease=settings.WORKER_LEASE,
        banner=False,
    )
    running = ThreadWorker(options)
    with ExitStack() as stack:
        stack.callback(lambda: running.stop(shutdown_timeout))
        running.start()
        yield running


def start_worker(
    app: Any = None,
    concurrency: int = 1,
    pool: str = "solo",
    *,
    shutdown_timeout: float = 10.0,
    queues: str | Sequence[str] | None = None,
    exclude_queues: str | Sequence[str] = (),
    hostname: str | None = None,
    **ignored: Any,
) -> Scope[ThreadWorker]:
    """Run a worker in threads, by Celery's name and with its arguments; ``worker`` is the same in our own words.

    The pool prefork becomes threads, as many. The app is the project's; logging, the ping and heartbeats have no effect.
    """
    del app, ignored
    if pool in _PROCESSES:
        pool = "threads" if concurrency > 1 else "solo"
    named = {} if hostname is None else {"name": hostname}
    return worker(queues, exclude_queues=exclude_queues, pool=pool, concurrency=concurrency, shutdown_timeout=shutdown_timeout, **named)
