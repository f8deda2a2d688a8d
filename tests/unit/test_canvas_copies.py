"""Composing, copying and sending leave the signatures alone that they are given."""

import json

import pytest

from django_tasks.canvas import chain, chord, group, signature

SHAPES = {
    "a call with a group for a callback": lambda: step("a").set(link=[group(step("b"), step("c"))]),
    "a group": lambda: group(step("a"), step("b")),
    "a group of workflows": lambda: group(step("a") | group(step("b"), step("c")), group(step("d"), step("e"))),
    "a chain": lambda: step("a") | step("b"),
    "a chain that ends in a group": lambda: step("a") | group(step("b").on_error(step("own")), step("c")),
    "a chain through a group": lambda: step("a") | group(step("b"), step("c")) | step("d") | group(step("e"), step("f")),
    "a chord": lambda: chord([step("a"), step("b")], step("c")),
    "a chord of chords": lambda: chord([chord([step("a")], step("b")), step("c")], step("d")),
    "a chord with a chain for its body": lambda: chord([step("a")], step("b") | step("c")),
    "a chord with a group for its body": lambda: chord([step("a")], group(step("b"), step("c"))),
}

DEEDS = {
    "sent": lambda sig: sig.apply_async((1,)),
    "sent with links": lambda sig: sig.apply_async(link=step("x"), link_error=step("y")),
    "a step before it": lambda sig: step("x") | sig,
    "a step behind it": lambda sig: sig | step("x"),
    "a group behind it": lambda sig: sig | group(step("x"), step("y")),
    "in a chain": lambda sig: chain(sig, step("x")),
    "in a group": lambda sig: group(sig, sig).apply_async(),
    "in a header": lambda sig: chord([sig, step("x")], step("y")).apply_async(),
    "a body": lambda sig: chord([step("x")], sig).apply_async(),
    "a link": lambda sig: step("x").apply_async(link=sig, link_error=sig),
    "a copy linked": lambda sig: (sig.clone().link(step("x")), sig.clone().link_error(step("y"))),
    "a copy stamped": lambda sig: sig.clone().stamp(tenant="a"),
    "a copy made immutable": lambda sig: sig.clone().set_immutable(True),
    "a copy frozen": lambda sig: sig.clone().freeze(),
}


def step(name):
    """A call of a task that nobody here knows."""
    return signature(f"copies.{name}")


@pytest.mark.parametrize("linked", [False, True], ids=["plain", "linked"])
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_given_signature_stays(world, shape, deed, linked):
    """Whatever is made of a signature, it is afterwards what it was, with links of its own, too."""
    sig = SHAPES[shape]()
    if linked and sig.subtask_type != "group":
        sig.options.update(link=[step("cb")], link_error=[step("eb")])
    before = json.dumps(sig)
    if deed == "sent with links" and sig.subtask_type == "group":
        with pytest.raises(TypeError, match="chord"):
            DEEDS[deed](sig)
    else:
        DEEDS[deed](sig)
    assert json.dumps(sig) == before


@pytest.mark.parametrize("shape", SHAPES)
def test_copies_share_nothing(shape):
    """No part of a copy is a part of the original."""

    def parts(sig):
        inner = [*sig.options.get("link", ()), *sig.options.get("link_error", ())]
        inner += {
            "chain": lambda: sig.tasks,
            "group": lambda: sig.tasks,
            "chord": lambda: [*sig.header_tasks(), sig.body],
        }.get(sig.subtask_type, list)()
        return {id(sig), *(number for part in inner for number in parts(part))}

    sig = SHAPES[shape]()
    copy = sig.clone()
    assert copy == sig
    assert parts(copy).isdisjoint(parts(sig))


def test_error_callbacks_of_a_chain_join_those_of_a_groups_members(world):
    """A chain that is sent with an error callback and ends in a group: members keep their own beside it."""
    flow = step("a") | group(step("b").on_error(step("own")), step("c"))
    flow.apply_async(link_error=step("all"))
    [message] = world.messages
    [members] = message.embed["chain"]
    assert "link_error" not in members["options"]
    assert [[errback["task"] for errback in member["options"]["link_error"]] for member in members["kwargs"]["tasks"]] == [
        ["copies.own", "copies.all"],
        ["copies.all"],
    ]


def test_the_body_of_a_chord_on_its_way_is_there_once(world):
    """A chord that waits behind another step carries its body once, not in its header again."""
    (step("a") | group(step("b"), step("c")) | step("body") | step("d")).apply_async()
    [message] = world.messages
    assert json.dumps(message.embed["chain"]).count('"copies.body"') == 1
