"""Signatures and the shapes that they are put together in."""

import json
from typing import Any
from uuid import uuid4

from tests.processes import wait_until
from tests.workflows.table import PATIENCE, Table, failure, outcome_of
from tests.workflows.tasks import noted

SHAPES = Table()
gives = SHAPES.gives


def ident(t: Any, value: Any) -> Any:
    """Return a signature that returns this value, whatever it is given."""
    return t.same.si(value)


# ---- signatures


@gives([[1, 2], {}])
def partial_arguments_come_first(t: Any) -> Any:
    return t.give.s(2).delay(1)


@gives([[1], {"a": 1, "b": 2, "c": 4}])
def keywords_given_later_count(t: Any) -> Any:
    return t.give.s(1, a=1, b=2).set(priority=0).clone(kwargs={"c": 3}).apply_async((), {"c": 4})


@gives([[2], {}])
def an_immutable_signature_takes_nothing(t: Any) -> Any:
    return t.give.si(2).apply_async((1,), {"a": 1})


@gives([[2], {}])
def immutable_by_set(t: Any) -> Any:
    return t.add.s(1, 1) | t.give.s(2).set(immutable=True)


@gives([[5, 2], {"a": 1}])
def a_signature_by_name(t: Any) -> Any:
    return t.add.s(2, 3) | t.signature(t.give.name, args=(2,), kwargs={"a": 1})


@gives(16)
def a_workflow_that_was_json(t: Any) -> Any:
    made = t.group(t.add.s(1, 1), t.add.s(2, 2)) | t.total.s() | t.add.s(2) | t.double.s()
    return t.maybe_signature(json.loads(json.dumps(made)), app=t.app)


@gives(5)
def a_signature_called_directly(t: Any) -> Any:
    return t.add.s(2)(3)


@gives([5, 5, 10, 20])
def links_and_their_links(t: Any) -> Any:
    first, second, third = (str(uuid4()) for _ in range(3))
    sig = t.add.s(2, 3)
    sig.link(t.same.s().set(task_id=first))
    inner = t.double.s().set(task_id=second)
    inner.link(t.double.s().set(task_id=third))
    sig.link(inner)
    return [outcome_of(sig.apply_async()), *(outcome_of(t.AsyncResult(each)) for each in (first, second, third))]


@gives([5, "alone"])
def an_immutable_link(t: Any) -> Any:
    linked = str(uuid4())
    result = t.add.apply_async((2, 3), link=t.same.si("alone").set(task_id=linked))
    return [outcome_of(result), outcome_of(t.AsyncResult(linked))]


@gives([5, 10])
def a_chain_as_a_link(t: Any) -> Any:
    linked = str(uuid4())
    result = t.add.apply_async((2, 3), link=t.same.s() | t.double.s().set(task_id=linked))
    return [outcome_of(result), outcome_of(t.AsyncResult(linked))]


@gives([12, 24])
def a_link_of_a_chord_gets_the_bodys_result(t: Any) -> Any:
    linked = str(uuid4())
    made = t.chord([t.add.s(2, 3), t.add.s(3, 4)], t.total.s())
    made.link(t.double.s().set(task_id=linked))
    return [outcome_of(made.apply_async()), outcome_of(t.AsyncResult(linked))]


@gives([10, 20])
def a_link_of_a_chain_runs_last(t: Any) -> Any:
    linked = str(uuid4())
    made = t.chain(t.add.s(2, 3), t.double.s())
    made.link(t.double.s().set(task_id=linked))
    return [outcome_of(made.apply_async()), outcome_of(t.AsyncResult(linked))]


# ---- stamps


@gives([{"mark": "blue"}, {"mark": "blue"}])
def stamps_reach_the_task_and_its_links(t: Any) -> Any:
    linked = str(uuid4())
    sig = t.marks.s()
    sig.link(t.marks.s().set(task_id=linked))
    sig.stamp(mark="blue")
    return [outcome_of(sig.apply_async()), outcome_of(t.AsyncResult(linked))]


