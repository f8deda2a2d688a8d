"""How workflows leave: in how many messages, with which parents, options and arguments."""

import weakref
from itertools import count

import pytest

from django_tasks.canvas import chain, chord, group, signature, unmade
from django_tasks.result import GroupResult
from django_tasks.tasks import Task, shared_task
from tests.unit.workflows.flow import add, calls, double, fail, ident, note, same, total

later = []


class Late(Task):
    def apply_async(self, *args, **kwargs):
        later.append(lambda: super(Late, self).apply_async(*args, **kwargs))


@shared_task(name="flow.late", base=Late)
def late(x):
    return 2 * x


def test_group_leaves_in_one_publish(world):
    """However many members and whatever they are, a group is one publish."""
    group(add.s(1, 1), add.s(2, 2) | double.s(), chord([ident(1), ident(2)], total.s())).apply_async()
    assert [len(batch) for batch in world.published] == [4]


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: group(late.s(1), late.s(2)), [2, 4]),
        (lambda: group(late.s(1), same.s(2)), [2, 2]),
        (lambda: chord([late.s(1), late.s(2)], total.s()), 6),
        (lambda: chord([same.s(1), late.s(2)], total.s() | late.s()), 10),
        (lambda: chord([late.s(1)], late.s()), [2, 2]),
        (lambda: late.s(1) | late.s(), 4),
        (lambda: same.s(1) | late.s() | same.s(), 2),
        (lambda: chain(late.s(3)), 6),
        (lambda: group(late.s(3)), [6]),
        (lambda: late.s(1) | group(late.s(), late.s()) | total.s(), 8),
    ],
)
def test_a_class_that_sends_later(world, make, value):
    """A task class whose apply_async returns nothing, as it sends after the commit, runs in every workflow, and has its result."""
    result = make().apply_async()
    while later or world.queue:
        while later:
            later.pop(0)()
        world.run()
    if isinstance(value, list) and isinstance(result, GroupResult):
        assert [world.value(each) for each in result.results] == value
    else:
        assert world.value(result) == value


def test_task_stands_for_its_signature_in_a_chords_header(world):
    """Old code of Celery's names tasks there without ``.s()``: they get what the chord is given."""
    result = (same.s(4) | chord([double, same.s(), double], total.s())).apply_async()
    world.run()
    assert world.value(result) == 20
    with pytest.raises(TypeError, match=r"did you mean flow\.double\.s\(\.\.\.\)\?"):
        group([double, same.s(1)])


def test_header_that_raises_sends_nothing(world):
    """A generator is read to its end before anything leaves, in one publish."""

    def parts(last):
        yield ident(1)
        yield last()

    with pytest.raises(ZeroDivisionError):
        chord(parts(lambda: 1 / 0), total.s()).apply_async()
    assert world.published == []
    result = chord(parts(lambda: ident(2)), total.s()).apply_async()
    assert [len(batch) for batch in world.published] == [2]
    world.run()
    assert world.value(result) == 3


def test_chain_as_the_header_is_one_part(world):
    """Steps are not parts, whether or not the chain stands in a list."""
    for header in (ident(1) | double.s() | double.s(), [ident(1) | double.s() | double.s()]):
        result = chord(header, same.s()).apply_async()
        world.run()
        assert world.value(result) == [4]


def test_parts_of_a_chord_are_its_own(world):
    """Linking and stamping a chord leaves alone the signatures that its header was made of: they may be parts of others."""
    mine = same.s(1)
    flow = chord([mine, mine], total.s())
    flow.tasks[0].link(note.s())
    flow.stamp(tenant="acme")
    assert mine == same.s(1)
    assert flow.tasks[0].options["tenant"] == "acme"
    assert "link" not in flow.tasks[1].options


@pytest.mark.parametrize("body", [total.s, lambda: total.s() | same.s(), lambda: group(total.s(), total.s())])
def test_family_of_a_body(world, body):
    """A chord's body is the child of the part that completed it, and of the family of the whole workflow."""
    (same.s(1) | chord([same.s(), same.s(), same.s()], body())).apply_async()
    world.run()
    first, *_, last = world.ran[:4]
    bodies = [message for message in world.ran if message.task == "flow.total"]
    assert {(message.root_id, message.parent_id) for message in bodies} == {(first.id, last.id)}


