"""Workflows of every shape give the right results, sent over the wire and in eager mode."""

import json

import pytest

from django_tasks.canvas import chain, chord, group, signature
from django_tasks.exceptions import ChordError
from django_tasks.registry import registry
from django_tasks.result_backends.memory import MemoryResultBackend
from django_tasks.tasks import shared_task
from tests.unit.workflow_world import World

calls: list = []


@shared_task(name="flow.add")
def add(x, y):
    """Add."""
    return x + y


@shared_task(name="flow.double")
def double(x):
    """Double."""
    return 2 * x


@shared_task(name="flow.total")
def total(values):
    """Add up, however nested."""
    return sum(total(v) if isinstance(v, list) else v for v in values)


@shared_task(name="flow.same")
def same(value=None):
    """Return the argument."""
    return value


@shared_task(name="flow.fail")
def fail(*args):
    """Fail."""
    raise ValueError("bad", 3)


@shared_task(name="flow.note")
def note(*args):
    """Remember the call."""
    calls.append(args)
    return args


@shared_task(name="flow.errback")
def errback(request, exc, traceback):
    """Remember a failure, in the process where it happened."""
    calls.append((request.id, exc, traceback))


@pytest.fixture(autouse=True)
def _no_calls():
    import django_tasks.builtins  # noqa: F401

    calls.clear()


@pytest.fixture
def world(monkeypatch):
    """A small worker."""
    return World(monkeypatch)


def ident(value):
    """Return a signature that returns this value."""
    return same.si(value)


