"""Results read what a backend keeps, wait for it, and know their families."""

import asyncio
import copy
import io
import pickle
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import pytest

from django_tasks import AsyncResult, EagerResult, GroupResult, ResultSet, app, clock, exceptions, result_backends, states
from django_tasks.context import Request, running
from django_tasks.messages import TaskMessage, new_id
from django_tasks.result import (
    DependencyGraph,
    ResultBase,
    allow_join_result,
    assert_will_not_block,
    denied_join_result,
    result_from_tuple,
    waiting,
)
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.disabled import DisabledResultBackend
from django_tasks.result_backends.encoding import encode_value
from django_tasks.result_backends.memory import MemoryResultBackend


class Counting(MemoryResultBackend):
    """Memory that counts what it is asked."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def fetch(self, task_ids):
        self.calls.append(("fetch", len(task_ids)))
        return super().fetch(task_ids)

    def wait(self, task_ids, timeout):
        self.calls.append(("wait", len(task_ids)))
        return super().wait(task_ids, timeout)

    def forget(self, task_ids):
        self.calls.append(("forget", len(task_ids)))
        super().forget(task_ids)


@pytest.fixture
def backend(monkeypatch):
    """The process's result backend."""
    backend = Counting("results")
    backend.clear()
    monkeypatch.setattr(result_backends, "current", lambda: backend)
    return backend


def keep(backend, task_id, status=states.SUCCESS, value=None, **more):
    text, content_type, content_encoding = encode_value(value, "json")
    if status in states.READY_STATES:
        more.setdefault("date_done", clock.now())
    backend.store(
        [ResultMeta(task_id=task_id, status=status, result=text, content_type=content_type, content_encoding=content_encoding, **more)]
    )


@contextmanager
def soon(*calls):
    """Make the calls in another thread, shortly after the block has begun."""
    thread = threading.Thread(target=lambda: [(time.sleep(0.02), call()) for call in calls])
    thread.start()
    try:
        yield
    finally:
        thread.join()


def many(backend, *values):
    for number, value in enumerate(values):
        keep(backend, f"m{number}", states.FAILURE if isinstance(value, Exception) else states.SUCCESS, value)
    return ResultSet([AsyncResult(f"m{number}") for number in range(len(values))])


def in_task():
    return running(Request(message=TaskMessage(id=new_id(), task="t")))


# ---- one task


def test_a_result_knows_nothing_of_an_unknown_task(backend):
    """An id of which nothing is kept is PENDING; exists() tells that from a task that says so."""
    result = AsyncResult("a")
    assert (result.state, result.status, result.result, result.info, result.traceback) == (states.PENDING, "PENDING", None, None, None)
    assert (result.ready(), result.successful(), result.failed(), result.exists()) == (False, False, False, False)
    assert (result.children, result.date_done, result.name, result.args, result.retries, result.runtime) == (None,) * 6
    keep(backend, "a", states.STARTED, {"pid": 1})
    assert result.exists()
    assert (result.state, result.info, result.ready()) == (states.STARTED, {"pid": 1}, False)


def test_a_result_tells_all_that_is_kept(backend):
    """Each detail has its property."""
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    details = {"name": "t", "worker": "w@h", "queue": "q", "retries": 2, "runtime": 1.5, "traceback": "tb"}
    keep(
        backend, "a", value=[1], args="[1]", kwargs='{"k":2}', date_started=start, date_done=end, children=[[["c", None], None]], **details
    )
    result = AsyncResult("a")
    assert {name: getattr(result, name) for name in details} == details
    assert (result.args, result.kwargs, result.date_started, result.date_done) == ([1], {"k": 2}, start, end)
    assert result.children == [AsyncResult("c")]
    assert result.document()["result"] == [1]
    assert result.document()["children"] == ["c"]
    assert {name: result.document()[name] for name in ("name", "args", "kwargs", "queue")} == {
        "name": "t",
        "args": [1],
        "kwargs": {"k": 2},
        "queue": "q",
    }


