"""Sets and groups of results: their values in one wait, counts, members, and where they are kept."""

import asyncio

import pytest

from django_tasks import AsyncResult, EagerResult, GroupResult, ResultSet, states
from django_tasks.result_backends.memory import MemoryResultBackend
from tests.unit.result.keeping import Counting, keep, many, soon


def test_values_come_in_order_and_in_one_wait(backend):
    """get() of a set returns values in the members' order, of nested groups as lists, with one question for all."""
    results = ResultSet([AsyncResult("a"), GroupResult("g", [AsyncResult("b"), AsyncResult("c")]), EagerResult("e", "E", states.SUCCESS)])
    for name in "cba":
        keep(backend, name, value=name.upper())
    backend.calls.clear()
    assert results.get(timeout=1) == ["A", ["B", "C"], "E"]
    assert results.join() == results.join_native() == ["A", ["B", "C"], "E"]
    assert backend.calls == [("fetch", 3)]
    seen = []
    results.get(callback=lambda task_id, value: seen.append((task_id, value)))
    assert seen == [("a", "A"), ("g", ["B", "C"]), ("e", "E")]
    assert ResultSet([]).get() == []


def test_a_set_waits_for_the_last(backend):
    """get() returns when the last one is there; time is for all of them together, and the error counts what is missing."""
    results = many(backend, 0, 1)
    results.add(AsyncResult("late"))
    with pytest.raises(TimeoutError, match="1 of 3 results"):
        results.get(timeout=0.02)
    with soon(lambda: keep(backend, "late", value=2)):
        assert results.get(timeout=50) == [0, 1, 2]


def test_the_same_task_twice_in_a_set(backend):
    """Two objects of one task both get its end."""
    results = ResultSet([AsyncResult("a"), AsyncResult("a"), GroupResult("g", [AsyncResult("a")])])
    with soon(lambda: keep(backend, "a", value=1)):
        assert results.get(timeout=50) == [1, 1, [1]]


def test_a_failure_ends_the_wait(backend):
    """A failed member is raised while others still run; with propagate=False it lies in its place."""
    results = many(backend, 0, ValueError("one"))
    results.add(AsyncResult("never"))
    for wait in (lambda: results.get(timeout=20), lambda: asyncio.run(results.aget(timeout=20))):
        with pytest.raises(ValueError, match="one"):
            wait()
    running_ones = ResultSet([AsyncResult("never"), AsyncResult("soon")])
    with soon(lambda: keep(backend, "soon", states.FAILURE, ValueError("two"))), pytest.raises(ValueError, match="two"):
        running_ones.get(timeout=20)
    first, second = many(backend, 0, ValueError("one")).get(propagate=False)
    assert (first, repr(second)) == (0, "ValueError('one')")


def test_a_sets_results_can_be_awaited(backend):
    """``await group`` returns the values."""

    async def wait():
        asyncio.get_running_loop().call_later(0.02, lambda: keep(backend, "b", value=2))
        return await GroupResult("g", [AsyncResult("a"), AsyncResult("b"), EagerResult("e", 3, states.SUCCESS)])

    keep(backend, "a", value=1)
    assert asyncio.run(wait()) == [1, 2, 3]


def test_values_as_they_come(backend):
    """iterate() yields values, iter_native() ids with dictionaries, each as soon as it is there."""
    keep(backend, "b", value="B")
    results = [AsyncResult("a"), GroupResult("g", [AsyncResult("b")]), EagerResult("e", "E", states.SUCCESS)]
    with soon(lambda: keep(backend, "a", value="A")):
        assert list(ResultSet(results).iterate(timeout=10)) == ["E", "B", "A"]
    found = dict(ResultSet(results).iter_native())
    assert {task_id: document["result"] for task_id, document in found.items()} == {"a": "A", "b": "B", "e": "E"}
    assert found["a"]["status"] == states.SUCCESS
    failed = many(backend, ValueError("x"))
    assert repr(next(failed.iter_native())[1]["result"]) == "ValueError('x')"
    with pytest.raises(ValueError, match="x"):
        list(failed.iterate())


