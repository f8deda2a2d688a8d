"""Our results have what Celery's have, and mean the same by it."""

import inspect
import pickle

import celery.result as theirs
import pytest
from celery import Celery
from celery.utils.graph import DependencyGraph as TheirGraph

from django_tasks import result as ours
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.memory import MemoryResultBackend

#: Of Celery's machinery, or of stamping, which is not part of this release.
LEFT_OUT = {
    *("app", "throw", "on_ready", "supports_native_join", "revoke_by_stamped_headers"),
}


@pytest.fixture
def app():
    """A Celery that keeps results in memory."""
    app = Celery("t", backend="cache+memory://", set_as_current=False)
    yield app
    app.close()


@pytest.mark.parametrize("name", ["AsyncResult", "ResultSet", "GroupResult", "EagerResult"])
def test_nothing_public_is_missing(name):
    """Each public name of Celery's class is there, and each argument of its methods, the first ones in the same places."""
    their_class, our_class = getattr(theirs, name), getattr(ours, name)
    missing = {attribute for attribute in dir(their_class) if not attribute.startswith("_")} - set(dir(our_class)) - LEFT_OUT
    # Theirs are set by __init__.
    assert missing - {"id", "results", "parent", "backend"} == set()
    for attribute in dir(our_class):
        known, mine = getattr(their_class, attribute, None), getattr(our_class, attribute)
        if attribute.startswith("_") or not inspect.isfunction(known):
            continue
        wanted = [p.name for p in inspect.signature(known).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        given = [p.name for p in inspect.signature(mine).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        takes_all = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(mine).parameters.values())
        assert takes_all or (given[: len(wanted[:6])] == wanted[:6] and set(wanted) <= set(given)), (attribute, wanted, given)


def test_wire_forms_are_the_same(app):
    """Tuples and lists of ids of both sides agree, and each side builds its objects of the other's tuples."""

    def make(module, **app):
        first = module.AsyncResult("a", **app)
        group = module.GroupResult("g", [module.AsyncResult("b", **app), module.AsyncResult("c", **app)], parent=first, **app)
        return module.AsyncResult("d", parent=group, **app), module.AsyncResult("e", parent=first, **app)

    their_chain, their_pair = make(theirs, app=app)
    our_chain, our_pair = make(ours)
    assert our_chain.as_tuple() == their_chain.as_tuple()
    assert our_pair.as_list() == their_pair.as_list() == ["e", "a"]
    assert ours.result_from_tuple(their_chain.as_tuple()).as_tuple() == our_chain.as_tuple()
    assert theirs.result_from_tuple(our_chain.as_tuple(), app=app).as_tuple() == their_chain.as_tuple()


def test_graphs_count_and_sort_alike():
    """Graphs of both sides give the same counts, and put what a node depends on before it."""
    pairs = [("a", ["b", "c"]), ("b", ["d"]), ("c", ["d"]), ("d", [])]
    their_graph, our_graph = TheirGraph(pairs), ours.DependencyGraph(pairs)
    assert [our_graph.valency_of(node) for node in "abcd"] == [their_graph.valency_of(node) for node in "abcd"]
    assert list(our_graph.edges()) == list(their_graph.edges())
    assert [our_graph.topsort()[0], our_graph.topsort()[-1]] == [their_graph.topsort()[0], their_graph.topsort()[-1]]


def test_collect_finds_the_same(app):
    """Over the same results, collect() of both sides yields the same ids and values in the same order."""
    backend = MemoryResultBackend("interop")
    backend.clear()
    children = {"a": [(("b", None), None), (("g", None), [(("c", None), None)])], "b": [], "c": []}
    for name, tuples in children.items():
        backend.store([ResultMeta(task_id=name, status="SUCCESS", result=f'"{name.upper()}"', children=tuples)])
        app.backend.set(
            app.backend.get_key_for_task(name),
            app.backend.encode({"task_id": name, "status": "SUCCESS", "result": name.upper(), "children": tuples, "traceback": None}),
        )
    mine = [(str(node), value) for node, value in ours.AsyncResult("a", backend=backend).collect()]
    assert mine == [(node.id, node.get(disable_sync_subtasks=False)) for node, _ in app.AsyncResult("a").collect()]
    assert ours.AsyncResult("a", backend=backend).get_leaf() == app.AsyncResult("a").get_leaf() == "C"


def test_revoked_eager_results_are_the_same(app):
    """revoke() of an eager result replaces its value on both sides."""
    mine, other = ours.EagerResult("e", 5, "SUCCESS"), theirs.EagerResult("e", 5, "SUCCESS")
    mine.revoke()
    other.revoke()
    assert (mine.state, type(mine.result).__name__, mine.result.args) == (other.state, type(other.result).__name__, other.result.args)
    assert pickle.loads(pickle.dumps(mine)).state == "REVOKED"