def test_stamps_of_a_result(backend):
    """Stamps are a detail of a result; in Celery's document, which its guide reads, they lie beside the other fields and hide none."""
    keep(backend, "a", value=5, stamps={"tenant": "acme", "ids": [1, 2], "result": "mine"})
    result = AsyncResult("a")
    assert result.stamps == {"tenant": "acme", "ids": [1, 2], "result": "mine"}
    document = result._get_task_meta()
    assert (document["tenant"], document["ids"], document["result"]) == ("acme", [1, 2], 5)
    assert document["stamped_headers"] == ["tenant", "ids"]
    keep(backend, "b", value=5)
    assert AsyncResult("b").stamps == AsyncResult("unknown").stamps == {}
    assert "stamped_headers" not in AsyncResult("b").document()


def test_an_end_is_read_once(backend):
    """What is final isn't asked for again, and is one object, as in Celery."""
    keep(backend, "a", value={"k": 1})
    result = AsyncResult("a")
    assert result.ready()
    assert result.result is result.get()
    assert result.get() == {"k": 1}
    assert (result.state, result.date_done is None) == (states.SUCCESS, False)
    assert backend.calls[1:] == []


def test_a_result_needs_an_id():
    """None and empty ids are refused with what was given."""
    for bad in (None, ""):
        with pytest.raises(ValueError, match="needs a task's id"):
            AsyncResult(bad)


def test_what_results_have_in_common(backend):
    """Every kind is a ResultBase, knows the app, and says whether it joins natively; task_id may be set."""
    result, eager = AsyncResult("a"), EagerResult("e", 1, states.SUCCESS)
    sets = [ResultSet([result]), GroupResult("g", [eager]), ResultSet([])]
    assert all(isinstance(each, ResultBase) and each.app is app for each in (result, eager, *sets))
    assert not isinstance("a", ResultBase)
    assert [each.supports_native_join for each in (result, eager, *sets)] == [True, False, True, False, None]
    keep(backend, "a", value=1)
    keep(backend, "b", value=2)
    assert result.get() == 1
    result.task_id = "b"
    assert (result.id, result.get()) == ("b", 2)


def test_revoking_by_stamps_is_a_command(backend, monkeypatch):
    """revoke_by_stamped_headers gives its arguments to app.control; ``wait`` waits for this task, but not for ever."""
    told = []
    monkeypatch.setattr(app, "control", type("Control", (), {"revoke_by_stamped_headers": lambda _self, *a, **k: told.append((a, k))})())
    result = AsyncResult("a")
    result.revoke_by_stamped_headers({"tenant": ["x"]}, terminate=True, signal="SIGKILL", wait=True, timeout=0.01)
    result.revoke_by_stamped_headers({"tenant": "y"})
    keep(backend, "a", value=1)
    result.revoke_by_stamped_headers({"tenant": "y"}, wait=True)
    assert told == [
        (({"tenant": ["x"]},), {"connection": None, "terminate": True, "signal": "SIGKILL"}),
        (({"tenant": "y"},), {"connection": None, "terminate": False}),
        (({"tenant": "y"},), {"connection": None, "terminate": False}),
    ]


def test_equality_and_text(backend):
    """A result equals its id and another of the same task, in sets and dictionaries, too."""
    result = AsyncResult("a")
    assert result == AsyncResult("a", backend=MemoryResultBackend("other")) == "a"
    assert result != "b"
    assert result != 1
    assert {result, AsyncResult("a")} == {result}
    assert (str(result), repr(result), repr(EagerResult("e", 1, "SUCCESS"))) == ("a", "<AsyncResult: a>", "<EagerResult: e>")
    assert (GroupResult("g", [result]) == "g", str(GroupResult("g"))) == (True, "g")
    assert repr(GroupResult("g", [result, GroupResult("h", [])])) == "<GroupResult: g [a, h]>"
    assert repr(ResultSet([result])) == "<ResultSet: [a]>"
    with pytest.raises(TypeError, match="unhashable"):
        hash(ResultSet([]))


