"""Signatures: merging, cloning, freezing, links, stamps, and how they look."""

import copy
import json
import pickle

import pytest

from django_tasks import app
from django_tasks.canvas import Signature, StampingVisitor, chain, chord, chunks, group, maybe_signature, signature, xmap
from django_tasks.exceptions import NotRegistered
from django_tasks.messages import new_id
from django_tasks.registry import registry
from django_tasks.tasks import shared_task


@pytest.fixture(autouse=True)
def _tasks():
    """A task to make signatures of."""

    @shared_task(name="s.add")
    def add(x, y=0):
        return x + y

    yield
    registry.unregister("s.add")


@pytest.fixture
def add():
    """The task."""
    return registry["s.add"]


def length_hint_of(sig):
    """Return the hint itself: to ``operator.length_hint`` a signature is a dictionary, which has a length."""
    return sig.__length_hint__()


def test_is_its_wire_form(add):
    """A signature is a dictionary with Celery's six keys."""
    assert add.s(1, y=2) == {
        "task": "s.add",
        "args": (1,),
        "kwargs": {"y": 2},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }


@pytest.mark.parametrize("what", [None, 3, "", {}, {"a": 1}, {"task": 3}])
def test_what_no_signature_is_made_of(what):
    """A signature needs a task or its name, and says so."""
    with pytest.raises(TypeError, match="a signature"):
        signature(what)


@pytest.mark.parametrize("make", [group, chain, xmap, lambda what: chord(what, "s.add"), lambda what: chunks(what, [1], 2)])
def test_what_no_workflow_is_made_of(make, add):
    """A number in the place of signatures is refused with words of ours; a task itself gets the hint what to write."""
    with pytest.raises(TypeError, match="signatures"):
        make(3) if make is not xmap else xmap(3, [1])
    if make is xmap:
        with pytest.raises(TypeError, match=r"did you mean s.add.s\("):
            xmap(add, [1])


@pytest.mark.parametrize("n", [0, -1, "x", 1.5, None])
def test_chunks_of_no_size(add, n):
    """The size of chunks is a whole number from 1."""
    with pytest.raises(ValueError, match="whole number"):
        add.chunks([1], n)


def test_views(add):
    """Properties read and write the dictionary."""
    sig = add.s(1)
    sig.args, sig.kwargs, sig.options, sig.immutable = [2], {"y": 1}, {"queue": "q"}, True
    sig.id = "x"
    assert (sig["args"], sig["kwargs"], sig["options"], sig["immutable"]) == ((2,), {"y": 1}, {"queue": "q", "task_id": "x"}, True)
    assert (sig.task, sig.name, sig.id, sig.root_id, sig.parent_id, sig.subtask_type) == ("s.add", "s.add", "x", None, None, None)


def test_type_is_the_task(add):
    """The task object is found by its name; an unknown one says so."""
    assert signature("s.add").type is add
    with pytest.raises(NotRegistered):
        signature("s.unknown").type  # noqa: B018


def test_arguments_given_later_come_first(add):
    """Arguments of a call go before the stored ones, keywords and options over them."""
    sig = add.s(2, y=3).set(queue="q", priority=1)
    assert sig.merged((1,), {"y": 4}, {"priority": 2}) == ((1, 2), {"y": 4}, {"queue": "q", "priority": 2})
    assert sig == add.s(2, y=3).set(queue="q", priority=1)


def test_immutable_takes_only_options(add):
    """An immutable signature keeps its arguments."""
    assert add.si(2).merged((1,), {"y": 4}, {"priority": 2}) == ((2,), {}, {"priority": 2})


def test_group_id_and_stamps_stay(add):
    """What a chord counts by, and stamps, are not replaced by a call's options."""
    sig = add.s(2).set(group_id="g", stamped_headers=["tenant"], tenant="a")
    options = sig.merged(options={"group_id": "h", "tenant": "b", "stamped_headers": [], "queue": "q"})[2]
    assert options == {"group_id": "g", "stamped_headers": ["tenant"], "tenant": "a", "queue": "q"}


def test_clone_is_independent(add):
    """Changing a copy, its options or links, leaves the original alone."""
    sig = add.s(1)
    sig.link(add.s(2))
    twin = sig.clone((0,), queue="q")
    twin.kwargs["y"] = 9
    twin.options["link"][0].options["queue"] = "z"
    twin.link(add.s(3))
    assert sig.args == (1,)
    assert sig.kwargs == {}
    assert sig.options == {"link": [add.s(2)]}
    assert twin.args == (0, 1)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda sig: pickle.loads(pickle.dumps(sig)), signature])
@pytest.mark.parametrize("kind", ["call", "group", "chain", "chord"])
def test_copies_are_of_the_same_kind(add, make, kind):
    """Copied by whatever means, a signature is an equal one of its kind."""
    sig = {
        "call": add.s(1),
        "group": group(add.s(1), add.s(2)),
        "chain": add.s(1) | add.s(2),
        "chord": chord([add.s(1)], add.s(2)),
    }[kind]
    twin = make(sig)
    assert twin == sig
    assert type(twin) is type(sig)
    assert twin is not sig