@gives([{"mark": 7}, {"mark": 7}])
def stamps_of_a_group(t: Any) -> Any:
    made = t.group(t.marks.s(), t.marks.s())
    made.stamp(mark=7)
    return made


@gives([[{"mark": "m"}, {"mark": "m"}], {"mark": "m"}])
def stamps_of_a_chord(t: Any) -> Any:
    last = str(uuid4())
    made = t.chord([t.marks.s(), t.marks.s()], t.same.s() | t.marks.s().set(task_id=last))
    made.stamp(mark="m")
    result = made.apply_async()
    return [result.parent.get(timeout=20), outcome_of(result)]


@gives({"mark": "m", "other": 2})
def stamps_of_two_calls(t: Any) -> Any:
    made = t.chain(t.add.s(1, 1), t.marks.s(names=["mark", "other"]))
    made.stamp(mark="m")
    made.stamp(other=2)
    return made


@gives([{"where": "group"}, {"where": "group"}, {"where": "signature"}])
def a_visitor_chooses_stamps(t: Any) -> Any:
    class Visitor(t.StampingVisitor):  # type: ignore[name-defined,misc]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {} if "where" in headers else {"where": "signature"}

        def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
            return {"where": "group"}

    names = ["where"]
    made = t.group(t.marks.s(names=names), t.marks.s(names=names))
    alone = t.marks.s(names=names)
    made.stamp(visitor=Visitor())
    alone.stamp(visitor=Visitor())
    return [*outcome_of(made.apply_async()), outcome_of(alone.apply_async())]


# ---- chains, groups, chords

