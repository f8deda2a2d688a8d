"""The request, and which task runs here."""

import json
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from django_tasks.context import Request, current_request, current_task, enter, leave, running
from django_tasks.layered import Layered, Shared
from django_tasks.messages import Delivery, Envelope, TaskMessage

ETA = datetime(2026, 1, 2, tzinfo=UTC)


def request(**fields):
    return Request(message=TaskMessage(**{"id": "1", "task": "a.b", **fields}))


def test_a_request_shows_its_message_under_celerys_names():
    """Every field of Celery's request is there."""
    asked = request(
        args=(1,),
        kwargs={"k": 2},
        eta=ETA,
        expires=ETA,
        retries=2,
        root_id="r",
        parent_id="p",
        group="g",
        group_index=3,
        time_limit=9,
        soft_time_limit=8,
        reply_to="there",
        shadow="s",
        origin="gen1@h",
        embed={"chain": [1], "chord": {"task": "c"}, "callbacks": [2], "errbacks": [3]},
        stamps={"x": 1},
        stamped_headers=["x"],
    )
    assert (asked.id, asked.task_id, asked.correlation_id) == ("1", "1", "1")
    assert (asked.args, asked.kwargs) == ((1,), {"k": 2})
    assert (asked.eta, asked.expires) == (ETA.isoformat(), ETA.isoformat())
    assert (asked.retries, asked.root_id, asked.parent_id, asked.group, asked.group_index) == (2, "r", "p", "g", 3)
    assert asked.timelimit == [9, 8]
    assert (asked.chain, asked.chord, asked.callbacks, asked.errbacks) == ([1], {"task": "c"}, [2], [3])
    assert (asked.reply_to, asked.shadow, asked.origin) == ("there", "s", "gen1@h")
    assert (asked.stamps, asked.stamped_headers) == ({"x": 1}, ["x"])


def test_a_direct_call_has_no_id():
    """Where the function was called directly there is no task, so no id; the arguments are those of the call."""
    asked = Request(message=TaskMessage(id="", task="a", args=(1,), kwargs={}), called_directly=True)
    assert (asked.id, asked.args, asked.kwargs) == (None, (1,), {})


def test_outside_of_a_run_there_are_no_arguments():
    """An empty request has neither id nor arguments, and no limits hold."""
    asked = Request(message=TaskMessage(id="", task="a"), called_directly=True)
    assert (asked.id, asked.args, asked.kwargs, asked.timelimit) == (None, None, None, [None, None])


def test_limits_are_those_that_hold():
    """A limit that the call doesn't give is the task's."""
    task = SimpleNamespace(time_limit=60, soft_time_limit=None)
    asked = Request(message=TaskMessage(id="1", task="a", soft_time_limit=5), definition=task)
    assert (asked.time_limit, asked.soft_time_limit, asked.timelimit) == (60, 5, [60, 5])


def test_the_tasks_name():
    """``task`` is the name, as in Celery, for which error callbacks ask."""
    assert (request().task, request().name, request().task_name) == ("a.b", "a.b", "a.b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "2"),
        ("task", "b.c"),
        ("args", [1]),
        ("kwargs", {"k": 1}),
        ("retries", 3),
        ("root_id", "r"),
        ("group_index", 2),
        ("chain", None),
        ("chord", {"task": "c"}),
        ("callbacks", []),
        ("eta", ETA.isoformat()),
        ("expires", ETA.isoformat()),
        ("timelimit", [9, 8]),
        ("time_limit", 7),
        ("soft_time_limit", 6),
        ("headers", {"x": 1}),
        ("headers", None),
        ("properties", {"x": 1}),
        ("correlation_id", "c"),
        ("delivery_info", {"priority": 5}),
        ("ignore_result", True),
        ("called_directly", True),
        ("reply_to", "q"),
        ("wibble", "wobble"),
    ],
)
def test_what_a_task_assigns_holds_for_the_rest_of_the_run(name, value):
    """Fields can be assigned, and names of the project's own, too; update() does the same."""
    asked = request(embed={"chain": [{"task": "next"}]})
    setattr(asked, name, value)
    assert getattr(asked, name) == value
    other = request()
    other.update({name: value})
    assert asked.get(name) == other.get(name) == value