def test_results_can_be_copied_and_pickled(backend):
    """A copy keeps its backend; what is pickled finds the project's."""
    own = MemoryResultBackend("own")
    result = AsyncResult("b", backend=own, parent=AsyncResult("a"))
    assert copy.copy(result).backend is own
    again = pickle.loads(pickle.dumps(result))
    assert (again, again.parent, again.backend) == (result, AsyncResult("a"), backend)
    group = pickle.loads(pickle.dumps(GroupResult("g", [result], parent=AsyncResult("p"))))
    assert group == GroupResult("g", [result], parent=AsyncResult("p"))
    eager = pickle.loads(pickle.dumps(EagerResult("e", 5, states.SUCCESS, name="t")))
    assert (eager.get(), eager.name, copy.copy(eager).get()) == (5, "t", 5)


# ---- waiting for one


def test_get_returns_what_is_there_and_what_comes(backend):
    """get() returns at once what is kept, and what another thread stores a little later."""
    keep(backend, "a", value=5)
    assert AsyncResult("a").get(timeout=0) == 5
    with soon(lambda: keep(backend, "b", value=6)):
        assert AsyncResult("b").get(timeout=10) == AsyncResult("b").wait(timeout=10) == 6


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


# ---- parents


def test_a_parents_failure_is_raised_in_place_of_what_came_of_it(backend):
    """When a step fails because an earlier one did, get() raises the earlier one's error, the first of all."""
    first, second = AsyncResult("1"), AsyncResult("2", parent=AsyncResult("1"))
    keep(backend, "1", states.FAILURE, KeyError("root"))
    keep(backend, "2", states.FAILURE, ValueError("second"))
    keep(backend, "3", states.FAILURE, exceptions.ChordError("third"))
    for third in (AsyncResult("3", parent=second), AsyncResult("3", parent=GroupResult("g", [second], parent=first))):
        with pytest.raises(KeyError, match="root"):
            third.get(timeout=1)
        with pytest.raises(KeyError, match="root"):
            asyncio.run(third.aget(timeout=1))
        with pytest.raises(exceptions.ChordError):
            third.get(timeout=1, follow_parents=False)
        assert isinstance(third.get(timeout=1, propagate=False), exceptions.ChordError)


def test_nobody_waits_for_what_a_failed_parent_never_starts(backend, monkeypatch):
    """A failed or revoked parent ends the wait for what was to follow, which may stay PENDING for ever."""
    monkeypatch.setattr(waiting, "_PARENTS_FIRST", 0.01)
    keep(backend, "1", states.REVOKED, exceptions.TaskRevokedError("revoked"))
    parent = AsyncResult("1")
    for later in (AsyncResult("2", parent=parent), GroupResult("g", [AsyncResult("2")], parent=parent)):
        with pytest.raises(exceptions.TaskRevokedError):
            later.get(timeout=20)
        with pytest.raises(exceptions.TaskRevokedError):
            asyncio.run(later.aget(timeout=20))
        with pytest.raises(exceptions.TaskRevokedError):
            later.get(timeout=0)


def test_success_does_not_ask_the_parents(backend):
    """A task that has succeeded is returned whatever is kept of its parents, and without another question."""
    keep(backend, "1", states.FAILURE, KeyError("once"))
    keep(backend, "2", value=2)
    assert AsyncResult("2", parent=AsyncResult("1")).get(timeout=1) == 2
    assert [call for call in backend.calls if call[0] == "wait"] == [("wait", 1)]


def test_parents_are_asked_in_one_question(backend):
    """However long the chain, its failures cost one more question."""
    node = None
    for number in range(50):
        node = AsyncResult(f"{number}", parent=node)
    keep(backend, "49", states.FAILURE, ValueError("last"))
    backend.calls.clear()
    with pytest.raises(ValueError, match="last"):
        node.get(timeout=1)
    assert backend.calls == [("wait", 1), ("fetch", 49)]


