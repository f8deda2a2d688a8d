"""Results: families, groups, waiting and callbacks."""

from typing import Any
from uuid import uuid4

from tests.processes import wait_until
from tests.workflows.shapes import ident
from tests.workflows.table import PATIENCE, Table, outcome_of
from tests.workflows.tasks import noted

RESULTS = Table()
gives = RESULTS.gives


def _ended(last: Any) -> None:
    """Wait for every step of a chain: Celery stores a step's result, and with it its children, after it sent the next step."""
    step = last
    while step is not None:
        step.get(timeout=PATIENCE)
        step = step.parent


@gives([8, 4, 2, None])
def parents_of_a_chain(t: Any) -> Any:
    last = (t.add.s(1, 1) | t.double.s() | t.double.s()).apply_async()
    values = [last.get(timeout=PATIENCE), last.parent.get(timeout=PATIENCE), last.parent.parent.get(timeout=PATIENCE)]
    return [*values, last.parent.parent.parent]


@gives([6, [2, 4]])
def the_parent_of_a_chords_result(t: Any) -> Any:
    last = (t.group(t.add.s(1, 1), t.add.s(2, 2)) | t.total.s()).apply_async()
    return [last.get(timeout=PATIENCE), last.parent.get(timeout=PATIENCE)]


@gives([True, True])
def ids_of_a_family(t: Any) -> Any:
    last = (t.family.s() | t.family.s()).apply_async()
    root, parent, own, _ = last.get(timeout=PATIENCE)
    first = last.parent
    return [root == first.id == parent, own == last.id]


@gives([True, True, True])
def ids_of_a_bodys_family(t: Any) -> Any:
    last = (t.family.s() | t.group(t.family.s(), t.family.s()) | t.family.s()).apply_async()
    root, parent, own, _ = last.get(timeout=PATIENCE)
    header = last.parent
    return [root == header.parent.id, parent in [part.id for part in header.results], own == last.id]


@gives([True, True])
def ids_of_the_family_of_a_chord_that_a_task_sends(t: Any) -> Any:
    found = []
    for then in (0, 1):
        sender, last = t.send_a_chord.delay(then).get(timeout=PATIENCE)
        root, _, own, _ = t.AsyncResult(last).get(timeout=PATIENCE)
        found.append(root == sender and own == last)
    return found


@gives([True, True])
def ids_of_the_family_of_a_chord(t: Any) -> Any:
    body = (t.group(t.family.s(), t.family.s()) | t.family.s()).apply_async()
    root, parent, _, _ = body.get(timeout=PATIENCE)
    return [root == parent, root in [part.id for part in body.parent.results]]


@gives([True, True])
def children_of_a_step(t: Any) -> Any:
    last = (t.add.s(1, 1) | t.double.s()).apply_async()
    _ended(last)
    return [[child.id for child in last.parent.children] == [last.id], not last.children]


@gives([[2, 4, 8], 8])
def collect_and_get_leaf(t: Any) -> Any:
    last = (t.add.s(1, 1) | t.double.s() | t.double.s()).apply_async()
    _ended(last)
    first = last.parent.parent
    return [[value for _, value in first.collect()], first.get_leaf()]


@gives([3, True])
def the_graph_of_a_chain(t: Any) -> Any:
    last = (t.add.s(1, 1) | t.double.s() | t.double.s()).apply_async()
    _ended(last)
    graph = last.parent.parent.build_graph()
    return [len(graph), "digraph" in _dot(graph)]


def _dot(graph: Any) -> str:
    import io

    text = io.StringIO()
    graph.to_dot(text)
    return text.getvalue()


@gives([[None, 0], [0, 1]])
def iterdeps_of_a_chain(t: Any) -> Any:
    last = (t.add.s(1, 1) | t.double.s()).apply_async()
    _ended(last)
    order = [last.parent.id, last.id]
    return [[None if parent is None else order.index(parent.id), order.index(node.id)] for parent, node in last.parent.iterdeps()]


@gives("IncompleteStream")
def iterdeps_of_what_is_not_ready(t: Any) -> Any:
    try:
        return list(t.AsyncResult(str(uuid4())).iterdeps())
    except t.IncompleteStream as error:
        return type(error).__name__


