"""What every result backend must do, as tests: subclass ``ResultBackendContract``, give it a ``backend`` fixture, run pytest.

    class TestMyResults(ResultBackendContract):
        @pytest.fixture
        def backend(self):
            backend = open_result_backend("my://localhost")
            yield backend
            backend.close()

Every test uses ids of its own, so the store need not be empty. ``EXACT = False`` is for stores without transactions: it
leaves out the tests in which writers race, and those in which the backend itself deletes what is old. ``EXPIRES = False``
leaves out the latter: for stores that do it. ``CLAIMS = False`` leaves out those of chords that are handed out again.
"""
# ruff: noqa: S101  asserting is what a contract does

import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django_tasks import clock, states
from django_tasks.exceptions import TimeoutError as TaskTimeoutError
from django_tasks.messages import new_id
from django_tasks.result_backends.backend import ResultBackend
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.chord_batch_contract import ChordBatchContract
from django_tasks.testing.chord_contract import ChordContract
from django_tasks.testing.result_probes import PATIENCE, failure, meta


class ResultBackendContract(ChordContract, ChordBatchContract):
    """The conformance suite of result backends."""

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
            stamps={"tenant": "acme", "monitoring": [7, {"x": None}]},
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

    def test_one_task_by_celerys_names(self, backend: ResultBackend) -> None:
        """``get_state`` and its kin must read what ``store_result`` stored, values and exceptions; an unknown task is PENDING."""
        known, failed = new_id(), new_id()
        assert backend.store_result(known, {"x": [1]}, states.SUCCESS) == {"x": [1]}
        backend.store_result(failed, KeyError("k"), states.FAILURE, traceback="tb")
        assert (backend.get_state(known), backend.get_status(known), backend.get_result(known)) == ("SUCCESS", "SUCCESS", {"x": [1]})
        assert (backend.get_state(failed), backend.get_traceback(failed)) == ("FAILURE", "tb")
        assert isinstance(backend.get_result(failed), KeyError)
        assert backend.get_task_meta(known)["date_done"] is not None
        assert backend.get_task_meta("nobody's")["status"] == states.PENDING

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
        """A group's result tuple must be read as JSON gives it, be replaced by a second write, and be forgotten."""
        group_id = new_id()
        group = [[group_id, None], [[["a", None], None], [["b", [["p", None], None]], None]]]
        assert backend.fetch_group(group_id) is None
        backend.store_group(group_id, group)
        assert self.plain(backend.fetch_group(group_id)) == group
        backend.store_group(group_id, [[group_id, None], []])
        assert self.plain(backend.fetch_group(group_id)) == [[group_id, None], []]
        backend.forget_group(group_id)
        backend.forget_group(group_id)
        assert backend.fetch_group(group_id) is None

    def test_many_groups(self, backend: ResultBackend) -> None:
        """Groups that are stored, read and forgotten together must each be what it would be alone."""
        groups = {group_id: [[group_id, None], [[[f"{group_id} member", None], None]]] for group_id in (new_id() for _ in range(3))}
        first, *others = groups
        backend.store_groups(groups)
        backend.store_groups({})
        assert {name: self.plain(members) for name, members in backend.fetch_groups([*groups, new_id()]).items()} == groups
        assert self.plain(backend.fetch_group(first)) == groups[first]
        backend.forget_groups([*others, new_id()])
        assert list(backend.fetch_groups(groups)) == [first]

    # ---- retention

    def test_expire(self, backend: ResultBackend) -> None:
        """Up to ``limit`` results that ended before the time must go, and no others."""
        if not (self.EXACT and self.EXPIRES):
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

    # ---- the process

    def test_closing(self, backend: ResultBackend) -> None:
        """After ``close`` the next call must connect again; closing twice must be allowed."""
        stored = meta()
        backend.store([stored])
        backend.close()
        backend.close()
        assert decode(backend.fetch([stored.task_id])[stored.task_id]) == 5
