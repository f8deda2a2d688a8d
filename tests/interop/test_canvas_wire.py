"""Our workflows, as JSON, are Celery's: either side can send what the other runs."""

import json
from collections.abc import Callable
from typing import Any

import celery.canvas as theirs
import pytest
from celery import Celery

import django_tasks.canvas as ours


def call(canvas: Any, name: str, *args: Any, immutable: bool = False, **kwargs: Any) -> Any:
    """Return the signature of a task that neither side knows."""
    return canvas.Signature(name, args=args, kwargs=kwargs, immutable=immutable)


CASES: dict[str, Callable[[Any], Any]] = {
    "call": lambda c: call(c, "t.a", 1, two=2),
    "options": lambda c: call(c, "t.a").set(queue="q", countdown=3),
    "immutable": lambda c: call(c, "t.a", 1, immutable=True),
    "clone with arguments": lambda c: call(c, "t.a", 1, k=1).clone((0,), {"l": 2}, priority=3),
    "clone of an immutable": lambda c: call(c, "t.a", 1, immutable=True).clone((0,), {"l": 2}, priority=3),
    "link": lambda c: linked(call(c, "t.a"), link=call(c, "t.b")),
    "link twice the same": lambda c: linked(linked(call(c, "t.a"), link=call(c, "t.b")), link=call(c, "t.b")),
    "link_error": lambda c: linked(call(c, "t.a"), link_error=call(c, "t.b")),
    "on_error": lambda c: call(c, "t.a").on_error(call(c, "t.b")),
    "group": lambda c: c.group(call(c, "t.a", i) for i in range(3)),
    "group of arguments": lambda c: c.group(call(c, "t.a"), call(c, "t.b")),
    "group of one": lambda c: c.group(call(c, "t.a")),
    "group of a group": lambda c: c.group(c.group(call(c, "t.a"), call(c, "t.b"))),
    "nested group": lambda c: c.group(call(c, "t.a"), c.group(call(c, "t.b"), call(c, "t.c"))),
    "empty group": lambda c: c.group([]),
    "group with options": lambda c: c.group([call(c, "t.a")], queue="q"),
    "chain": lambda c: call(c, "t.a") | call(c, "t.b") | call(c, "t.c"),
    "chain of arguments": lambda c: c.chain(call(c, "t.a"), call(c, "t.b")),
    "chain of a list": lambda c: c.chain([call(c, "t.a"), call(c, "t.b")]),
    "chain of one": lambda c: c.chain(call(c, "t.a")),
    "chain and chain": lambda c: (call(c, "t.a") | call(c, "t.b")) | (call(c, "t.c") | call(c, "t.d")),
    "chain in a chain": lambda c: c.chain(call(c, "t.a"), c.chain(call(c, "t.b"), call(c, "t.c")), call(c, "t.d")),
    "empty chain": lambda c: c.chain(),
    "chain with links": lambda c: linked(call(c, "t.a") | call(c, "t.b"), link=call(c, "t.k"), link_error=call(c, "t.e")) | call(c, "t.c"),
    "chain to a group": lambda c: call(c, "t.a") | c.group(call(c, "t.b"), call(c, "t.c")),
    "chain to a group of one": lambda c: call(c, "t.a") | c.group(call(c, "t.b")),
    "chain to an empty group": lambda c: call(c, "t.a") | call(c, "t.b") | c.group([]),
    "group to a task": lambda c: c.group(call(c, "t.a"), call(c, "t.b")) | call(c, "t.c"),
    "group to a chain": lambda c: c.group(call(c, "t.a"), call(c, "t.b")) | (call(c, "t.c") | call(c, "t.d")),
    "group to a group": lambda c: c.group(call(c, "t.a"), call(c, "t.b")) | c.group(call(c, "t.c"), call(c, "t.d")),
    "group to an empty group": lambda c: c.group(call(c, "t.a"), call(c, "t.b")) | c.group([]),
    "chain that begins with a group": lambda c: c.chain(c.group(call(c, "t.a"), call(c, "t.b")), call(c, "t.c"), call(c, "t.d")),
    "chain of only a group": lambda c: c.chain([c.group(call(c, "t.a"), call(c, "t.b"))]),
    "chain around a group": lambda c: call(c, "t.a") | c.group(call(c, "t.b"), call(c, "t.c")) | call(c, "t.d"),
    "chain on and on": lambda c: (
        call(c, "t.a") | c.group(call(c, "t.b"), call(c, "t.c")) | call(c, "t.d") | call(c, "t.e") | c.group(call(c, "t.f"), call(c, "t.g"))
    ),
    "two groups in a chain": lambda c: (
        call(c, "t.a") | c.group(call(c, "t.b"), call(c, "t.c")) | c.group(call(c, "t.d"), call(c, "t.e")) | call(c, "t.f")
    ),
    "folded around a group": lambda c: c.chain(
        call(c, "t.a"), c.group(call(c, "t.b"), call(c, "t.c")), call(c, "t.d"), c.group(call(c, "t.e"), call(c, "t.f"))
    ),
    "chord": lambda c: c.chord([call(c, "t.a"), call(c, "t.b")], call(c, "t.c")),
    "chord of a group": lambda c: c.chord(c.group(call(c, "t.a"), call(c, "t.b")), call(c, "t.c")),
    "chord without body": lambda c: c.chord([call(c, "t.a"), call(c, "t.b")]),
    "chord of one": lambda c: c.chord(call(c, "t.a"), call(c, "t.b")),
    "empty chord": lambda c: c.chord([], call(c, "t.b")),
    "chord with options": lambda c: c.chord([call(c, "t.a")], call(c, "t.b"), queue="q"),
    "chord of chains": lambda c: c.chord([call(c, "t.a") | call(c, "t.b"), call(c, "t.c")], call(c, "t.d")),
    "chord in a chord": lambda c: c.chord([c.chord([call(c, "t.a")], call(c, "t.b")), call(c, "t.c")], call(c, "t.d")),
    "chord to a task": lambda c: c.chord([call(c, "t.a")], call(c, "t.b")) | call(c, "t.c"),
    "chord to a chain": lambda c: c.chord([call(c, "t.a")], call(c, "t.b")) | (call(c, "t.c") | call(c, "t.d")),
    "chord to a group": lambda c: c.chord([call(c, "t.a")], call(c, "t.b")) | c.group(call(c, "t.c"), call(c, "t.d")),
    "chord to a group of one": lambda c: c.chord([call(c, "t.a")], call(c, "t.b")) | c.group(call(c, "t.c")),
    "task to a chord": lambda c: call(c, "t.a") | c.chord([call(c, "t.b")], call(c, "t.c")),
    "chord to a chord": lambda c: c.chord([call(c, "t.a")], call(c, "t.b")) | c.chord([call(c, "t.c")], call(c, "t.d")),
    "map": lambda c: c.xmap(call(c, "t.a"), [1, 2]),
    "starmap": lambda c: c.xstarmap(call(c, "t.a"), [(1, 2), (3, 4)]),
    "chunks": lambda c: c.chunks(call(c, "t.a"), [(1, 2), (3, 4), (5, 6)], 2),
    "the group of chunks": lambda c: c.chunks(call(c, "t.a"), ((i, i) for i in range(5)), 2).group(),
    "clone of a chord": lambda c: c.chord([call(c, "t.a")], call(c, "t.b")).clone(),
    "stamps": lambda c: stamped(call(c, "t.a"), tenant="x"),
    "stamped group": lambda c: stamped(c.group(call(c, "t.a"), call(c, "t.b")), tenant="x"),
    "stamped chain": lambda c: stamped(call(c, "t.a") | call(c, "t.b"), tenant="x"),
}