def test_assigning_leaves_other_links_alone():
    """Ending the chain keeps callbacks and error callbacks."""
    asked = request(embed={"callbacks": [1], "chain": [2]})
    asked.chain = None
    assert (asked.chain, asked.callbacks) == (None, [1])


def test_delivery_info_can_be_changed_in_place():
    """It is one dictionary for the whole run; in eager mode it says so."""
    asked = request()
    asked.delivery_info["priority"] = 5
    assert asked.delivery_info["priority"] == 5
    assert Request(message=TaskMessage(id="1", task="a"), is_eager=True).delivery_info["is_eager"] is True


def test_the_text_of_a_request_hides_what_the_caller_hides():
    """The repr names the task, its id and its arguments, or the texts that stand for them."""
    shown = repr(request(args=(1, "secret"), kwargs={"k": 2}))
    assert "'task': 'a.b'" in shown
    assert "'secret'" in shown
    assert "'kwargs': {'k': 2}" in shown
    hidden = repr(request(args=(1, "secret"), argsrepr="(1, ***)"))
    assert "secret" not in hidden
    assert "(1, ***)" in hidden


def test_other_headers_are_attributes():
    """A custom header is read as an attribute and by get(); an unknown name says what is missing."""
    asked = request(headers={"traceparent": "00-1"})
    assert asked.traceparent == "00-1"
    assert asked.get("traceparent") == "00-1"
    assert asked.get("nothing", 5) == 5
    assert asked.headers == {"traceparent": "00-1"}
    with pytest.raises(AttributeError, match="nothing"):
        _ = asked.nothing


def test_without_custom_headers_there_are_none():
    """As in Celery, headers is None rather than empty."""
    assert request().headers is None


def test_the_delivery_is_shown():
    """A second delivery counts as redelivered, and the queue is the routing key where none is given."""
    envelope = Envelope(body=b"", content_type="", content_encoding="", headers={}, properties={"x": 1}, queue="q")
    asked = Request(message=TaskMessage(id="1", task="a", queue="q", priority=4), delivery=Delivery(envelope, "t", "q", 2))
    assert asked.delivery_info == {"exchange": "", "routing_key": "q", "priority": 4, "redelivered": True}
    assert asked.properties == {"x": 1}
    assert request().properties == {}


def test_what_is_empty_may_be_a_tasks_result():
    """A task may return its stamps and properties, be there any or not: JSON takes them."""
    envelope = Envelope(body=b"", content_type="", content_encoding="", headers={}, properties=Layered(Shared(x=1), {"y": 2}), queue="q")
    asked = Request(message=TaskMessage(id="1", task="a"), delivery=Delivery(envelope, "t", "q"))
    assert json.loads(json.dumps([asked.stamps, asked.properties])) == [None, {"x": 1, "y": 2}]
    asked.stamps = {"tenant": "acme"}
    assert asked.stamps == {"tenant": "acme"}
    asked.stamps = None
    assert asked.stamps is None


def test_the_running_request_is_known_inside_the_block_only():
    """running() nests, hides with None, and restores."""
    outer, inner = request(), request()
    assert current_request() is None
    with running(outer):
        with running(inner):
            assert current_request() is inner
            with running(None):
                assert current_request() is None
        assert current_request() is outer
    assert current_request() is None


def test_each_thread_has_its_own():
    """Another thread does not see this one's request."""
    seen = []
    token = enter(request())
    thread = threading.Thread(target=lambda: seen.append(current_request()))
    thread.start()
    thread.join()
    leave(token)
    assert seen == [None]


def test_current_task_stands_for_what_runs():
    """current_task is false outside tasks and acts as the task inside one."""
    assert not current_task
    with pytest.raises(AttributeError, match="no task runs here"):
        _ = current_task.name
    asked = request()
    asked.definition = threading
    with running(asked):
        assert current_task
        assert current_task == threading
        assert current_task.Thread is threading.Thread
