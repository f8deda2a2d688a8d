"""Calling signatures: options of chains, groups and chords, what may be a part of them, and runs in eager mode."""

import asyncio

import pytest

from django_tasks.canvas import Signature, chain, chord, group, maybe_signature, signature
from django_tasks.exceptions import Ignore
from django_tasks.registry import registry
from django_tasks.tasks import shared_task

LATER = {"queue": "slow", "priority": 3, "headers": {"h": 1}}


@pytest.fixture(autouse=True)
def calls():
    """Tasks to call, and what they were called with."""
    noted = []

    @shared_task(name="calling.note")
    def note(*args, **kwargs):
        noted.append((args, kwargs))
        return sum(args)

    @shared_task(name="calling.ignore")
    def ignore():
        raise Ignore

    yield noted
    for name in ("calling.note", "calling.ignore"):
        registry.unregister(name)


@pytest.fixture
def note():
    """The task."""
    return registry["calling.note"]


def sent_as(message):
    """Return how a message goes on its way."""
    return {"queue": message.queue, "priority": message.priority, "headers": dict(message.headers)}


@pytest.mark.parametrize("how", ["given", "set"])
def test_options_of_a_chain_are_its_first_steps(world, note, how):
    """A queue, a priority and headers of a chain are those of its first step; its id is that of the last."""
    flow = note.s(1) | note.s(2) | note.s(3)
    options = {**LATER, "task_id": "last"}
    result = flow.apply_async(**options) if how == "given" else flow.set(**options).apply_async()
    world.run()
    first, second, third = world.ran
    assert sent_as(first) == LATER
    assert [sent_as(message)["queue"] for message in (second, third)] == ["default", "default"]
    assert (result.id, third.id) == ("last", "last")
    assert world.value(result) == 6


@pytest.mark.parametrize("how", ["given", "set"])
def test_options_of_a_chord_are_for_all_of_it(world, note, how):
    """A queue, a priority and headers of a chord are those of its header and of its body; its id is the body's."""
    flow = chord([note.s(1), note.s(2)], note.si(5))
    options = {**LATER, "task_id": "last"}
    result = flow.apply_async(**options) if how == "given" else flow.set(**options).apply_async()
    world.run()
    assert [sent_as(message) for message in world.ran] == [LATER] * 3
    assert (result.id, world.ran[-1].id, world.value(result)) == ("last", "last", 5)


def test_countdown_of_a_chain_delays_its_first_step_only(world, note):
    """What follows the first step follows it at once."""
    (note.s(1) | note.s(2)).apply_async(countdown=60)
    assert world.messages[0].eta is not None
    world.run()
    assert world.ran[1].eta is None


def test_a_frozen_chain_has_the_id_of_its_last_step(note):
    """Freezing gives a chain the id of its last step, by which it is waited for."""
    flow = note.s(1) | note.s(2)
    result = flow.freeze("last")
    assert (result.id, flow.id, flow.tasks[-1].id) == ("last", "last", "last")


def test_nothing_is_chained_to_an_ignored_step(calls, note):
    """In eager mode, too, a step that ends with Ignore ends its chain; there is no value."""
    result = (registry["calling.ignore"].s() | note.s(1)).apply()
    assert (result.state, result.get(), calls) == ("IGNORED", None, [])


def test_empty_chains_send_nothing(world, note):
    """A chain without steps has nothing to send and no result; steps can be added to it."""
    assert chain()() is None
    assert chain().apply_async() is None
    assert world.published == []
    flow = chain()
    flow |= note.s(1)
    flow |= note.s(2)
    assert flow.apply().get() == 3


def test_an_empty_group_is_false(world, note):
    """As a group has the length of its members, an empty one is false; yet it can be a body, which gives no values."""
    assert not group([])
    assert (bool(group(note.s(1))), bool(chain()), bool(chord([], note.s()))) == (True, True, True)
    result = chord([note.s(1)], note.s())(group([]))
    world.run()
    assert [message.task for message in world.ran] == ["calling.note"]
    assert world.value(result) == []


def test_keywords_go_to_the_first_step(calls, note):
    """Keyword arguments of a chain's call are its first step's alone."""
    (note.si(1) | note.s(2)).apply(kwargs={"a": 1})
    note.s(1).clone(kwargs={"b": 2}).apply()
    chain(note.s(1), note.s(2)).apply(kwargs={"c": 3})
    assert calls == [((1,), {}), ((1, 2), {}), ((1,), {"b": 2}), ((1,), {"c": 3}), ((1, 2), {})]


