"""What every result backend must do, as tests: subclass ``ResultBackendContract``, give it a ``backend`` fixture, run pytest.

    class TestMyResults(ResultBackendContract):
        @pytest.fixture
        def backend(self):
            backend = open_result_backend("my://localhost")
            yield backend
            backend.close()

Every test uses ids of its own, so the store need not be empty. ``EXACT = False`` is for stores without transactions: it
leaves out the tests in which writers race, and those in which the backend itself deletes what is old.
"""
# ruff: noqa: S101  asserting is what a contract does

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from django_tasks import clock, states
from django_tasks.exceptions import TimeoutError as TaskTimeoutError
from django_tasks.messages import new_id
from django_tasks.result_backends.backend import ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import decode, encode_value

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


class ResultBackendContract:
    """The conformance suite of result backends."""

    EXACT: ClassVar[bool] = True

    # ---- what is kept

    def test_everything_comes_back(self, backend: ResultBackend) -> None:
        """Every field that is kept must be read as it was stored."""
        stored = meta(
            traceback="Traceback: …\nValueError: ☃",
            children=[[["child", None], None]],
            date_done=datetime(2026, 11, 21, 3, 4, 5, 678901, tzinfo=UTC),
            date_started=datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC),
            name="shop.tasks.wrap",
            args='[1,"\\u00fc"]',
            kwargs='{"x":null}',
            worker="w1@host",
            queue="tea",
            retries=2,
            runtime=0.25,
            group_id=new_id(),
            group_index=7,
            root_id=new_id(),
            parent_id=new_id(),
            periodic_task_name="every morning",
        )
        backend.store([stored])
        assert backend.fetch([stored.task_id]) == {stored.task_id: stored}

    def test_values_come_back(self, backend: ResultBackend) -> None:
        """Values of every kind that a serializer can take must be read as they were."""
        moment = datetime(2026, 11, 21, tzinfo=UTC)
        values = [None, 0, False, "", "nul \0 and ☃", [1, [2]], {"a": {"b": 1.5}}, moment, "x" * 100_000]
        metas = [meta(value=value) for value in values]
        backend.store(metas)
        found = backend.fetch([each.task_id for each in metas])
        assert [decode(found[each.task_id]) for each in metas] == values

    def test_exceptions_come_back(self, backend: ResultBackend) -> None:
        """An exception must come back with its class, its arguments and its traceback."""
        stored = failure()
        backend.store([stored])
        found = backend.fetch([stored.task_id])[stored.task_id]
        error = decode(found)
        assert type(error) is ValueError
        assert error.args == ("bad", 3)
        assert found.traceback == stored.traceback

    def test_nul_in_any_text(self, backend: ResultBackend) -> None:
        """Text with NUL characters, or with half a surrogate pair, must not keep a result from being stored."""
        stored = meta(name="a\0b", worker="w\0", queue="q", traceback="t\0b \ud800", args='["\\u0000"]')
        backend.store([stored])
        found = backend.fetch([stored.task_id])[stored.task_id]
        assert found.status == states.SUCCESS
        assert decode(found) == 5

    def test_unknown_tasks_are_absent(self, backend: ResultBackend) -> None:
        """Tasks of which nothing is known must be left out, and asking for none must be allowed."""
        stored = meta()
        backend.store([stored])
        assert set(backend.fetch([new_id(), stored.task_id])) == {stored.task_id}
        assert backend.fetch([]) == {}
        backend.store([])

    def test_many_at_once(self, backend: ResultBackend) -> None:
        """A batch larger than any statement's limit must be kept and read whole."""
        metas = [meta(value=number, name="n", worker="w", args="[]") for number in range(1200)]
        backend.store(metas)
        found = backend.fetch([each.task_id for each in metas])
        assert [decode(found[each.task_id]) for each in metas] == list(range(1200))

    def test_forget(self, backend: ResultBackend) -> None:
        """Nothing must be left of forgotten tasks; forgetting unknown ones must be allowed."""
        one, other = meta(), meta()
        backend.store([one, other])
        backend.forget([one.task_id, new_id()])
        backend.forget([])
        assert set(backend.fetch([one.task_id, other.task_id])) == {other.task_id}

    # ---- one write after the other

    def test_a_life_in_writes(self, backend: ResultBackend) -> None:
        """STARTED, RETRY and SUCCESS in turn must each replace the state; the first start stays the start."""
        task_id, first = new_id(), datetime(2026, 1, 1, tzinfo=UTC)
        later = first + timedelta(seconds=9)
        backend.store([meta(task_id, states.STARTED, {"pid": 1}, date_started=first, name="n")])
        assert self.status(backend, task_id) == states.STARTED
        backend.store([meta(task_id, states.RETRY, OSError("away"), retries=1, traceback="tb")])
        assert self.status(backend, task_id) == states.RETRY
        backend.store([meta(task_id, "PROGRESS", {"done": 3}, retries=1)])
        assert self.status(backend, task_id) == "PROGRESS"
        backend.store([meta(task_id, retries=1, date_started=later)])
        found = backend.fetch([task_id])[task_id]
        assert (found.status, decode(found), found.traceback, found.retries) == (states.SUCCESS, 5, None, 1)
        assert found.date_started == first
        assert found.date_done is not None

    def test_success_is_final(self, backend: ResultBackend) -> None:
        """Nothing must replace a SUCCESS."""
        task_id = new_id()
        backend.store([meta(task_id, value="kept")])
        for status in (states.FAILURE, states.REVOKED, states.RETRY, states.STARTED, "PROGRESS", states.SUCCESS):
            backend.store([meta(task_id, status, "other", name="other")])
        found = backend.fetch([task_id])[task_id]
        assert (found.status, decode(found), found.name) == (states.SUCCESS, "kept", None)

    def test_unready_never_replaces_ready(self, backend: ResultBackend) -> None:
        """A late STARTED, RETRY or state of the task's own must not hide that the task has ended; another end may."""
        task_id = new_id()
        backend.store([failure(task_id)])
        for status in (states.STARTED, states.RETRY, states.RECEIVED, states.PENDING, "PROGRESS"):
            backend.store([meta(task_id, status, {})])
            assert self.status(backend, task_id) == states.FAILURE
        backend.store(
            [meta(task_id, states.REVOKED, {"exc_type": "TaskRevokedError", "exc_message": [], "exc_module": "celery.exceptions"})]
        )
        assert self.status(backend, task_id) == states.REVOKED
        backend.store([meta(task_id)])
        assert self.status(backend, task_id) == states.SUCCESS

    def test_less_erases_nothing(self, backend: ResultBackend) -> None:
        """A later write that knows less (a revocation by hand) must leave name, arguments and the rest alone."""
        task_id, group_id = new_id(), new_id()
        details = {"name": "n", "args": "[1]", "kwargs": "{}", "worker": "w", "queue": "q", "periodic_task_name": "daily", "runtime": 1.5}
        places = {"children": [], "group_id": group_id, "group_index": 3, "root_id": "r", "parent_id": "p", "retries": 2}
        known: dict[str, Any] = {**details, **places}
        backend.store([meta(task_id, states.RETRY, {}, **known)])
        backend.store([failure(task_id)])
        found = backend.fetch([task_id])[task_id]
        assert found.status == states.FAILURE
        assert {name: getattr(found, name) for name in known} == known

    def test_one_task_twice_in_a_batch(self, backend: ResultBackend) -> None:
        """Several writes about one task in one batch must have the effect of the same writes one after the other."""
        one, other = new_id(), new_id()
        start = datetime(2026, 1, 1, tzinfo=UTC)
        backend.store(
            [
                meta(one, states.STARTED, {}, date_started=start, name="n"),
                meta(other, value="kept"),
                meta(one, value="end"),
                meta(other, states.STARTED, {}),
            ]
        )
        found = backend.fetch([one, other])
        assert (found[one].status, decode(found[one]), found[one].name, found[one].date_started) == (states.SUCCESS, "end", "n", start)
        assert (found[other].status, decode(found[other])) == (states.SUCCESS, "kept")

    def test_writers_that_race(self, backend: ResultBackend) -> None:
        """Of concurrent writes about one task a SUCCESS must win, and none of them may be lost or raise."""
        if not self.EXACT:
            return
        ids = [new_id() for _ in range(20)]

        def write(status: str) -> None:
            for task_id in ids:
                backend.store([meta(task_id, status, status, name="n"), meta(name="other")])

        self.all_at_once([partial(write, status) for status in (states.STARTED, states.FAILURE, states.SUCCESS)])
        assert {found.status for found in backend.fetch(ids).values()} == {states.SUCCESS}

    # ---- waiting

    def test_waiting_for_what_is_there(self, backend: ResultBackend) -> None:
        """Waiting for ready tasks must yield each once, at once, even with a timeout of 0."""
        metas = [meta(), failure()]
        backend.store(metas)
        ids = [each.task_id for each in metas]
        assert {found.task_id for found in backend.wait(ids, 0)} == set(ids)
        assert len(list(backend.wait([*ids, *ids], 0))) == 2
        assert list(backend.wait([], 0)) == []

    def test_waiting_ends_with_a_timeout(self, backend: ResultBackend) -> None:
        """What is ready must be yielded before the TimeoutError for the rest; STARTED is not ready."""
        ready, started = meta(), meta(status=states.STARTED, value={})
        backend.store([ready, started])
        waiting = backend.wait([ready.task_id, started.task_id, new_id()], 0.05)
        assert next(waiting).task_id == ready.task_id
        begun = clock.monotonic()
        try:
            next(waiting)
        except TaskTimeoutError:
            assert clock.monotonic() - begun < PATIENCE
        else:
            raise AssertionError("a task that has only started was yielded")

    def test_waiting_for_what_comes(self, backend: ResultBackend) -> None:
        """A waiting reader must be given tasks as others end them, in that order, and soon."""
        first, second = new_id(), new_id()
        told = threading.Event()

        def work() -> None:
            backend.store([meta(first, states.STARTED, {})])
            backend.store([meta(first)])
            assert told.wait(PATIENCE)
            backend.store([failure(second)])

        with self.beside(work):
            waiting = backend.wait([second, first], PATIENCE)
            assert next(waiting).task_id == first
            told.set()
            assert next(waiting).status == states.FAILURE
            assert next(waiting, None) is None

    # ---- groups

    def test_groups(self, backend: ResultBackend) -> None:
        """A group's members must be read as JSON gives them, be replaced by a second write, and be forgotten."""
        group_id = new_id()
        assert backend.fetch_group(group_id) is None
        backend.store_group(group_id, [[["a", None], None], [["b", ["p", None]], None]])
        assert self.plain(backend.fetch_group(group_id)) == [[["a", None], None], [["b", ["p", None]], None]]
        backend.store_group(group_id, [])
        assert self.plain(backend.fetch_group(group_id)) == []
        backend.forget_group(group_id)
        backend.forget_group(group_id)
        assert backend.fetch_group(group_id) is None

    # ---- chords

    def test_a_chord_is_complete_once(self, backend: ResultBackend) -> None:
        """The caller with the last part must get the body and all parts in the header's order; nobody else ever."""
        group_id, other = new_id(), new_id()
        backend.open_chord(group_id, 3, BODY)
        parts = [part(group_id, position) for position in (2, 0, 1)]
        backend.store(parts)
        assert backend.count_chord_parts(parts[:1]) == []
        assert backend.count_chord_parts(parts[1:2]) == []
        (ready,) = backend.count_chord_parts([parts[2], part(other, 0)])
        assert (ready.group_id, ready.body) == (group_id, BODY)
        assert [decode(each) for each in ready.parts] == [0, 1, 2]
        assert [each.task_id for each in ready.parts] == [parts[1].task_id, parts[2].task_id, parts[0].task_id]
        assert backend.count_chord_parts(parts) == []
        assert backend.count_chord_parts([part(group_id, 3)]) == []

    def test_a_part_counts_once(self, backend: ResultBackend) -> None:
        """A part that is delivered twice, in one batch or in several, must count once."""
        group_id = new_id()
        backend.open_chord(group_id, 2, BODY)
        one, other = part(group_id, 0), part(group_id, 1)
        backend.store([one, other])
        assert backend.count_chord_parts([one, one]) == []
        assert backend.count_chord_parts([one]) == []
        (ready,) = backend.count_chord_parts([other, one])
        assert [decode(each) for each in ready.parts] == [0, 1]

    def test_a_whole_chord_in_one_batch(self, backend: ResultBackend) -> None:
        """Parts of several chords in one batch must each count for their own."""
        ids = [new_id() for _ in range(3)]
        parts = [part(group_id, position) for position in range(2) for group_id in ids]
        for group_id in ids:
            backend.open_chord(group_id, 2, BODY)
        backend.store(parts)
        ready = backend.count_chord_parts(parts)
        assert sorted(each.group_id for each in ready) == sorted(ids)
        assert all([decode(each) for each in one.parts] == [0, 1] for one in ready)

    def test_opening_a_chord_twice(self, backend: ResultBackend) -> None:
        """Opening again (the task that sends the chord was delivered twice) must not start the count, or the body, again."""
        group_id = new_id()
        backend.open_chord(group_id, 2, BODY)
        parts = [part(group_id, 0), part(group_id, 1)]
        backend.store(parts)
        backend.count_chord_parts(parts[:1])
        backend.open_chord(group_id, 2, BODY)
        assert len(backend.count_chord_parts(parts[1:])) == 1
        backend.open_chord(group_id, 2, BODY)
        assert backend.count_chord_parts(parts) == []

    def test_a_chord_can_grow(self, backend: ResultBackend) -> None:
        """``grow_chord`` must make the body wait for the new parts, too; growing an unknown or complete one does nothing."""
        group_id = new_id()
        backend.open_chord(group_id, 1, BODY)
        backend.grow_chord(group_id, 1)
        backend.grow_chord(new_id(), 1)
        parts = [part(group_id, 0), part(group_id, None)]
        backend.store(parts)
        assert backend.count_chord_parts(parts[1:]) == []
        (ready,) = backend.count_chord_parts(parts[:1])
        assert [each.task_id for each in ready.parts] == [each.task_id for each in parts]
        backend.grow_chord(group_id, 1)
        assert backend.count_chord_parts([part(group_id, 2)]) == []

    def test_a_failed_part_ends_the_chord(self, backend: ResultBackend) -> None:
        """A failed or revoked part must make the chord ready at once, with that part; what comes later does nothing."""
        for status in (states.FAILURE, states.REVOKED):
            group_id = new_id()
            backend.open_chord(group_id, 3, BODY)
            good, bad = part(group_id, 0), meta(status=status, value=ValueError("bad"), group_id=group_id, group_index=1, chord=BODY)
            backend.store([good, bad])
            assert backend.count_chord_parts([good]) == []
            (ready,) = backend.count_chord_parts([bad])
            assert [each.status for each in ready.parts] == [states.SUCCESS, status]
            assert isinstance(decode(ready.parts[1]), ValueError)
            assert backend.count_chord_parts([bad, part(group_id, 2)]) == []

    def test_unready_parts_do_not_count(self, backend: ResultBackend) -> None:
        """A part that is to be retried must not count."""
        group_id = new_id()
        backend.open_chord(group_id, 1, BODY)
        task_id = new_id()
        assert backend.count_chord_parts([meta(task_id, states.RETRY, {}, group_id=group_id, group_index=0, chord=BODY)]) == []
        done = part(group_id, 0, task_id=task_id)
        backend.store([done])
        assert len(backend.count_chord_parts([done])) == 1

    def test_a_part_whose_result_is_gone(self, backend: ResultBackend) -> None:
        """A part whose result was deleted meanwhile must not make the list shorter: it stands there, good or as a FAILURE."""
        group_id = new_id()
        backend.open_chord(group_id, 2, BODY)
        parts = [part(group_id, 0), part(group_id, 1)]
        backend.store(parts)
        backend.count_chord_parts(parts[:1])
        backend.forget([parts[0].task_id])
        (ready,) = backend.count_chord_parts(parts[1:])
        assert [each.task_id for each in ready.parts] == [each.task_id for each in parts]
        assert ready.parts[0].status in {states.SUCCESS, states.FAILURE}

    def test_parts_that_race(self, backend: ResultBackend) -> None:
        """Of workers that finish parts at the same moment exactly one must get the chord, with every part."""
        for _ in range(5):
            group_id = new_id()
            backend.open_chord(group_id, 8, BODY)
            parts = [part(group_id, position) for position in range(8)]
            found: list[ReadyChord] = []

            def count(mine: Sequence[ResultMeta], found: list[ReadyChord]) -> None:
                for each in mine:
                    backend.store([each])
                    found.extend(backend.count_chord_parts([each]))

            # Two threads share each half: every part is delivered twice.
            self.all_at_once([partial(count, mine, found) for mine in (parts[:4], parts[4:], parts[3::-1], parts[:3:-1])])
            assert [[decode(each) for each in ready.parts] for ready in found] == [list(range(8))]

    # ---- retention

    def test_expire(self, backend: ResultBackend) -> None:
        """Up to ``limit`` results that ended before the time must go, and no others."""
        if not self.EXACT:
            assert backend.expire(clock.now(), limit=10) >= 0
            return
        before = datetime(2001, 1, 1, tzinfo=UTC)
        while backend.expire(before, limit=1000):
            pass
        old = [meta(date_done=before - timedelta(hours=hours)) for hours in range(1, 6)]
        recent, running = meta(), meta(status=states.STARTED, value={}, date_started=clock.now())
        backend.store([*old, recent, running])
        assert backend.expire(before, limit=3) == 3
        assert backend.expire(before, limit=3) == 2
        assert backend.expire(before, limit=3) == 0
        assert set(backend.fetch([each.task_id for each in (*old, recent, running)])) == {recent.task_id, running.task_id}

    def test_expiry_spares_what_a_chord_needs(self, backend: ResultBackend) -> None:
        """The results of a chord's parts must stay as long as the chord waits for others."""
        if not self.EXACT:
            return
        group_id, before = new_id(), clock.now() - timedelta(hours=1)
        backend.open_chord(group_id, 2, BODY)
        early = part(group_id, 0, date_done=before - timedelta(hours=1))
        late = part(group_id, 1)
        backend.store([early])
        backend.count_chord_parts([early])
        while backend.expire(before, limit=1000):
            pass
        backend.store([late])
        (ready,) = backend.count_chord_parts([late])
        assert [decode(each) for each in ready.parts] == [0, 1]

    # ---- the process

    def test_closing(self, backend: ResultBackend) -> None:
        """After ``close`` the next call must connect again; closing twice must be allowed."""
        stored = meta()
        backend.store([stored])
        backend.close()
        backend.close()
        assert decode(backend.fetch([stored.task_id])[stored.task_id]) == 5

    # ---- parts of tests

    @staticmethod
    def status(backend: ResultBackend, task_id: str) -> str:
        """Read one task's state."""
        return backend.fetch([task_id])[task_id].status

    @staticmethod
    def plain(value: Any) -> Any:
        """Turn tuples into lists: JSON knows no tuples, and memory does."""
        return [ResultBackendContract.plain(each) for each in value] if isinstance(value, list | tuple) else value

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
