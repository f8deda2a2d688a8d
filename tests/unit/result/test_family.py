"""Results know their parents and what came of them."""

import asyncio
import io

import pytest

from django_tasks import AsyncResult, GroupResult, app, exceptions, states
from django_tasks.result import DependencyGraph, result_from_tuple, waiting
from django_tasks.result_backends.memory import MemoryResultBackend
from tests.unit.result.keeping import keep, soon

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