@pytest.mark.parametrize("body", ["name", ["signature"], 5], ids=repr)
def test_what_is_no_body(note, body):
    """A chord's body is a signature; what is none is refused at once."""
    with pytest.raises(TypeError, match="made of signatures"):
        chord([note.s(1)], body)
    with pytest.raises(TypeError, match="made of signatures"):
        chord([note.s(1)])(body)


def test_a_task_is_no_body(note):
    """Who gives the task instead of its signature is told so."""
    with pytest.raises(TypeError, match=r"did you mean calling\.note\.s"):
        chord([note.s(1)], note)
    with pytest.raises(TypeError, match=r"did you mean calling\.note\.s"):
        chord([note.s(1)])(note)


def test_wire_forms_may_be_parts(world, note):
    """Parts may be given as dictionaries, everywhere."""
    wire = dict(note.s(1))
    flow = chord([], dict(note.si(3)))
    flow.tasks = [wire, dict(group(note.s(1), note.s(2)))]
    assert all(isinstance(part, Signature) for part in (*flow.tasks, flow.body))
    assert flow.__length_hint__() == 3
    result = flow.apply_async()
    world.run()
    assert world.value(result) == 3
    assert chord(dict(group(note.s(1), note.s(2))), note.si(1)).tasks == [note.s(1), note.s(2)]
    assert chord(wire, note.si(1)).tasks == [note.s(1)]
    assert chain(wire, wire).tasks == [note.s(1), note.s(1)]
    assert group(wire, wire).tasks == [note.s(1), note.s(1)]
    assert maybe_signature(wire) == note.s(1)


def test_frozen_chords_are_copied_with_their_ids(note):
    """A copy of a frozen chord stands for the same calls, with parts of its own."""
    flow = chord([note.s(1), note.s(2)], note.si(3))
    flow.freeze("body")
    copy = flow.clone()
    assert [task.id for task in copy.header_tasks()] == [task.id for task in flow.header_tasks()]
    assert (copy.tasks.id, copy.body.id) == (flow.tasks.id, "body")
    copy.header_tasks()[0].set(queue="slow")
    assert "queue" not in flow.header_tasks()[0].options


@pytest.mark.parametrize(
    ("left", "right", "kinds"),
    [
        ("call", "call", ("chain", [None, None])),
        ("call", "chain", ("chain", [None, None, None])),
        ("chain", "chain", ("chain", [None] * 4)),
        ("call", "group", ("chain", [None, "group"])),
        ("call", "lone", ("chain", [None, None])),
        ("call", "chord", ("chain", [None, "chord"])),
        ("group", "call", ("chord", None)),
        ("group", "group", ("chord", "group")),
        ("group", "chain", ("chord", "chain")),
        ("group", "empty", ("group", None)),
        ("chain", "empty", ("chain", [None, None])),
        ("chain", "group", ("chain", [None, None, "group"])),
        ("chord", "call", ("chord", "chain")),
        ("chord", "lone", ("chord", "chain")),
        ("chord", "chord", ("chord", "chain")),
        ("chord", "chain", ("chain", ["chord", None, None])),
        ("chord", "group", ("chain", ["chord", "group"])),
    ],
)
def test_what_the_operator_makes(left, right, kinds):
    """``|`` makes chains and chords of whatever it is given."""

    def made(name):
        step = signature("calling.note")
        return {
            "call": lambda: step,
            "chain": lambda: step | step,
            "group": lambda: group(step, step),
            "lone": lambda: group(step),
            "empty": group,
            "chord": lambda: chord([step, step], step),
        }[name]()

    outcome = made(left) | made(right)
    kind, inner = kinds
    assert outcome.subtask_type == kind
    if kind == "chain":
        assert [task.subtask_type for task in outcome.tasks] == inner
    elif kind == "chord":
        assert outcome.body.subtask_type == inner


def test_workflows_are_sent_from_async_code(world, note):
    """``adelay`` and ``aapply_async`` of signatures, chains, groups and chords send what ``delay`` and ``apply_async`` do."""

    async def send():
        return [
            await note.s(1).adelay(2),
            await (note.s(1) | note.s(2)).adelay(4),
            await group(note.s(1), note.s(2)).aapply_async((10,), queue="slow"),
            await chord([note.s(1), note.s(2)], note.si(7)).adelay(),
        ]

    call, steps, members, body = asyncio.run(send())
    world.run()
    assert (world.value(call), world.value(steps), world.value(body)) == (3, 7, 7)
    assert [world.value(member) for member in members.results] == [11, 12]
    assert {message.queue for message in world.ran if message.group == members.id} == {"slow"}
