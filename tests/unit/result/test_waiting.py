"""Waiting for one task: get(), its callbacks and deadlines, await and then()."""

import asyncio
import threading

import pytest

from django_tasks import AsyncResult, EagerResult, GroupResult, ResultSet, exceptions, states
from django_tasks.result import allow_join_result, assert_will_not_block, denied_join_result
from django_tasks.result_backends.disabled import DisabledResultBackend
from tests.unit.result.keeping import in_task, keep, many, soon


def test_get_returns_what_is_there_and_what_comes(backend):
    """get() returns at once what is kept, and what another thread stores a little later."""
    keep(backend, "a", value=5)
    assert AsyncResult("a").get(timeout=0) == 5
    with soon(lambda: keep(backend, "b", value=6)):
        assert AsyncResult("b").get(timeout=50) == AsyncResult("b").wait(timeout=10) == 6


def test_get_raises_the_tasks_exception(backend):
    """A failure is raised as its own class, anew each time; with propagate=False it is returned."""
    keep(backend, "a", states.FAILURE, KeyError("k"))
    result = AsyncResult("a")
    raised = []
    for _ in range(2):
        with pytest.raises(KeyError) as info:
            result.get()
        raised.append(info.value)
    assert raised[0] is not raised[1]
    assert isinstance(result.get(propagate=False), KeyError)
    assert isinstance(result.result, KeyError)
    keep(backend, "r", states.REVOKED, exceptions.TaskRevokedError("revoked"))
    with pytest.raises(exceptions.TaskRevokedError):
        AsyncResult("r").get()
    assert AsyncResult("a").get(PROPAGATE_STATES=()).args == ("k",)


def test_retry_is_not_an_end(backend):
    """A task that will be retried shows its exception, but get() waits on."""
    keep(backend, "a", states.RETRY, ValueError("again"))
    result = AsyncResult("a")
    assert isinstance(result.info, ValueError)
    assert isinstance(result.maybe_throw(), ValueError)
    with pytest.raises(exceptions.TimeoutError):
        result.get(timeout=0.01)


def test_time_is_up_by_every_name(backend):
    """The error is Python's TimeoutError, ours, and the one that the class names; it says how long."""
    result = AsyncResult("a")
    for kind in (TimeoutError, exceptions.TimeoutError, result.TimeoutError, ResultSet.TimeoutError):
        with pytest.raises(kind, match=r"1 of 1 results were not there within 0\.01 seconds"):
            result.get(timeout=0.01)
    with pytest.raises(result.TimeoutError):
        result.get(timeout=0)


def test_callbacks_of_get(backend):
    """``callback`` gets id and value, ``on_message`` Celery's dictionary; neither is called for a failure that is raised."""
    keep(backend, "a", value=5)
    keep(backend, "f", states.FAILURE, ValueError("x"))
    seen = []
    AsyncResult("a").get(callback=lambda task_id, value: seen.append((task_id, value)), on_message=lambda d: seen.append(d["status"]))
    assert seen == ["SUCCESS", ("a", 5)]
    with pytest.raises(ValueError, match="x"):
        AsyncResult("f").get(callback=lambda *given: seen.append(given))
    assert len(seen) == 2
    AsyncResult("a").maybe_throw(callback=lambda *given: seen.append(given))
    assert seen[2:] == [("a", 5)]


def test_states_on_the_way_are_shown(backend):
    """``on_message`` hears of each state that lasts, once, and of the end; ``on_interval`` is called in its own time."""
    keep(backend, "a", "PROGRESS", {"done": 1})
    seen, ticks = [], []

    def hear(document):
        seen.append((document["status"], document["result"]))
        if len(seen) < 3:
            keep(backend, "a", *[("PROGRESS", {"done": 2}), (states.SUCCESS, 5)][len(seen) - 1])

    assert AsyncResult("a").get(timeout=10, on_message=hear, interval=60, on_interval=lambda: ticks.append(1)) == 5
    assert seen == [("PROGRESS", {"done": 1}), ("PROGRESS", {"done": 2}), ("SUCCESS", 5)]
    assert not ticks


