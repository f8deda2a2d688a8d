"""What the contract of result backends is made with: metas as workers store them, and threads."""
# ruff: noqa: S101  asserting is what a contract does

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from django.conf import settings
from django.test import override_settings

from django_tasks import clock, states
from django_tasks.messages import new_id
from django_tasks.result_backends.backend import ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import encode_value

T = TypeVar("T")

#: Seconds after which a test that waits gives up.
PATIENCE = 20.0
BODY: dict[str, Any] = {
    "task": "contract.body",
    "args": [],
    "kwargs": {},
    "options": {"task_id": "body"},
    "subtask_type": None,
    "immutable": False,
}


def meta(task_id: str | None = None, status: str = states.SUCCESS, value: Any = 5, **fields: Any) -> ResultMeta:
    """Make a meta as a worker would store it."""
    text, content_type, content_encoding = encode_value(value)
    ready = status in states.READY_STATES
    parts: dict[str, Any] = {
        "task_id": task_id or new_id(),
        "status": status,
        "result": text,
        "content_type": content_type,
        "content_encoding": content_encoding,
        "date_done": clock.now() if ready else None,
    }
    return ResultMeta(**{**parts, **fields})


def failure(task_id: str | None = None, error: BaseException | None = None, **fields: Any) -> ResultMeta:
    """Make the meta of a task that raised."""
    return meta(task_id, states.FAILURE, error or ValueError("bad", 3), traceback="Traceback: ...", **fields)


def part(group_id: str, position: int | None, **fields: Any) -> ResultMeta:
    """Make the meta of a chord's part that returned its position."""
    return meta(value=position, group_id=group_id, group_index=position, chord=BODY, **fields)


class ResultProbes:
    """Parts of the contract's tests."""

    #: Whether concurrent writes are exact.
    EXACT: ClassVar[bool] = True
    #: Whether a complete chord is claimed for a time, and handed out again where nobody closes it.
    CLAIMS: ClassVar[bool] = True
    #: Whether the backend itself deletes what is old; otherwise the store does it.
    EXPIRES: ClassVar[bool] = True

    @staticmethod
    def status(backend: ResultBackend, task_id: str) -> str:
        """Read one task's state."""
        return backend.fetch([task_id])[task_id].status

    @staticmethod
    def plain(value: Any) -> Any:
        """Turn tuples into lists: JSON knows no tuples, and memory does."""
        return [ResultProbes.plain(each) for each in value] if isinstance(value, list | tuple) else value

    @staticmethod
    def until(found: Callable[[], T]) -> T:
        """Ask until the answer is something, which may take seconds."""
        end = clock.monotonic() + PATIENCE
        while not (answer := found()):
            assert clock.monotonic() < end, "it did not come"
            time.sleep(0.02)
        return answer

    @staticmethod
    def impatient() -> override_settings:
        """Let claims of chords lapse within a second or so."""
        own = getattr(settings, "DJANGO_TASKS", {})
        return override_settings(DJANGO_TASKS={**own, "RESULT_CHORD_JOIN_TIMEOUT": 0.1, "BROKER_CONNECTION_TIMEOUT": 0.1})

    def in_thread(self, work: Callable[[], None]) -> None:
        """Run in a thread; override it to close what a thread opens."""
        work()

    @contextmanager
    def beside(self, *works: Callable[[], None]) -> Iterator[None]:
        """Run these in threads beside the block; what they raise is raised at its end."""
        errors: list[BaseException] = []

        def run(work: Callable[[], None]) -> None:
            try:
                self.in_thread(work)
            except BaseException as error:  # noqa: BLE001  raised again in the test's thread
                errors.append(error)

        threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join(PATIENCE)
            assert not any(thread.is_alive() for thread in threads), "a thread hangs"
            if errors:
                raise errors[0]

    def all_at_once(self, works: Sequence[Callable[[], None]]) -> None:
        """Run these in threads that start at the same moment."""
        gate = threading.Barrier(len(works), timeout=PATIENCE)

        def held(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                gate.wait()
                work()

            return run

        with self.beside(*map(held, works)):
            pass