WORKFLOWS = {
    "a call": (lambda: add.s(2, 3), 5),
    "a chain": (lambda: add.s(2, 3) | add.s(10) | double.s(), 30),
    "a chain with an immutable step": (lambda: add.s(2, 3) | add.si(1, 1) | double.s(), 4),
    "a chain of one": (lambda: chain(add.s(1, 2)), 3),
    "nested chains": (lambda: chain(add.s(1, 1), chain(double.s(), chain(double.s(), add.s(1)))), 9),
    "a group": (lambda: group(add.s(i, i) for i in range(4)), [0, 2, 4, 6]),
    "a group of one": (lambda: group(add.s(1, 1)), [2]),
    "nested groups": (lambda: group(add.s(1, 1), group(add.s(2, 2), add.s(3, 3))), [2, 4, 6]),
    "a group of chains": (lambda: group(add.s(1, 1) | double.s(), add.s(2, 2) | double.s()), [4, 8]),
    "a chain that ends in a group": (lambda: add.s(1, 1) | group(add.s(1), add.s(2)), [3, 4]),
    "a group of one chain that ends in a group": (lambda: group(add.s(1, 1) | group(add.s(1), add.s(2))), [3, 4]),
    "a chord": (lambda: chord([add.s(1, 1), add.s(2, 2)], total.s()), 6),
    "a chord of one": (lambda: chord([add.s(1, 1)], total.s()), 2),
    "an empty chord": (lambda: chord([], total.s()), 0),
    "a group upgraded": (lambda: group(add.s(1, 1), add.s(2, 2)) | total.s(), 6),
    "a step before a group before a step": (lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | total.s(), 7),
    "steps after a chord": (lambda: group(add.s(1, 1), add.s(2, 2)) | total.s() | double.s() | add.s(1), 13),
    "two groups in a row": (lambda: group(ident(1), ident(2)) | group(total.s(), total.s()) | total.s(), 6),
    "fan out, in, out, in": (
        lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | group(add.s(1), add.s(2)) | total.s() | double.s(),
        34,
    ),
    "a chord that ends in a group": (lambda: group(ident(1), ident(2)) | group(total.s(), total.s()), [3, 3]),
    "a chord of chains": (lambda: chord([add.s(1, 1) | double.s(), ident(3)], total.s()), 7),
    "a chord of a chain alone": (lambda: chord(chain(add.s(1, 1), double.s()), total.s()), 4),
    "a chord in a chord": (lambda: chord([chord([ident(1), ident(2)], total.s()), ident(4)], total.s()), 7),
    "a chord in a chord in a chord": (
        lambda: chord([chord([chord([ident(1), ident(2)], total.s()), ident(4)], total.s()), ident(8)], total.s()),
        15,
    ),
    "chords one after the other": (
        lambda: chord([ident(1), ident(2)], total.s()) | chord([ident(4), ident(8)], total.s()),
        12,
    ),
    "a chord whose body is a chord": (lambda: chord([ident(1), ident(2)], chord([total.s(), total.s()], total.s())), 6),
    "a chord whose body is a chain": (lambda: chord([ident(1), ident(2)], chain(total.s(), double.s(), add.s(1))), 7),
    "a chain with a chord whose body is a chain with a chord": (
        lambda: (
            ident(1) | chord([add.s(1), add.s(2)], chain(total.s(), chord([add.s(1), add.s(2)], chain(total.s(), double.s())))) | add.s(100)
        ),
        126,
    ),
    "a header with a chain that ends in a group": (
        lambda: chord([ident(1) | group(add.s(1), add.s(2)), ident(7)], same.s()),
        [[2, 3], 7],
    ),
    "a header with a chord that ends in a group": (
        lambda: chord([chord([ident(1), ident(2)], group(total.s(), total.s())), ident(7)], same.s()),
        [[3, 3], 7],
    ),
    "a header with a chain through a group": (
        lambda: chord([ident(1) | group(add.s(1), add.s(2)) | total.s(), ident(7)], same.s()),
        [5, 7],
    ),
    "a chord that ends in a group, before a chain": (
        lambda: chord([ident(1), ident(2)], group(total.s(), total.s())) | chain(total.s(), double.s()),
        12,
    ),
    "a group, a group of one, a chain": (lambda: group(ident(1), ident(2)) | group([same.s()]) | chain(total.s(), double.s()), 6),
    "a chord that ends in a chord that ends in a group, before a chain": (
        lambda: chord([ident(1)], chord([same.s(), same.s()], group(total.s(), total.s()))) | chain(total.s(), double.s()),
        8,
    ),
    "a header of one chord that ends in a group of one": (lambda: chord([chord([ident(1)], group([same.s()]))], same.s()), [[[1]]]),
    "a header with a chain that ends in a group with a chord": (
        lambda: chord([ident(1) | group(add.s(1), chord([add.s(1), add.s(2)], total.s())), ident(7)], same.s()),
        [[2, 5], 7],
    ),
    "a header with a chord that ends in a group with a chord": (
        lambda: chord([chord([ident(1)], group(total.s(), chord([same.s(), same.s()], total.s())))], same.s()),
        [[1, 2]],
    ),
    "a chord that ends in a group of one chord that ends in a group": (
        lambda: chord([ident(1)], group([chord([same.s(), same.s()], group([total.s()]))])),
        [[2]],
    ),
    "map": (lambda: double.map([1, 2, 3]), [2, 4, 6]),
    "starmap": (lambda: add.starmap([(1, 2), (3, 4)]), [3, 7]),
    "chunks": (lambda: add.chunks([(i, i) for i in range(5)], 2), [[0, 2], [4, 6], [8]]),
    "the group of chunks, then a step": (lambda: add.chunks([(i, i) for i in range(5)], 2).group() | total.s(), 20),
    "a chain over an empty group": (lambda: chain(add.s(1, 1), group([]), double.s()), 4),
    "a group with an empty chain": (lambda: group(ident(1), chain(), ident(2)), [1, 2]),
    "an empty group": (lambda: group([]), []),
}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_over_the_wire(world, name):
    """Sent as messages, a workflow of this shape ends with the right value under the id that the caller holds."""
    make, expected = WORKFLOWS[name]
    result = make().apply_async()
    world.run()
    assert world.value(result) == expected


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_in_a_real_backend(monkeypatch, name):
    """The same with chords counted by a result backend that is one, and read by the results themselves."""
    world = World(monkeypatch, MemoryResultBackend())
    make, expected = WORKFLOWS[name]
    result = make().apply_async()
    world.run()
    assert result.get(timeout=1) == expected


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_eagerly(world, name):
    """Run in the caller's process, the same workflow has the same value, and nothing is sent."""
    make, expected = WORKFLOWS[name]
    assert make().apply().get() == expected
    assert not world.messages


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_when_read_from_json(world, name):
    """A workflow that came as JSON from elsewhere runs the same."""
    import json

    make, expected = WORKFLOWS[name]
    result = signature(json.loads(json.dumps(make()))).apply_async()
    world.run()
    assert world.value(result) == expected or name in {"map", "starmap", "chunks"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_result_when_frozen_first(world, name):
    """The result that freezing announces is the one that running fills."""
    make, expected = WORKFLOWS[name]
    sig = make()
    if sig["task"] == "celery.chunks":
        sig = sig.group()
    frozen = sig.freeze()
    sig.apply_async()
    world.run()
    # Freezing tells of the group as it was written, also where a lone member stands for it once it is sent.
    assert world.value(frozen) == ([expected] if name == "a group of one chain that ends in a group" else expected)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_in_a_workflow(world, name):
    """As a step between two others, the workflow still takes and gives the right values."""
    make, expected = WORKFLOWS[name]
    if name in {"an empty group", "chunks"}:
        pytest.skip("has no result of its own")
    if name == "a group of one":
        expected = expected[0]  # in a chain it stands for its only member, as in Celery
    result = (ident(None) | immutable(make()) | same.s()).apply_async()
    world.run()
    assert world.value(result) == expected


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_as_a_part_of_a_chord(world, name):
    """In a chord's header, the workflow contributes its result in its place."""
    make, expected = WORKFLOWS[name]
    if name in {"an empty group", "chunks", "a group", "a group of one", "nested groups", "a group of chains"}:
        pytest.skip("groups in a header are flattened")
    if name in {"a group with an empty chain", "a group of one chain that ends in a group"}:
        pytest.skip("groups in a header are flattened")
    result = chord([ident("before"), make(), ident("after")], same.s()).apply_async()
    world.run()
    assert world.value(result) == ["before", expected, "after"]


def immutable(sig):
    """Return the workflow such that its first tasks take nothing from the step before."""
    kind = sig.subtask_type
    if kind == "chain":
        if sig.tasks:
            immutable(sig.tasks[0])
    elif kind == "group":
        for task in sig.tasks:
            immutable(task)
    elif kind == "chord":
        for task in sig.header_tasks():
            immutable(task)
    else:
        sig.set_immutable(True)
    return sig


def test_group_leaves_in_one_publish(world):
    """However many members and whatever they are, a group is one publish."""
    group(add.s(1, 1), add.s(2, 2) | double.s(), chord([ident(1), ident(2)], total.s())).apply_async()
    assert [len(batch) for batch in world.published] == [4]


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
    monkeypatch.setattr(world.results, "open_chord", lambda gid, size, body, parts: opened.append((len(world.published), gid, size)))
    chord([add.s(1, 1), group(ident(1), ident(2)) | total.s(), ident(1) | group(ident(2), ident(3))], total.s()).apply_async()
    assert sorted(size for _, _, size in opened) == [2, 4]
    assert {published for published, _, _ in opened} == {0}


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


def test_links_get_the_result(world):
    """A callback runs with the result, several run side by side, and groups among them, too."""
    sig = add.s(1, 1)
    sig.link(note.s("one"))
    sig.link(note.s("two"))
    sig.link(group(note.s("three"), note.s("four")))
    sig.apply_async()
    world.run()
    assert sorted(calls, key=repr) == [(2, "four"), (2, "one"), (2, "three"), (2, "two")]


def test_link_of_a_chain_runs_last(world):
    """A callback of the whole chain gets the last step's result."""
    flow = add.s(1, 1) | double.s()
    flow.link(note.s())
    flow.apply_async()
    world.run()
    assert calls == [(4,)]


def test_link_of_a_chord_gets_the_bodys_result(world):
    """A callback given to a chord, in any way, follows its body."""
    chord([ident(1), ident(2)], total.s()).apply_async(link=note.s("option"))
    flow = chord([ident(1), ident(2)], total.s())
    flow.link(note.s("method"))
    flow.apply_async()
    world.run()
    assert sorted(calls) == [(3, "method"), (3, "option")]


def test_groups_take_no_links():
    """A link on a whole group has no meaning, and says so."""
    with pytest.raises(TypeError, match="chord"):
        group(add.s(1, 1)).apply_async(link=note.s())


def test_new_style_errback_is_called_in_process(world):
    """An error callback of three arguments is called where the task failed, and not sent."""
    result = fail.s().on_error(errback.s()).apply_async()
    world.run()
    [(task_id, exc, traceback)] = calls
    assert (task_id, exc.args, len(world.ran)) == (result.id, ("bad", 3), 1)
    assert traceback.startswith("Traceback")
    assert "ValueError: ('bad', 3)" in traceback


def test_old_style_errback_is_sent_with_the_id(world):
    """An error callback of one argument is sent as a task, with the failed task's id."""
    result = fail.s().on_error(same.s()).apply_async()
    world.run()
    assert [message.task for message in world.ran] == ["flow.fail", "flow.same"]
    assert tuple(world.ran[1].args) == (result.id,)
    assert world.ran[1].parent_id == result.id


def test_errback_of_an_unknown_task_is_sent(world):
    """An error callback that this process doesn't know goes to one that does."""
    fail.s().on_error(signature("elsewhere.report", args=("x",))).apply_async()
    world.step()
    assert [message.task for message in world.queue] == ["elsewhere.report"]


def test_errback_with_stored_arguments(world):
    """Stored arguments of an error callback come after the three it is called with."""

    @shared_task(name="flow.errback4")
    def errback4(request, exc, traceback, where):
        calls.append((request.id, where))

    try:
        result = fail.s().on_error(errback4.s("shop")).apply_async()
        world.run()
        assert calls == [(result.id, "shop")]
    finally:
        registry.unregister("flow.errback4")


def test_failing_errback_changes_nothing(world, caplog):
    """An error callback that fails is logged; the task's failure stays what it is."""

    @shared_task(name="flow.badback")
    def badback(request, exc, traceback):
        raise RuntimeError("worse")

    try:
        result = fail.s().on_error(badback.s()).apply_async()
        world.run()
        assert world.state(result) == "FAILURE"
        assert "badback" in caplog.text
    finally:
        registry.unregister("flow.badback")


def test_failed_chain_fails_its_other_steps(world):
    """When a step fails, those after it fail with the same error, so that nobody waits for ever."""
    flow = ident(1) | fail.s() | double.s() | double.s()
    result = flow.apply_async()
    world.run()
    assert len(world.ran) == 2
    assert [world.state(r) for r in (result, result.parent, result.parent.parent)] == ["FAILURE"] * 3
    assert world.state(result.parent.parent.parent) == "SUCCESS"
    assert isinstance(world.value(result), ValueError)


def test_failed_chain_fails_a_chord_behind_it(world):
    """When a step fails before a chord, the chord's body fails."""
    result = (fail.si() | group(ident(1), ident(2)) | total.s() | double.s()).apply_async()
    world.run()
    assert world.state(result) == "FAILURE"
    assert world.state(result.parent) == "FAILURE"


def test_failed_chain_fails_a_group_behind_it(world):
    """When a step fails before a group, the group's members fail."""
    result = (fail.si() | group(ident(1), ident(2))).apply_async()
    world.run()
    assert [world.state(member) for member in result.results] == ["FAILURE", "FAILURE"]


def test_error_callback_of_a_chain_hears_every_step(world):
    """An error callback of the whole chain is called for whichever step fails."""
    (ident(1) | fail.s() | double.s()).on_error(errback.s()).apply_async()
    world.run()
    assert [exc.args for _, exc, _ in calls] == [("bad", 3)]


def test_failed_part_fails_the_body(world):
    """When a part of a header fails, the body isn't run: its result is a ChordError that names the part."""
    header = [ident(1), fail.si(), ident(2)]
    result = chord(header, total.s()).apply_async()
    world.run()
    error = world.value(result)
    assert isinstance(error, ChordError)
    failed_id = world.ran[1].id
    assert error.args == (f"Dependency {failed_id} raised ValueError('bad', 3)",)
    assert "flow.total" not in {message.task for message in world.ran}


def test_failed_part_calls_the_bodys_errbacks(world):
    """The error callbacks of the body hear of a failed header, with the body's id."""
    flow = chord([ident(1), fail.si()], total.s())
    flow.link_error(errback.s())
    flow.link_error(same.s())
    result = flow.apply_async()
    world.run()
    [(task_id, exc, _)] = calls
    assert task_id == result.id
    assert isinstance(exc, ChordError)
    assert tuple(world.ran[-1].args) == (result.id,)


@pytest.mark.parametrize(("allowed", "heard"), [(False, [ChordError]), (True, [ValueError, ChordError])])
def test_failed_part_calls_the_chords_errbacks_if_the_setting_says_so(world, settings, allowed, heard):
    """TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER links error callbacks of a chord to the parts of its header, too."""
    settings.DJANGO_TASKS = {"TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER": allowed}
    header = [ident(1), fail.si()]
    flow = chord(header, total.s()).on_error(errback.s())
    flow.apply_async()
    world.run()
    assert [type(exc) for _, exc, _ in calls] == heard
    assert "link_error" not in flow.options


@pytest.mark.parametrize("body", [lambda: chord([same.s()], total.s()), lambda: chord([same.s()], chord([same.s()], total.s()))])
def test_failed_part_calls_the_errbacks_of_a_body_that_is_a_chord(world, body):
    """Error callbacks of a chord whose body is a chord are called once, with the id by which it is waited for."""
    flow = chord([ident(1), fail.si()], body())
    flow.link_error(errback.s())
    result = flow.apply_async()
    world.run()
    assert [(task_id, type(exc)) for task_id, exc, _ in calls] == [(result.id, ChordError)]
    assert world.state(result) == "FAILURE"


def test_failed_part_fails_what_follows_the_body(world):
    """Steps behind a chord whose header failed fail, too."""
    result = (group(ident(1), fail.si()) | total.s() | double.s() | double.s()).apply_async()
    world.run()
    assert [world.state(r) for r in (result, result.parent, result.parent.parent)] == ["FAILURE"] * 3


def test_failed_part_fails_a_group_body(world):
    """Every member of a body that is a group fails with the part's own exception, of which its error callbacks hear."""
    result = chord([ident(1), fail.si()], group(total.s(), total.s().on_error(errback.s()))).apply_async()
    world.run()
    assert [world.state(member) for member in result.results] == ["FAILURE", "FAILURE"]
    assert [type(world.value(member)) for member in result.results] == [ValueError, ValueError]
    assert [type(exc) for _, exc, _ in calls] == [ValueError]


def test_failed_part_fails_a_chord_around(world):
    """A failed inner chord is a failed part of the outer one."""
    result = chord([chord([ident(1), fail.si()], total.s()), ident(4)], total.s()).apply_async()
    world.run()
    assert isinstance(world.value(result), ChordError)


@pytest.mark.parametrize("body", [total.s, lambda: total.s() | same.s(), lambda: group(total.s(), same.s())])
def test_error_callback_of_a_chord_around_is_called_once(world, body):
    """The failure of an inner chord is the outer one's, so an error callback of the outer one hears of it there, once."""
    inner = chord([ident(1), fail.si()], body())
    outer = chord([ident(4), inner], same.s())
    outer.link_error(errback.s())
    # Celery's workers don't fail the outer one, so what they are sent is linked to the inner one, too.
    assert "flow.errback" in json.dumps(outer.header_tasks()[1].body)
    result = outer.apply_async()
    world.run()
    assert [task_id for task_id, _, _ in calls] == [result.id]


def test_failed_chain_in_a_header_counts_as_a_part(world):
    """A chain in a header that fails early is one failed part; the chord doesn't hang."""
    result = chord([fail.si() | double.s() | double.s(), ident(4)], total.s()).apply_async()
    world.run()
    assert isinstance(world.value(result), ChordError)


def test_body_that_fails_is_a_plain_failure(world):
    """An error in the body itself is the body's own."""
    result = chord([ident(1)], fail.s()).apply_async()
    world.run()
    assert isinstance(world.value(result), ValueError)


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