def test_counting(backend):
    """Sets count what is ready, has succeeded or failed, with one question each time."""
    results = many(backend, 0, ValueError("x"))
    results.add(AsyncResult("unknown"))
    assert (results.ready(), results.waiting(), results.successful(), results.failed()) == (False, True, False, True)
    assert (results.completed_count(), results.ready_count(), results.state, len(results)) == (1, 2, states.PENDING, 3)
    assert backend.calls[0] == ("fetch", 3)
    assert set(backend.calls[1:]) == {("fetch", 1)}
    keep(backend, "unknown", value=2)
    assert (results.ready(), results.state) == (True, states.FAILURE)
    assert many(backend, 0, 1).state == states.SUCCESS
    with pytest.raises(ValueError, match="x"):
        results.maybe_throw()
    results.maybe_throw(propagate=False)


def test_members(backend):
    """A set takes members once, by object or id, and says when one to be removed isn't there."""
    a, b, group = AsyncResult("a"), AsyncResult("b"), GroupResult("g", [])
    results = ResultSet([a])
    results.add(AsyncResult("a"))
    results.update([b, a, group])
    assert (list(results), results[1], results[:1], b in results) == ([a, b, group], b, [a], True)
    results.remove("b")
    results.remove("g")
    with pytest.raises(KeyError):
        results.remove("b")
    results.discard(b)
    results.discard("a")
    assert len(results) == 0
    results.update([a, b])
    results.clear()
    assert results == ResultSet([])
    assert results != []


def test_sets_over_several_backends(backend):
    """Members may lie in different backends; each is asked for its own."""
    other = Counting("other")
    other.clear()
    results = ResultSet([AsyncResult("a"), AsyncResult("b", backend=other)])
    keep(other, "b", value=2)
    with soon(lambda: keep(backend, "a", value=1)):
        assert results.get(timeout=50) == [1, 2]
    results.forget()
    assert (backend.fetch(["a"]), other.fetch(["b"])) == ({}, {})


def test_callbacks_of_a_set(backend):
    """then() calls once all are ready, with what came of them; now, or when a later reading notices."""
    seen = []
    results = ResultSet([AsyncResult("a"), AsyncResult("b")])
    results.then(lambda r: seen.append(r.get()), lambda r: seen.append("bad"))
    keep(backend, "a", value=1)
    assert not results.ready()
    assert seen == []
    keep(backend, "b", value=2)
    assert results.get() == [1, 2]
    assert results.ready()
    assert seen == [[1, 2]]
    many(backend, 0, ValueError()).then(lambda r: seen.append("never"), lambda r: seen.append("bad"))
    assert seen[1:] == ["bad"]


@pytest.mark.parametrize("way", ["iter_native", "iterate"])
def test_callbacks_of_a_set_that_is_walked_through(backend, way):
    """then() callbacks, of the set and of each member, must be called when the last result is handed out."""
    seen = []
    results = ResultSet([AsyncResult("a"), AsyncResult("b")])
    results.then(lambda r: seen.append("all"))
    for one in results.results:
        one.then(lambda r: seen.append(r.id))
    with soon(lambda: keep(backend, "a", value=1), lambda: keep(backend, "b", value=2)):
        arriving = getattr(results, way)(timeout=5)
        next(arriving)
        assert seen == ["a"]
        next(arriving)
    assert seen == ["a", "b", "all"]


def test_groups_are_saved_and_restored(backend):
    """A saved group comes back with members, nested groups and parents; deleted or unknown ones are None."""
    group = GroupResult("g", [AsyncResult("a"), GroupResult("h", [AsyncResult("b")])], parent=AsyncResult("p"))
    assert group.save() is group
    again = GroupResult.restore("g")
    assert again == group
    assert (again.parent, again.children, again.task_id) == ("p", group.results, "g")
    other = MemoryResultBackend("elsewhere")
    group.save(backend=other)
    assert GroupResult.restore("g", backend=other).results[0].backend is other
    group.delete()
    assert GroupResult.restore("g") is None
    assert GroupResult.restore("g", backend=other) == group
    assert bool(GroupResult("x", []))
    assert len(GroupResult()) == 0
    assert GroupResult("g", [AsyncResult("a")]) != GroupResult("g", [])


def test_forgetting_a_set(backend):
    """forget() deletes all members, nested ones and what they follow, in one round trip."""
    results = many(backend, 0, 1)
    keep(backend, "p", value=1)
    results.add(GroupResult("g", [AsyncResult("x", parent=AsyncResult("p")), EagerResult("e", 1, states.SUCCESS)]))
    assert results.ready_count() == 3
    results.forget()
    assert results.ready_count() == 1
    assert backend.fetch(["m0", "m1", "x", "p"]) == {}
    assert [call for call in backend.calls if call[0] == "forget"] == [("forget", 4)]