def test_replace(add):
    """replace() gives a copy other arguments or options."""
    sig = add.s(1, y=2).set(queue="q")
    assert sig.replace(args=(5,)).args == (5,)
    assert sig.replace(kwargs={}).kwargs == {}
    assert sig.replace(options={}).options == {}
    assert sig.args == (1,)


def test_call_runs_the_function(add):
    """Calling a signature calls the function."""
    assert add.s(2)(1) == 3
    assert add.s(2).apply((1,)).get() == 3


def test_none_options_are_not_given(world, add):
    """Options that are None don't replace stored ones."""
    add.s(1).set(queue="q").apply_async(queue=None, priority=None)
    assert (world.messages[0].queue, world.messages[0].priority) == ("q", None)


def test_freeze_gives_an_id_once(add):
    """A frozen signature keeps its id."""
    sig = add.s(1)
    first = sig.freeze(root_id="r", parent_id="p", group_id="g", group_index=2)
    assert sig.freeze("other").id == first.id == sig.id
    assert {name: sig.options[name] for name in ("root_id", "parent_id", "group_id", "group_index")} == {
        "root_id": "r",
        "parent_id": "p",
        "group_id": "g",
        "group_index": 2,
    }


def test_links_are_entered_once(add):
    """The same callback twice is one; a single one given as an option becomes a list."""
    sig = add.s(1).set(link=add.s(2))
    assert sig.link(add.s(2)) == add.s(2)
    sig.link(add.s(3))
    assert sig.options["link"] == [add.s(2), add.s(3)]
    assert sig.flatten_links() == [sig, add.s(2), add.s(3)]


def test_on_error_returns_the_signature(add):
    """on_error links an error callback and returns the signature, link_error returns the callback."""
    sig = add.s(1)
    assert sig.on_error(add.s(2)) is sig
    assert sig.link_error(add.s(3)) == add.s(3)
    assert sig.options["link_error"] == [add.s(2), add.s(3)]


def test_repr(add):
    """Signatures look like the calls they are; the module is named once."""
    assert repr(add.s(1, y="a")) == "s.add(1, y='a')"
    assert add.si(1).reprcall(0, y=2) == "s.add(0, 1, y=2)"
    assert repr(add.s(1) | add.s(2)) == "s.add(1) | add(2)"
    assert repr(signature("bare") | signature("s.add") | signature("s.add")) == "bare() | s.add() | s.add()"
    assert repr(group(add.s(1))) == "group([s.add(1)])"
    assert repr(chord([add.s(1), add.s(2)], add.s(3))) == "%s.add([add(1), add(2)], 3)"
    assert repr(add.s(1) | group(add.s(1), add.s(2)) | add.s(1) | add.s(2)) == "s.add(1) | %(add([add(1), add(2)], 1) | add(2))"
    assert repr(chord([add.s(1)])) == "<chord without body: [s.add(1)]>"
    assert repr(xmap(add.s(), [1])) == "[s.add(x) for x in [1]]"
    assert (repr(group([])), repr(chain())) == ("group(<empty>)", "chain(<empty>)")


def test_or_with_something_else(add):
    """| with what is no signature is a TypeError."""
    for sig in (add.s(1), group(add.s(1)), chain(add.s(1)), chord([add.s(1)], add.s())):
        with pytest.raises(TypeError):
            sig | 3


def test_parts_of_a_chord_are_counted(add):
    """A chord hints at its length: the results that its body waits for, however its header is nested."""
    fan = group(add.s(1), add.s(2), add.s(3))
    for header, size in (
        ([], 0),
        (add.s(1), 1),
        (fan, 3),
        ([add.s(1) | add.s(2)], 1),
        ([fan, add.s(1) | fan], 6),
        ([add.s(1) | fan | add.s(2)], 1),
        ([chord([add.s(1)], fan)], 3),
    ):
        assert length_hint_of(chord(header, add.s())) == size


def test_signatures_know_the_app(add):
    """Signatures of every kind have the project's app, as in Celery."""
    for sig in (add.s(), group(add.s()), chain(), chord([], add.s()), signature("s.unknown")):
        assert sig.app is app


def test_in_place_or(add):
    """|= chains, it doesn't merge dictionaries."""
    sig = add.s(1)
    sig |= add.s(2)
    assert isinstance(sig, chain)


def test_chain_does_not_change_its_parts(add):
    """Composing leaves the signatures that were composed as they were."""
    body = add.s(3)
    part = chord([add.s(1)], body)
    before = json.dumps(part)
    part | add.s(4) | add.s(5)
    chain(part, add.s(4))
    assert json.dumps(part) == before


def test_unknown_kind(add):
    """A wire form of a kind that nobody registered is refused by name."""
    with pytest.raises(ValueError, match="'spiral'"):
        Signature.from_dict({**add.s(1), "subtask_type": "spiral"})


def test_own_kinds(add):
    """A class of one's own takes part once it is registered."""

    @Signature.register_type("twin")
    class twin(Signature):
        @classmethod
        def from_dict(cls, d, app=None):
            return cls(d)

    try:
        assert isinstance(Signature.from_dict({**add.s(1), "subtask_type": "twin"}), twin)
    finally:
        del Signature.TYPES["twin"]