def test_chord_is_opened_before_its_header_leaves(world, monkeypatch):
    """The backend knows the size before the first part can come back."""
    opened = []
    monkeypatch.setattr(world.results, "open_chords", lambda chords: opened.extend((len(world.published), each.size) for each in chords))
    chord([add.s(1, 1), group(ident(1), ident(2)) | total.s(), ident(1) | group(ident(2), ident(3))], total.s()).apply_async()
    assert sorted(size for _, size in opened) == [2, 4]
    assert {published for published, _ in opened} == {0}


def test_results_have_their_parents(world):
    """From the last result of a workflow, parents lead to all the others."""
    result = (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | double.s()).apply_async()
    world.run()
    assert world.value(result) == 14
    assert world.value(result.parent) == 7
    assert world.value(result.parent.parent) == [3, 4]
    assert world.value(result.parent.parent.parent) == 2
    assert result.parent.parent.parent.parent is None


def test_family_of_a_chain(world):
    """Every step knows the first as its root and the one before as its parent."""
    (add.s(1, 1) | double.s() | double.s()).apply_async()
    world.run()
    first, second, third = world.ran
    assert (first.root_id, first.parent_id) == (first.id, None)
    assert (second.root_id, second.parent_id) == (first.id, first.id)
    assert (third.root_id, third.parent_id) == (first.id, second.id)


def test_children_of_a_task_are_what_follows_it(world):
    """Callbacks and the next step are entered as the task's children."""
    sig = add.s(1, 1)
    sig.link(double.s())
    result = (sig | add.s(5)).apply_async()
    world.run()
    first, *others = world.ran
    children = world.results.metas[first.id].children
    assert sorted(child[0][0] for child in children) == sorted(message.id for message in others)
    assert world.value(result) == 7


def test_options_of_a_group_are_its_members(world):
    """Options given to a group count for each member; a member's group can't be replaced."""
    group(add.s(1, 1), add.s(2, 2).set(priority=7)).apply_async(queue="slow", priority=3)
    assert [(m.queue, m.priority) for m in world.messages] == [("slow", 3), ("slow", 3)]
    assert len({m.group for m in world.messages}) == 1
    assert [m.group_index for m in world.messages] == [0, 1]


def test_countdown_of_a_chord_delays_its_header(world):
    """A delayed chord delays the parts, not the body after them."""
    chord([ident(1)], total.s()).apply_async(countdown=60)
    [message] = world.messages
    assert message.eta is not None
    assert "countdown" not in message.embed["chord"]["options"]


def test_arguments_go_to_the_first_step(world):
    """Arguments of a chain's call go before those of its first step."""
    result = (add.s(1) | double.s()).apply_async((10,))
    world.run()
    assert world.value(result) == 22


def test_arguments_go_to_every_member(world):
    """Arguments of a group's call go to all members."""
    result = group(add.s(1), add.s(2))(10)
    world.run()
    assert world.value(result) == [11, 12]


def test_signatures_can_be_sent_again(world):
    """Sending doesn't use a workflow up: a second call has its own ids and the same result."""
    flow = add.s(1, 1) | group(add.s(1), add.s(2)) | total.s()
    first, second = flow.apply_async(), flow.apply_async()
    world.run()
    assert first.id != second.id
    assert world.value(first) == world.value(second) == 7


def test_unregistered_tasks_can_be_composed(world):
    """Signatures of tasks that live elsewhere are sent by name."""
    group(signature("elsewhere.a", args=(1,)), signature("elsewhere.b")).apply_async()
    assert [message.task for message in world.messages] == ["elsewhere.a", "elsewhere.b"]


def test_what_is_no_signature_is_refused():
    """A task in the place of a signature is an error that names the remedy."""
    with pytest.raises(TypeError, match=r"flow\.add\.s"):
        group(add, add)


def test_what_will_never_run_knows_where_it_belongs(world):
    """The rest of a chain, and a chord's body and what follows it, are found by root and sender like what ran."""
    result = (add.s(1, 1) | fail.s() | double.s() | double.s()).delay()
    world.run()
    metas = world.results.metas
    last, before = metas[result.id], metas[result.parent.id]
    first = result.parent.parent.parent.id
    assert [meta.root_id for meta in (last, before)] == [first, first]
    assert (last.parent_id, before.parent_id) == (before.task_id, result.parent.parent.id)

    result = (add.s(1, 1) | group(fail.s(), double.s()) | total.s() | double.s()).delay()
    world.run()
    last, body = metas[result.id], metas[result.parent.id]
    assert last.root_id == body.root_id == result.parent.parent.parent.id
    assert last.parent_id == body.task_id