def test_ids_of_a_family(backend):
    """as_list begins with the result itself; tuples are nested; both can be made into results again."""
    chained = AsyncResult("c", parent=GroupResult("g", [AsyncResult("m")], parent=AsyncResult("a")))
    assert chained.as_list() == ["c", "g", "a"]
    wire = (("c", (("g", (("a", None), None)), [(("m", None), None)])), None)
    assert chained.as_tuple() == wire
    again = result_from_tuple(wire)
    assert (again, again.parent, again.parent.parent) == (chained, chained.parent, AsyncResult("a"))
    assert isinstance(again.parent, GroupResult)
    assert result_from_tuple(["x", None]) == AsyncResult("x")
    assert result_from_tuple(chained.parent) is chained.parent
    assert result_from_tuple(None) is None
    other = MemoryResultBackend("other")
    restored = result_from_tuple(["g", [wire]], app, backend=other)
    assert (restored, restored[0].parent, restored[0].backend) == (GroupResult("g", [again]), again.parent, other)
    assert result_from_tuple(("g", []), app=app) == GroupResult("g", [])


def test_forget(backend):
    """forget() deletes what is kept of the task and its parents, in one round trip; the object knows nothing then."""
    keep(backend, "1", value=1)
    keep(backend, "2", value=2)
    result = AsyncResult("2", parent=AsyncResult("1"))
    assert result.get() == 2
    result.forget()
    assert (result.state, result.result, AsyncResult("1").state) == (states.PENDING, None, states.PENDING)
    assert [call for call in backend.calls if call[0] == "forget"] == [("forget", 2)]


# ---- what came of it


def family(backend):
    """Keep a task a that sent b, which sent d, and the group g of c and e."""
    keep(backend, "a", value="A", children=[[["b", None], None], [["g", None], [[["c", None], None], [["e", None], None]]]])
    keep(backend, "b", value="B", children=[[["d", None], None]])
    for leaf in "cde":
        keep(backend, leaf, value=leaf.upper())
    return AsyncResult("a")


def test_collect_and_graph(backend):
    """Everything that came of a result is found, through groups, with its values and as a graph."""
    result = family(backend)
    assert [(str(node), value) for node, value in result.collect()] == [
        *(("a", "A"), ("b", "B"), ("g", ["C", "E"])),
        *(("d", "D"), ("c", "C"), ("e", "E")),
    ]
    assert result.get_leaf() == "E"
    assert [(parent and str(parent), str(node)) for parent, node in result.iterdeps()][:3] == [(None, "a"), ("a", "b"), ("a", "g")]
    graph = result.graph
    assert {str(node): [str(child) for child in children] for node, children in graph.items()} == {
        "a": ["b", "g"],
        "b": ["d"],
        "g": ["c", "e"],
        "c": [],
        "d": [],
        "e": [],
    }
    assert isinstance(result.children[1], GroupResult)
    assert result.children[1].children == ["c", "e"]


def test_what_is_not_ready_stops_the_search(backend):
    """IncompleteStream follows the first one that isn't ready; intermediate=True passes over it."""
    result = family(backend)
    backend.forget(["b"])
    found = []
    with pytest.raises(exceptions.IncompleteStream, match="b is not ready"):
        found.extend(str(node) for _, node in result.iterdeps())
    assert found == ["a", "b"]
    with pytest.raises(exceptions.IncompleteStream):
        _ = result.graph
    assert [str(node) for _, node in result.iterdeps(intermediate=True)] == ["a", "b", "g", "c", "e"]
    assert len(result.build_graph(intermediate=True)) == 5


def test_collect_waits(backend):
    """collect() waits for each result, so it can begin before any is ready."""
    with soon(lambda: keep(backend, "a", value=1, children=[[["b", None], None]]), lambda: keep(backend, "b", value=2)):
        assert [value for _, value in AsyncResult("a").collect(timeout=10)] == [1, 2]


