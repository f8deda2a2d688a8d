"""Ids, members, timeouts and callbacks that can't be: told at once, and not by a database or after an hour of waiting."""

import asyncio
import math
from datetime import timedelta
from uuid import uuid4

import pytest

from django_tasks import app, result_backends
from django_tasks.result import AsyncResult, GroupResult, ResultSet
from django_tasks.result.arguments import fit_timeout
from django_tasks.result.revocation import revoke_stamped

BAD_IDS = [(3, TypeError), (b"x", TypeError), ([], ValueError), (None, ValueError), ("", ValueError)]
UNPRINTABLE = [("half \ud800", ValueError), ("nul \0", ValueError), ("two\nlines", ValueError)]


@pytest.fixture(autouse=True)
def memory(settings):
    """Nothing is known of any task."""
    url = f"memory://{uuid4().hex}"
    settings.DJANGO_TASKS = {"BROKER_URL": url, "RESULT_BACKEND": url}
    return result_backends.current()


@pytest.mark.parametrize(("id", "error"), BAD_IDS)
def test_what_is_no_id(id, error):
    """There is no result of it."""
    with pytest.raises(error, match="a result needs a task's id"):
        AsyncResult(id)


@pytest.mark.parametrize("id", ["half \ud800", "nul \0", "two\nlines"])
@pytest.mark.parametrize("ask", ["state", "get", "forget", "aget", "revoke"])
def test_what_no_database_takes(id, ask):
    """A view may get an id from anywhere: reading raises ValueError, whatever the result backend."""
    result = AsyncResult(id)
    asked = {
        "state": lambda: result.state,
        "get": lambda: result.get(timeout=0),
        "forget": result.forget,
        "aget": lambda: asyncio.run(result.aget(timeout=0)),
        "revoke": result.revoke,
    }
    with pytest.raises((TypeError, ValueError), match="printable"):
        asked[ask]()


@pytest.mark.parametrize(("id", "error"), [*BAD_IDS, *UNPRINTABLE])
def test_what_is_no_id_either(id, error):
    """Of a result that is there, and of a saved group."""
    with pytest.raises(error, match="a result needs a task's id"):
        AsyncResult("x").task_id = id
    with pytest.raises(error, match="a saved group has an id"):
        GroupResult.restore(id)


@pytest.mark.parametrize(("id", "error"), [(3, TypeError), *UNPRINTABLE])
def test_what_is_no_groups_id(id, error):
    """A group without an id gets one; a wrong one is refused."""
    with pytest.raises(error, match="a group needs an id"):
        GroupResult(id, [])
    assert GroupResult(None, []).id


@pytest.mark.parametrize("members", [3, None, "abc", b"abc", {"a": 1}, [3], ["abc"], [None]])
def test_what_is_no_set_of_results(members):
    """Ids are no results; the error says how one is made."""
    with pytest.raises(TypeError, match=r"AsyncResult\("):
        ResultSet(members)


def test_what_is_no_member():
    """Adding is looked at as well."""
    results = ResultSet([])
    with pytest.raises(TypeError, match=r"did you mean AsyncResult\('abc'\)"):
        results.add("abc")
    with pytest.raises(TypeError, match="3 is no result"):
        results.update([3])
    assert len(results) == 0


TIMEOUTS = ["x", [], math.nan, timedelta(seconds=1), True]


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("wait", ["get", "join", "join_native", "iterate", "iter_native"])
def test_what_is_no_timeout(timeout, wait):
    """Not a number, which time never passes, would be waited for without end."""
    result = AsyncResult("x")
    with pytest.raises(TypeError, match="timeout takes a number of seconds, or None"):
        result.get(timeout=timeout)
    with pytest.raises(TypeError, match="timeout takes a number of seconds, or None"):
        list(getattr(ResultSet([result]), wait)(timeout=timeout))
    for waited in (result, ResultSet([result])):
        with pytest.raises(TypeError, match="timeout takes a number of seconds, or None"):
            asyncio.run(waited.aget(timeout=timeout))


def test_what_is_a_timeout():
    """Infinity is no end, as None is; whatever is a real number counts."""
    assert [fit_timeout(value) for value in (None, math.inf, 3, -1, 0.5)] == [None, None, 3, -1, 0.5]


@pytest.mark.parametrize("interval", ["x", -1, None, math.nan])
def test_what_is_no_interval(interval):
    """It is looked at before the wait begins."""
    with pytest.raises(TypeError, match="interval takes a number of seconds"):
        AsyncResult("x").get(timeout=0, interval=interval)
    with pytest.raises(TypeError, match="interval takes a number of seconds"):
        ResultSet([AsyncResult("x")]).get(timeout=0, interval=interval)


@pytest.mark.parametrize("name", ["callback", "on_message", "on_interval"])
def test_what_can_not_be_called(name):
    """It is looked at before the wait begins, which may take an hour."""
    for result in (AsyncResult("x"), ResultSet([AsyncResult("x")])):
        with pytest.raises(TypeError, match=f"{name} takes a function"):
            result.get(timeout=0, **{name: 3})
        with pytest.raises(TypeError, match="callback takes a function"):
            result.then(3)
        with pytest.raises(TypeError, match="on_error takes a function"):
            result.then(print, "x")


@pytest.mark.parametrize("given", [3, "x" * 256, "half \ud800", b"x", [3], ["x", 3]])
def test_what_can_not_be_revoked(given):
    """Workers would never find it, or the database would not take it."""
    with pytest.raises(TypeError, match="is no task id"):
        app.control.revoke(given)


def test_a_result_is_not_its_id():
    """The error says what is meant."""
    with pytest.raises(TypeError, match=r"did you mean its id, 'x'\?"):
        app.control.revoke([AsyncResult("x")])


def test_terminate_is_yes_or_no():
    """A text would be yes, whatever it says."""
    with pytest.raises(TypeError, match="terminate takes True or False, not 'no'"):
        app.control.revoke("x", terminate="no")
    with pytest.raises(TypeError, match="terminate takes True or False"):
        revoke_stamped({"tenant": "acme"}, terminate="no")


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        (3, TypeError),
        (None, TypeError),
        (b"x=1", TypeError),
        ([3], ValueError),
        ({"x" * 256: 1}, ValueError),
        ({"half \ud800": 1}, ValueError),
    ],
)
def test_what_names_no_stamp(headers, error):
    """The error says how stamps are given."""
    with pytest.raises(error, match="stamp"):
        app.control.revoke_by_stamped_headers(headers)