@gives([[4, 2], [6, [2, 4]]])
def results_as_tuples(t: Any) -> Any:
    import json

    last = (t.add.s(1, 1) | t.double.s()).apply_async()
    body = (t.group(t.add.s(1, 1), t.add.s(2, 2)) | t.total.s()).apply_async()
    found = [t.result_from_tuple(json.loads(json.dumps(result.as_tuple()))) for result in (last, body)]
    return [[result.get(timeout=PATIENCE), result.parent.get(timeout=PATIENCE)] for result in found]


@gives([[1, 2, 3], [1, 2, 3], 3, True, True, False, False, 3])
def what_a_group_result_knows(t: Any) -> Any:
    result = t.group(ident(t, n) for n in (1, 2, 3)).apply_async()
    values = result.get(timeout=PATIENCE)
    joined = result.join(timeout=PATIENCE)
    known = [result.completed_count(), result.ready(), result.successful(), result.failed(), result.waiting()]
    return [values, joined, *known, len(result.children)]


@gives([[1, 2], [1, 2]])
def a_group_result_is_saved_and_restored(t: Any) -> Any:
    result = t.group(ident(t, 1), ident(t, 2)).apply_async()
    result.save()
    restored = t.GroupResult.restore(result.id)
    values = [restored.get(timeout=PATIENCE), restored.join_native(timeout=PATIENCE)]
    restored.delete()
    assert t.GroupResult.restore(result.id) is None
    return values


@gives([1, 2, 3])
def iterating_natively(t: Any) -> Any:
    result = t.group(ident(t, n) for n in (1, 2, 3)).apply_async()
    return sorted(meta["result"] for _, meta in result.iter_native())


@gives([2, True, True])
def a_group_with_a_failure(t: Any) -> Any:
    result = t.group(ident(t, 1), t.fail.s(), ident(t, 3)).apply_async()
    outcome_of(result)
    for each in result.results:
        outcome_of(each)
    return [result.completed_count(), result.ready(), result.failed()]


@gives([5, [5]])
def the_callback_of_get(t: Any) -> Any:
    called: list[Any] = []
    value = t.add.delay(2, 3).get(timeout=PATIENCE, callback=lambda task_id, result: called.append(result))
    return [value, called]


@gives([[1, 2], [1, 2]])
def the_callback_of_a_groups_get(t: Any) -> Any:
    called: list[Any] = []
    result = t.group(ident(t, 1), ident(t, 2)).apply_async()
    return [result.get(timeout=PATIENCE, callback=lambda task_id, value: called.append(value)), sorted(called)]


@gives([5, 5])
def then(t: Any) -> Any:
    called: list[Any] = []
    result = t.add.delay(2, 3)
    result.then(lambda found: called.append(found.result))
    return [result.get(timeout=PATIENCE), *called]


@gives("TimeoutError")
def a_wait_that_is_too_long(t: Any) -> Any:
    try:
        return t.AsyncResult(str(uuid4())).get(timeout=0.1)
    except t.TimeoutError as error:
        return type(error).__name__


@gives([5, "PENDING"])
def forget(t: Any) -> Any:
    result = t.add.delay(2, 3)
    value = result.get(timeout=PATIENCE)
    result.forget()
    return [value, t.AsyncResult(result.id).state]


@gives(["REVOKED", "TaskRevokedError: revoked", False])
def a_task_that_is_revoked(t: Any) -> Any:
    key = str(uuid4())
    result = t.leave.apply_async((key,), countdown=2)
    result.revoke()
    found = outcome_of(result)
    return [result.state, found, key in noted()]


@gives(["REVOKED", "REVOKED"])
def a_group_that_is_revoked(t: Any) -> Any:
    result = t.group(t.leave.s(str(uuid4())), t.leave.s(str(uuid4()))).apply_async(countdown=2)
    result.revoke()
    wait_until(lambda: all(each.ready() for each in result.results), "the group to be revoked", PATIENCE)
    return [each.state for each in result.results]