@pytest.mark.parametrize(
    "form",
    [
        lambda made: made,
        lambda made: ident(0) | made,
        lambda made: ident(0) | ident(0) | made | same.s(),
        lambda made: group(ident(0), ident(0) | made),
        lambda made: chord([made, ident(0)], same.s()),
        lambda made: chord([ident(0)], chord([ident(0)], made)),
    ],
)
@pytest.mark.parametrize("copied", [False, True])
def test_each_sending_of_a_frozen_workflow_is_a_run(world, form, copied):
    """Its tasks run again under their ids, and so does the body of every chord in it, whether it or a copy is sent."""
    flow = form(chord([ident(1), ident(2)], note.s()))
    flow.freeze()
    for run in (1, 2, 3):
        (flow.clone() if copied else flow).apply_async()
        world.run()
        assert calls == [([1, 2],)] * run


def test_a_message_that_is_delivered_again_sends_no_second_body(world):
    """The frozen chord in it opens the same chord: its body runs once, for all runs of the step before."""
    (ident(0) | chord([ident(1), ident(2)], note.s())).apply_async()
    first = world.queue[0]
    world.run()
    world.queue.append(first)
    world.run()
    assert calls == [([1, 2],)]


def test_celerys_options_of_polling_have_no_effect(world):
    """``interval`` and ``max_retries`` say how Celery asks for a chord's end; here its parts are counted."""
    result = chord([ident(1)], note.s(), interval=1, max_retries=2).apply_async(interval=3)
    chord([ident(2)])(note.s(), max_retries=3)
    world.run()
    assert len(calls) == 2
    assert world.state(result) == "SUCCESS"


@pytest.fixture
def slowly(monkeypatch):
    """Making a member takes a second."""
    seconds = count()
    monkeypatch.setattr(unmade.clock, "monotonic", lambda: float(next(seconds)))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("as_chord", [False, True])
def test_a_slow_generators_first_members_run_before_the_last_is_made(world, slowly, as_chord, nested):
    """The body still gets all values in order, and not before the last part is there."""
    ran = []

    def members():
        for number in range(6):
            world.run()
            ran.append(len([message for message in world.ran if message.task == "flow.note"]))
            yield note.s(number) | ident(number) if nested and number % 2 else note.s(number) if not nested else group(note.s(number))

    result = (chord(members(), same.s()) if as_chord else group(members())).apply_async()
    world.run()
    # The newest member is held back until there is another.
    assert ran == [0, 0, 1, 2, 3, 4]
    expected = [number if nested and number % 2 else [number] for number in range(6)]
    assert world.value(result) == expected
    assert len((result.parent if as_chord else result).results) == 6


@pytest.mark.parametrize("make", [group, lambda members: chord(members, same.s()), lambda members: group(members) | same.s()])
def test_members_of_a_large_generator_are_not_kept(world, monkeypatch, make):
    """They leave a thousand at a time, and then they are gone; what was too long to be kept can't be sent again."""
    monkeypatch.setattr(unmade, "KEPT", 100)
    monkeypatch.setattr(unmade.clock, "monotonic", lambda: 0.0)
    alive: list = []
    most = []

    def members():
        for number in range(5000):
            made = same.si(number)
            alive.append(weakref.ref(made))
            yield made
            del made
            if number % 500 == 0:
                most.append(sum(ref() is not None for ref in alive))

    flow = make(members())
    result = flow.apply_async()
    assert [len(batch) for batch in world.published] == [1000] * 5
    assert max(most) <= 3200
    assert [message.group_index for message in world.messages] == list(range(5000))
    with pytest.raises(ValueError, match="is used up: make it anew to send it again"):
        flow.apply_async()
    world.run(most=6000)
    assert world.value(result) == list(range(5000))


def test_a_generator_that_raises_too_late(world, slowly):
    """What was sent before runs, and the caller is told; the body of the chord isn't called."""

    def members():
        yield note.s(1)
        yield note.s(2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        chord(members(), same.s()).apply_async()
    world.run()
    assert [message.task for message in world.ran] == ["flow.note"]


def test_a_small_generators_group_can_be_sent_again(world, slowly):
    """Its members are kept, however slowly they came; and looking at them makes them."""
    flow = group(note.s(number) for number in range(3))
    flow.apply_async()
    flow.apply_async()
    world.run()
    assert sorted(calls) == [(0,), (0,), (1,), (1,), (2,), (2,)]
    looked_at = group(note.s(number) for number in range(3))
    assert (len(looked_at), looked_at.tasks[0], looked_at) == (3, note.s(0), group(note.s(0), note.s(1), note.s(2)))