def test_graph_of_dependencies():
    """Order, counts, and Graphviz's text; a long chain is no deep recursion, a circle no endless one."""
    graph = DependencyGraph([("a", ["b", "c"]), ("b", ["d"]), ("c", ["d"]), ("d", [])])
    order = graph.topsort()
    assert all(order.index(child) < order.index(node) for node, children in graph.items() for child in children)
    assert (graph.valency_of("a"), graph.valency_of("d"), graph.valency_of("nobody")) == (4, 0, 0)
    assert (list(graph.edges()), graph["b"], "c" in graph, len(graph), list(graph)) == (["a", "b", "c"], ["d"], True, 4, list("abcd"))
    file = io.StringIO()
    text = graph.to_dot(file)
    assert file.getvalue() == text
    assert '"a" -> "b";' in text
    assert '"\\"quoted\\""' in DependencyGraph([('"quoted"', [])]).to_dot()
    assert repr(graph).startswith("a(2)\n     b")
    other = DependencyGraph([("x", [])])
    graph.connect(other)
    assert "x" in graph
    long = DependencyGraph([(number, [number + 1]) for number in range(5000)])
    assert long.topsort()[0] == 5000
    assert long.valency_of(0) == 5000
    assert sorted(DependencyGraph([(1, [2]), (2, [1])]).topsort()) == [1, 2]


# ---- several


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
        assert results.get(timeout=10) == [0, 1, 2]


def test_the_same_task_twice_in_a_set(backend):
    """Two objects of one task both get its end."""
    results = ResultSet([AsyncResult("a"), AsyncResult("a"), GroupResult("g", [AsyncResult("a")])])
    with soon(lambda: keep(backend, "a", value=1)):
        assert results.get(timeout=10) == [1, 1, [1]]


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
        assert results.get(timeout=10) == [1, 2]
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


# ---- eager


def test_eager_results(backend):
    """An eager result is ready, asks no backend, may be read inside a task, and raises what its task raised."""
    done = EagerResult("e", 5, states.SUCCESS, name="t")
    with in_task():
        assert (done.get(), done.result, done.state, done.ready(), done.successful(), done.name) == (5, 5, "SUCCESS", True, True, "t")
    assert (done.args, done.date_done, done.worker, done.children, done.exists()) == (None, None, None, [], True)
    assert done.document()["result"] == 5
    failed = EagerResult("f", ValueError("x"), states.FAILURE, traceback="tb")
    assert (failed.failed(), failed.traceback, repr(failed.get(propagate=False))) == (True, "tb", "ValueError('x')")
    for wait in (failed.get, failed.maybe_throw, failed.maybe_reraise, lambda: asyncio.run(failed.aget())):
        with pytest.raises(ValueError, match="x"):
            wait()
    with pytest.raises(Exception, match="only text"):
        EagerResult("g", "only text", states.FAILURE).get()
    for state, error in ((states.IGNORED, exceptions.Ignore()), (states.REJECTED, exceptions.Reject())):
        assert EagerResult("h", error, state).get() is None
    assert EagerResult("r", ValueError(), states.RETRY).ready()
    seen = []
    done.then(seen.append).get(callback=lambda *given: seen.append(given))
    failed.then(None, seen.append)
    assert seen == [done, ("e", 5), failed]
    done.forget()
    done.revoke(terminate=True)
    assert (done.state, done.traceback) == (states.REVOKED, None)
    with pytest.raises(exceptions.TaskRevokedError):
        done.get()
    assert backend.calls == []


def test_a_result_of_a_uuid():
    """Ids out of Django's URLs and UUID fields are those of their text; other kinds are refused."""
    one = UUID(int=7)
    assert AsyncResult(one).id == str(one)
    with pytest.raises(TypeError, match="text or a UUID"):
        AsyncResult(3)