def linked(sig: Any, link: Any = None, link_error: Any = None) -> Any:
    """Return the signature with links."""
    if link is not None:
        sig.link(link)
    if link_error is not None:
        sig.link_error(link_error)
    return sig


def stamped(sig: Any, **stamps: Any) -> Any:
    """Return the signature with stamps."""
    sig.stamp(**stamps)
    return sig


@pytest.fixture(scope="module", autouse=True)
def celery_app():
    """Celery needs an app to look its tasks up in."""
    app = Celery("interop", broker="memory://", set_as_current=True)
    yield app
    app.close()


def as_json(sig: Any) -> Any:
    """Return what a reader of the message gets."""
    return json.loads(json.dumps(sig))


@pytest.mark.parametrize("case", CASES)
def test_wire_form_equals_celerys(case):
    """Every way to combine signatures yields the JSON that Celery makes of it."""
    assert as_json(CASES[case](ours)) == as_json(CASES[case](theirs))


@pytest.mark.parametrize("case", CASES)
def test_wire_form_survives_the_journey(case):
    """A signature read from JSON is the signature that was written."""
    wire = as_json(CASES[case](ours))
    assert as_json(ours.Signature.from_dict(wire)) == wire


@pytest.mark.parametrize("case", CASES)
def test_celerys_wire_form_is_ours(case):
    """A signature that Celery wrote is read as the same kind of signature that we would have written."""
    read = ours.Signature.from_dict(as_json(CASES[case](theirs)))
    assert type(read) is type(ours.Signature.from_dict(as_json(CASES[case](ours))))