FORMS: dict[str, tuple[Any, Any]] = {
    "a call": (lambda t: t.add.s(2, 3), 5),
    "a chain": (lambda t: t.add.s(2, 3) | t.add.s(10) | t.double.s(), 30),
    "a chain by its class": (lambda t: t.chain(t.add.s(2, 3), t.add.s(10), t.double.s()), 30),
    "a chain with an immutable step": (lambda t: t.add.s(2, 3) | t.add.si(1, 1) | t.double.s(), 4),
    "a chain of one": (lambda t: t.chain(t.add.s(1, 2)), 3),
    "a chain of chains": (lambda t: t.chain(t.add.s(1, 1), t.chain(t.double.s(), t.chain(t.double.s(), t.add.s(1)))), 9),
    "a chain of thirty": (lambda t: t.chain(t.add.s(0, 1), *(t.add.s(1) for _ in range(29))), 30),
    "a group": (lambda t: t.group(t.add.s(i, i) for i in range(4)), [0, 2, 4, 6]),
    "a group of a list": (lambda t: t.group([t.add.s(1, 1), t.add.s(2, 2)]), [2, 4]),
    "a group of one": (lambda t: t.group(t.add.s(1, 1)), [2]),
    "an empty group": (lambda t: t.group([]), []),
    "nested groups": (lambda t: t.group(t.add.s(1, 1), t.group(t.add.s(2, 2), t.add.s(3, 3))), [2, 4, 6]),
    "a group of chains": (lambda t: t.group(t.add.s(1, 1) | t.double.s(), t.add.s(2, 2) | t.double.s()), [4, 8]),
    "a group of chords": (
        lambda t: t.group(t.chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s()), t.chord([t.add.s(3, 3)], t.total.s())),
        [6, 6],
    ),
    "a group with partial arguments": (lambda t: t.group(t.add.s(1), t.add.s(2)).apply_async((10,)), [11, 12]),
    "a chain that ends in a group": (lambda t: t.add.s(1, 1) | t.group(t.add.s(1), t.add.s(2)), [3, 4]),
    "a chain of two groups' ends": (
        lambda t: t.add.s(1, 1) | t.double.s() | t.group(t.add.s(1), t.group(t.add.s(2), t.add.s(3))),
        [5, 6, 7],
    ),
    "a chord": (lambda t: t.chord([t.add.s(1, 1), t.add.s(2, 2)], t.total.s()), 6),
    "a chord called with its body": (lambda t: t.chord(t.add.s(i, i) for i in range(10))(t.total.s()), 90),
    "a chord of one": (lambda t: t.chord([t.add.s(1, 1)], t.total.s()), 2),
    "a chord with an empty header": (lambda t: t.chord([], t.total.s()), 0),
    "a chord's list is in order": (lambda t: t.chord([t.same.si(i) for i in range(25)], t.same.s()), list(range(25))),
    "a chord with an immutable body": (lambda t: t.chord([t.add.s(1, 1), t.add.s(2, 2)], t.same.si("alone")), "alone"),
    "group then task": (lambda t: t.group(t.add.s(1, 1), t.add.s(2, 2)) | t.total.s(), 6),
    "step, group, step": (lambda t: t.add.s(1, 1) | t.group(t.add.s(1), t.add.s(2)) | t.total.s(), 7),
    "steps after a chord": (lambda t: t.group(t.add.s(1, 1), t.add.s(2, 2)) | t.total.s() | t.double.s() | t.add.s(1), 13),
    "group then group": (lambda t: t.group(ident(t, 1), ident(t, 2)) | t.group(t.total.s(), t.total.s()), [3, 3]),
    "group, group, task": (lambda t: t.group(ident(t, 1), ident(t, 2)) | t.group(t.total.s(), t.total.s()) | t.total.s(), 6),
    "out, in, out, in": (
        lambda t: (
            t.add.s(1, 1) | t.group(t.add.s(1), t.add.s(2)) | t.total.s() | t.group(t.add.s(1), t.add.s(2)) | t.total.s() | t.double.s()
        ),
        34,
    ),
    "a chord of chains": (lambda t: t.chord([t.add.s(1, 1) | t.double.s(), ident(t, 3)], t.total.s()), 7),
    "a chord of groups": (
        lambda t: t.chord([t.group(ident(t, 1), ident(t, 2)), t.group(ident(t, 3), ident(t, 4))], t.total.s()),
        10,
    ),
    "a chord in a chord": (lambda t: t.chord([t.chord([ident(t, 1), ident(t, 2)], t.total.s()), ident(t, 4)], t.total.s()), 7),
    "a chord in a chord in a chord": (
        lambda t: t.chord(
            [t.chord([t.chord([ident(t, 1), ident(t, 2)], t.total.s()), ident(t, 4)], t.total.s()), ident(t, 8)], t.total.s()
        ),
        15,
    ),
    "chord then chord": (lambda t: t.chord([ident(t, 1), ident(t, 2)], t.total.s()) | t.chord([ident(t, 4), ident(t, 8)], t.total.s()), 12),
    "a chord as a body": (lambda t: t.chord([ident(t, 1), ident(t, 2)], t.chord([t.total.s(), t.total.s()], t.total.s())), 6),
    "a chain as a body": (lambda t: t.chord([ident(t, 1), ident(t, 2)], t.chain(t.total.s(), t.double.s(), t.add.s(1))), 7),
    "a group as a body": (lambda t: t.chord([ident(t, 1), ident(t, 2)], t.group(t.total.s(), t.same.s())), [3, [1, 2]]),
    "a chord in a chain in a group": (
        lambda t: t.group(ident(t, 1) | t.chord([t.add.s(1), t.add.s(2)], t.total.s()) | t.double.s(), ident(t, 7)),
        [10, 7],
    ),
    "a chain through a group in a header": (
        lambda t: t.chord([ident(t, 1) | t.group(t.add.s(1), t.add.s(2)) | t.total.s(), ident(t, 7)], t.same.s()),
        [5, 7],
    ),
    "a chain that ends in a group in a header": (
        lambda t: t.chord([ident(t, 1) | t.group(t.add.s(1), t.add.s(2)), ident(t, 7)], t.same.s()),
        [[2, 3], 7],
    ),
    "an empty group in a chain": (lambda t: t.chain(t.add.s(1, 1), t.group([]), t.double.s()), 4),
    "xmap": (lambda t: t.double.map([1, 2, 3]), [2, 4, 6]),
    "xstarmap": (lambda t: t.add.starmap([(1, 2), (3, 4)]), [3, 7]),
    "chunks": (lambda t: t.add.chunks([(i, i) for i in range(5)], 2), [[0, 2], [4, 6], [8]]),
    "chunks as a group, then a step": (lambda t: t.add.chunks([(i, i) for i in range(5)], 2).group() | t.total.s(), 20),
    "map in a chord": (lambda t: t.chord([t.double.map([1, 2]), t.double.map([3])], t.total.s()), 12),
    "skewed countdowns": (lambda t: t.group(t.add.s(i, i) for i in range(3)).skew(start=0.01, stop=0.05, step=0.02), [0, 2, 4]),
}
for _name, (_build, _expected) in FORMS.items():
    gives(_expected)(_build)
    SHAPES[-1] = type(SHAPES[-1])(_name, _build, _expected)


