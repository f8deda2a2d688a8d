"""What a result tells of its task: everything that a backend keeps, or what eager mode gave."""

import asyncio
import copy
import pickle
from datetime import UTC, datetime
from uuid import UUID

import pytest

from django_tasks import AsyncResult, EagerResult, GroupResult, ResultSet, app, exceptions, states
from django_tasks.result import ResultBase
from django_tasks.result_backends.memory import MemoryResultBackend
from tests.unit.result.keeping import in_task, keep

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
    """revoke_by_stamped_headers hands on its arguments; ``wait`` waits for this task, but not for ever."""
    told = []
    monkeypatch.setattr("django_tasks.result.revocation.revoke_stamped", lambda *a, **k: told.append((a, k)))
    result = AsyncResult("a")
    result.revoke_by_stamped_headers({"tenant": ["x"]}, terminate=True, signal="SIGKILL", wait=True, timeout=0.01)
    result.revoke_by_stamped_headers({"tenant": "y"})
    keep(backend, "a", value=1)
    result.revoke_by_stamped_headers({"tenant": "y"}, wait=True)
    assert told == [
        (({"tenant": ["x"]},), {"terminate": True, "signal": "SIGKILL"}),
        (({"tenant": "y"},), {"terminate": False, "signal": None}),
        (({"tenant": "y"},), {"terminate": False, "signal": None}),
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