def test_partial_wire_forms():
    """A dictionary with only the task's name is enough."""
    assert signature({"task": "s.add"}) == signature("s.add")
    assert maybe_signature(None) is None


def test_chunks_need_a_size(add):
    """Chunks of nothing can't be made."""
    with pytest.raises(ValueError, match="chunks of 0"):
        chunks(add.s(), [1], 0)


def test_skew(add):
    """skew() spreads the members of a group over time."""
    spread = group(add.s(i) for i in range(4)).skew(1, stop=3)
    assert [task.options["countdown"] for task in spread.tasks] == [1, 2, 3, 3]


def test_maps_go_where_their_task_goes(world, add):
    """Map and chunks of a task with its own queue go to that queue, unless told otherwise."""
    add.queue = "slow"
    add.map([1]).apply_async()
    add.chunks([(1,)], 1).apply_async()
    add.map([1]).set(queue="fast").apply_async()
    assert [message.queue for message in world.messages] == ["slow", "slow", "fast"]


def test_ids_are_uuids():
    """Ids are random UUIDs of version 4."""
    import uuid

    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert {uuid.UUID(text).version for text in ids} == {4}
    assert {uuid.UUID(text).variant for text in ids} == {uuid.RFC_4122}


class TestStamps:
    def test_stamp_of_a_call(self, world, add):
        """Stamps become headers of the message, by name."""
        sig = add.s(1)
        sig.stamp(tenant="a")
        sig.apply_async()
        [message] = world.messages
        assert (message.stamped_headers, message.stamps) == (["tenant"], {"tenant": "a"})

    def test_every_part_is_stamped(self, world, add):
        """A workflow's stamps are on all of its tasks, links included."""
        flow = add.s(1, 1) | group(add.s(1), add.s(2)) | chord([add.s(), add.s()], add.s())
        flow.tasks[0].link(add.s(5))
        flow.stamp(tenant="a")
        text = json.dumps(flow)
        assert text.count('"tenant": "a"') >= 6
        flow.apply_async()
        assert world.messages[0].stamps == {"tenant": "a"}

    def test_visitor(self, add):
        """A visitor chooses the stamps of every part and hears of the beginnings and ends."""
        heard = []

        class Visitor(StampingVisitor):
            def on_signature(self, sig, **headers):
                return {"args": repr(sig.args)}

            def on_group_start(self, group, **headers):
                heard.append("group")
                return {"grouped": True}

            def on_group_end(self, group, **headers):
                heard.append("end")

            def on_chain_start(self, chain, **headers):
                heard.append("chain")
                return {}

            def on_chord_body(self, sig, **header):
                heard.append("body")
                return {"body": True}

            def on_callback(self, callback, **header):
                return {"callback": True}

            def on_errback(self, errback, **header):
                return {"errback": True}

        first = add.s(1)
        first.link(add.s(8))
        first.link_error(add.s(9))
        flow = chain.of([first, chord([add.s(2)], add.s(3))])
        flow.stamp(visitor=Visitor())
        assert heard == ["chain", "group", "end", "body"]
        assert first.options["args"] == "(1,)"
        assert first.options["link"][0].options["callback"] is True
        assert first.options["link_error"][0].options["errback"] is True
        header, body = flow.tasks[1].header_tasks()[0], flow.tasks[1].body
        assert header.options["grouped"] is True
        assert body.options["body"] is True
        assert set(header.options["stamped_headers"]) == {"grouped", "args"}

    def test_what_a_visitor_returns_beside_stamps(self, world, add):
        """With ``stamped_headers`` a visitor says which of its keys are stamps; the others are not for the call."""
        passed = []

        class Visitor(StampingVisitor):
            def on_chain_start(self, chain, **headers):
                return {"tenant": "a", "depth": 1, "stamped_headers": ["tenant"]}

            def on_signature(self, sig, **headers):
                passed.append(headers.get("depth"))
                return {"monitoring": 7, "other": "x", "stamped_headers": ["monitoring"]}

            def on_callback(self, callback, **header):
                return {"callback": True, "more": 1, "stamped_headers": ["callback"]}

        flow = add.s(1) | add.s(2)
        flow.tasks[0].link(add.s(3))
        flow.stamp(visitor=Visitor())
        flow.apply_async()
        [message] = world.messages
        assert passed == [1, 1, 1]
        assert message.stamps == {"tenant": "a", "monitoring": 7}
        assert set(message.embed["callbacks"][0]["options"]) == {"tenant", "monitoring", "callback", "stamped_headers"}

    def test_appended_stamps(self, add):
        """A stamp given twice is replaced, or kept beside the old one with append_stamps."""
        sig = add.s(1)
        sig.stamp(tenant="a")
        sig.stamp(tenant="b")
        assert sig.options["tenant"] == "b"
        sig.stamp(append_stamps=True, tenant="c")
        assert sig.options["tenant"] == ["b", "c"]