@gives(1_000 * 999 // 2)
def a_chord_of_a_thousand(t: Any) -> Any:
    return t.chord([t.same.si(number) for number in range(1_000)], t.total.s())


@gives(True)
def a_group_of_five_hundred_in_order(t: Any) -> Any:
    return t.group(t.same.si(number) for number in range(500)).apply_async().get(timeout=50) == list(range(500))


# ---- values


@gives(["datetime", "date", "time", "Decimal", "UUID", "bytes"])
def rich_arguments_arrive_as_they_were(t: Any) -> Any:
    import datetime as dt
    import decimal
    import uuid

    now = dt.datetime.now(dt.UTC)
    values = [now, now.date(), now.time(), decimal.Decimal("1.10"), uuid.uuid4(), b"\x00\xff"]
    return [outcome_of(t.kind.delay(value)) for value in values]


@gives("EncodeError")
def sets_are_refused(t: Any) -> Any:
    return str(failing(lambda: t.kind.delay({1, 2}))).split(":")[0]


def failing(call: Any) -> str:
    """Return what a call raises."""
    try:
        return str(call())
    except Exception as error:
        return failure(error)


@gives(True)
def rich_results_arrive_as_they_were(t: Any) -> Any:
    whiches = ["datetime", "date", "time", "decimal", "uuid", "bytes"]
    values = [t.rich.delay(which).get(timeout=20) for which in whiches]
    return [type(value) for value in values] == [type(t.rich.run(which)) for which in whiches] and values == [
        t.rich.run(w) for w in whiches
    ]


@gives("datetime")
def rich_values_travel_through_a_chain(t: Any) -> Any:
    return t.rich.s("datetime") | t.kind.s()


@gives(["Decimal", "UUID"])
def rich_values_travel_through_a_chord(t: Any) -> Any:
    return t.chord([t.rich.s("decimal"), t.rich.s("uuid")], t.kinds.s())


# ---- sent again, and nothing to send


@gives([2, 2])
def a_frozen_workflow_that_is_sent_twice(t: Any) -> Any:
    keys = [str(uuid4()), str(uuid4())]
    parts = t.group(ident(t, 1), ident(t, 2))
    for made in (t.chord(parts, t.leave.si(keys[0])), t.chain(ident(t, 0), parts, t.leave.si(keys[1]))):
        made.freeze()
        outcome_of(made.apply_async())
        made.apply_async()
    wait_until(lambda: all(noted().count(key) == 2 for key in keys), "the bodies to run again", PATIENCE)
    return [noted().count(key) for key in keys]


@gives([[1], [], []])
def a_chord_whose_header_has_empty_chains(t: Any) -> Any:
    headers = ([t.chain(), ident(t, 1)], [t.chain(), t.chain()], t.group(t.chain()))
    return [outcome_of(t.chord(header, t.same.s()).apply_async()) for header in headers]


@gives(3)
def a_header_that_is_sent_while_it_is_made(t: Any) -> Any:
    key = str(uuid4())

    def parts() -> Any:
        for number in range(3):
            t.sleep(0.2)
            if number == 2:
                wait_until(lambda: key in noted(), "the first part to run before the last is made", PATIENCE)
            yield t.leave.si(key, number)

    return t.chord(parts(), t.total.s())