def test_a_set_shows_each_message(backend):
    """``on_message`` is called for each task of a set, known before or not, also for the failure that ends the wait."""
    results = many(backend, 1, 2)
    results.add(GroupResult("g", [AsyncResult("late"), EagerResult("e", 3, states.SUCCESS)]))
    seen = []
    with soon(lambda: keep(backend, "late", value=4)):
        assert results.get(timeout=10, on_message=lambda document: seen.append((document["task_id"], document["result"]))) == [1, 2, [4, 3]]
    assert sorted(seen) == [("e", 3), ("late", 4), ("m0", 1), ("m1", 2)]
    keep(backend, "f", states.FAILURE, ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        ResultSet([AsyncResult("f")]).join_native(on_message=lambda document: seen.append(document["status"]))
    assert seen[4:] == [states.FAILURE]
    assert [document["result"] for _, document in many(backend, 1).iter_native(on_message=seen.append)] == [seen[5]["result"]] == [1]


def test_on_interval_is_called_while_waiting(backend):
    """``on_interval`` is called every ``interval`` seconds, and its exception ends the wait."""
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            keep(backend, "a", value=5)

    assert AsyncResult("a").get(timeout=10, interval=0.005, on_interval=tick) == 5
    assert len(ticks) == 3

    def stop():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        AsyncResult("b").get(interval=0.005, on_interval=stop)
    with pytest.raises(TimeoutError):
        AsyncResult("b").get(timeout=0.02, interval=0.005, on_interval=lambda: None)


def test_ignored_results_are_none_at_once(backend):
    """Of a task that keeps no result, get() returns None without waiting; so do groups with such members."""
    result = AsyncResult("a")
    result.ignored = True
    assert result.get() is None
    assert asyncio.run(result.aget()) is None
    keep(backend, "b", value=2)
    assert ResultSet([result, AsyncResult("b")]).get(timeout=1) == [None, 2]
    assert ("wait", 1) not in backend.calls


def test_a_disabled_backend_says_so():
    """Waiting where nothing is kept raises an error that names the setting, at once."""
    with pytest.raises(NotImplementedError, match="RESULT_BACKEND"):
        AsyncResult("a", backend=DisabledResultBackend()).get()


def test_tasks_may_not_wait_for_tasks(backend):
    """Inside a task waiting is refused unless it is allowed; denied_join_result refuses it everywhere."""
    keep(backend, "a", value=5)
    result, group = AsyncResult("a"), ResultSet([AsyncResult("a")])
    with in_task():
        for wait in (result.get, group.get, group.join, lambda: next(group.iterate()), lambda: asyncio.run(group.aget())):
            with pytest.raises(RuntimeError, match="within a task"):
                wait()
        with pytest.raises(RuntimeError, match="within a task"):
            assert_will_not_block()
        assert result.get(disable_sync_subtasks=False) == 5
        with allow_join_result():
            assert_will_not_block()
            assert (result.get(), group.get()) == (5, [5])
            with denied_join_result(), pytest.raises(RuntimeError):
                result.get()
    with denied_join_result(), pytest.raises(RuntimeError):
        result.get()
    assert result.get() == 5


def test_await(backend):
    """``await result`` and ``aget`` give values and raise failures; hundreds wait without a thread for each."""

    async def wait_for_all():
        results = [AsyncResult(f"t{number}") for number in range(200)]
        waits = [asyncio.ensure_future(result.aget(timeout=20)) for result in results]
        await asyncio.sleep(0.01)
        assert threading.active_count() < 20
        for number in range(200):
            keep(backend, f"t{number}", value=number)
        return await asyncio.gather(*waits)

    async def await_one(result):
        return await result

    assert asyncio.run(wait_for_all()) == list(range(200))
    keep(backend, "f", states.FAILURE, KeyError("k"))
    with pytest.raises(KeyError):
        asyncio.run(await_one(AsyncResult("f")))
    assert isinstance(asyncio.run(AsyncResult("f").aget(propagate=False)), KeyError)
    with pytest.raises(exceptions.TimeoutError, match="1 of 1"):
        asyncio.run(AsyncResult("nobody").aget(timeout=0.01))
    assert asyncio.run(await_one(EagerResult("e", 1, states.SUCCESS))) == 1
    seen = []
    assert asyncio.run(AsyncResult("t1").aget(callback=lambda *given: seen.append(given))) == 1
    assert seen == [("t1", 1)]


def test_then(backend):
    """A callback is called once: at once if the task is ready, else when a later reading notices."""
    seen = []
    result = AsyncResult("a").then(lambda r: seen.append(("ok", r.result)), lambda r: seen.append(("bad", r.result)))
    assert seen == []
    keep(backend, "a", value=5)
    assert result.ready()
    assert result.get() == 5
    assert seen == [("ok", 5)]
    result.then(lambda r: seen.append(("late", r.result)))
    assert seen[1:] == [("late", 5)]
    keep(backend, "f", states.FAILURE, ValueError())
    AsyncResult("f").then(lambda r: seen.append("never"), lambda r: seen.append("bad"))
    AsyncResult("f").then(lambda r: seen.append("never"))
    assert seen[2:] == ["bad"]
