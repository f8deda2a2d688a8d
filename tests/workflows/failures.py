"""Failures, and what they set off."""

import re
from typing import Any
from uuid import uuid4

from tests.processes import wait_until
from tests.workflows.shapes import ident
from tests.workflows.table import PATIENCE, Table, failure, outcome_of
from tests.workflows.tasks import noted

FAILURES = Table()
gives = FAILURES.gives

BAD = "ValueError: bad"
DEPENDENCY = "ChordError: Dependency ID raised ValueError('bad')"


def states(t: Any, *results: Any) -> list[str]:
    """Wait for results that fail or not; return their states."""
    for result in results:
        # Not by get(), which raises as soon as a parent is known to have failed.
        wait_until(result.ready, "a result", PATIENCE)
    return [result.state for result in results]


def stored(result: Any) -> str:
    """Wait for a result; return the exception that is kept, whatever ``get()`` raises in its place."""
    wait_until(result.ready, "a result", PATIENCE)
    return failure(result.result)


def hears(key: str, times: int = 1) -> list[str]:
    """Wait until error callbacks have left this key so often; return what they left, without ids."""
    wait_until(lambda: len([line for line in noted() if line.startswith(key)]) >= times, f"{times} of {key}", PATIENCE)
    return sorted(re.sub(r"[0-9a-f-]{36} ?", "", line.removeprefix(key)).strip() for line in noted() if line.startswith(key))


@gives([BAD, ["FAILURE"] * 3])
def the_rest_of_a_chain_fails(t: Any) -> Any:
    last = (t.add.s(1, 1) | t.fail.s() | t.double.s() | t.double.s()).apply_async()
    return [outcome_of(last), states(t, last, last.parent, last.parent.parent)]


@gives("SUCCESS")
def the_steps_before_a_failure_stay(t: Any) -> Any:
    last = (t.add.s(1, 1) | t.fail.s() | t.double.s()).apply_async()
    outcome_of(last)
    return last.parent.parent.state


@gives([BAD, ["SUCCESS", "FAILURE", "SUCCESS"]])
def a_failure_in_a_group(t: Any) -> Any:
    result = t.group(ident(t, 1), t.fail.s(), ident(t, 3)).apply_async()
    return [outcome_of(result), states(t, *result.results)]


@gives([BAD, DEPENDENCY])
def a_failure_in_a_header(t: Any) -> Any:
    # get() raises what failed first: the part's own exception.
    result = t.chord([ident(t, 1), t.fail.s(), ident(t, 3)], t.total.s()).apply_async()
    return [outcome_of(result), stored(result)]


@gives("ChordError: Dependency ID raised ValueError('bad')")
def a_failure_in_a_header_without_parents(t: Any) -> Any:
    return outcome_of_body(t.chord([ident(t, 1), t.fail.s()], t.total.s()).apply_async())


def outcome_of_body(result: Any) -> str:
    """Wait for a chord's body by itself; return what ``get()`` raises."""
    try:
        return str(result.get(timeout=PATIENCE, follow_parents=False))
    except Exception as error:
        return failure(error)


@gives(["FAILURE", "FAILURE", "SUCCESS"])
def a_failure_in_a_header_marks_the_body(t: Any) -> Any:
    result = t.chord([t.fail.s(), ident(t, 1)], t.total.s()).apply_async()
    return states(t, result, *result.parent.results)


@gives(BAD)
def a_failure_in_a_body(t: Any) -> Any:
    return t.chord([ident(t, 1), ident(t, 2)], t.fail.s())


@gives(DEPENDENCY)
def a_failure_in_a_chain_in_a_header(t: Any) -> Any:
    return stored((t.chord([ident(t, 1) | t.fail.s() | t.double.s(), ident(t, 3)], t.total.s())).apply_async())


@gives(DEPENDENCY)
def a_failure_in_a_header_behind_a_step(t: Any) -> Any:
    return stored((ident(t, 1) | t.group(t.add.s(1), t.fail.s()) | t.total.s()).apply_async())


@gives(DEPENDENCY)
def a_failure_in_a_header_before_steps(t: Any) -> Any:
    return stored((t.chord([t.fail.s(), ident(t, 1)], t.total.s()) | t.double.s() | t.double.s()).apply_async())


@gives(BAD)
def a_failure_before_a_chord(t: Any) -> Any:
    return t.fail.s() | t.group(t.add.s(1), t.add.s(2)) | t.total.s()


@gives([BAD, "FAILURE", "FAILURE"])
def a_failure_before_a_group(t: Any) -> Any:
    result = (t.fail.s() | t.group(t.add.s(1), t.add.s(2))).apply_async()
    return [outcome_of(result), *states(t, *result.results)]


@gives("ChordError: Dependency ID raised ChordError(\"Dependency ID raised ValueError('bad')\")")
def a_failure_in_a_chord_in_a_chord(t: Any) -> Any:
    return stored(t.chord([t.chord([t.fail.s(), ident(t, 1)], t.total.s()), ident(t, 3)], t.total.s()).apply_async())


@gives(["FAILURE", "FAILURE", BAD, BAD])
def a_failure_before_a_group_body(t: Any) -> Any:
    result = t.chord([t.fail.s(), ident(t, 2)], t.group(t.total.s(), t.same.s())).apply_async()
    return [*states(t, *result.results), *(stored(member) for member in result.results)]


@gives(BAD)
def a_failure_in_a_map(t: Any) -> Any:
    return t.fail.map([1, 2])


@gives(["ValueError: bad", ["ValueError"]])
def an_error_callback_is_called(t: Any) -> Any:
    key = str(uuid4())[:8]
    result = t.fail.apply_async(link_error=t.heard.s(key=key))
    return [outcome_of(result), hears(key)]


@gives([BAD, [""]])
def an_error_callback_that_takes_the_id_is_sent(t: Any) -> Any:
    key = str(uuid4())[:8]
    result = t.fail.apply_async(link_error=t.heard_id.s(key=key))
    return [outcome_of(result), hears(key)]


@gives([BAD, ["ValueError"]])
def on_error_of_a_chain(t: Any) -> Any:
    key = str(uuid4())[:8]
    result = t.chain(ident(t, 1), t.fail.s(), t.double.s()).on_error(t.heard.s(key=key)).apply_async()
    return [outcome_of(result), hears(key)]


@gives(["ValueError"])
def link_error_of_a_body_that_fails(t: Any) -> Any:
    key = str(uuid4())[:8]
    t.chord([ident(t, 1)], t.fail.s().on_error(t.heard.s(key=key))).apply_async()
    return hears(key)


@gives(["ChordError"])
def link_error_of_a_body_whose_header_fails(t: Any) -> Any:
    key = str(uuid4())[:8]
    t.chord([t.fail.s(), ident(t, 1)], t.total.s().on_error(t.heard.s(key=key))).apply_async()
    return hears(key)


@gives(["ChordError"])
def link_error_of_a_chord_whose_header_fails(t: Any) -> Any:
    key = str(uuid4())[:8]
    t.chord([t.fail.s(), ident(t, 1)], t.total.s()).on_error(t.heard.s(key=key)).apply_async()
    return hears(key)


@gives(["ValueError"])
def link_error_of_a_part(t: Any) -> Any:
    key = str(uuid4())[:8]
    t.chord([t.fail.s().on_error(t.heard.s(key=key)), ident(t, 1)], t.total.s()).apply_async()
    return hears(key)


@gives(["ValueError", "ValueError"])
def link_error_of_a_group(t: Any) -> Any:
    key = str(uuid4())[:8]
    made = t.group(t.fail.s(), t.fail.s(), ident(t, 1))
    made.link_error(t.heard.s(key=key))
    made.apply_async()
    return hears(key, 2)


@gives(["a ValueError", "g ValueError", "g ValueError"])
def link_error_of_a_group_body_and_of_its_members(t: Any) -> Any:
    key = str(uuid4())[:8]
    body = t.group(t.same.s().on_error(t.heard.s(key=f"{key} a")), t.same.s()).set(link_error=[t.heard.s(key=f"{key} g")])
    t.chord([t.fail.s(), ident(t, 1)], body).apply_async()
    return hears(key, 3)


@gives(["c ValueError", "c ValueError", "g ValueError", "g ValueError"])
def link_error_of_a_chord_and_of_its_group_body_that_fails(t: Any) -> Any:
    key = str(uuid4())[:8]
    body = t.group(t.fail.s(), t.fail.s()).set(link_error=[t.heard.s(key=f"{key} g")])
    t.chord([ident(t, 1), ident(t, 1)], body).apply_async(link_error=t.heard.s(key=f"{key} c"))
    return hears(key, 4)


@gives(["ChordError", "ValueError", "ValueError"])
def link_error_of_each_part_of_a_chord_in_a_chain(t: Any) -> Any:
    key = str(uuid4())[:8]
    made = t.chain(ident(t, 1), t.group(t.fail.s(), t.fail.si().set(countdown=1), ident(t, 2)), t.total.s())
    t.app.conf.task_allow_error_cb_on_chord_header = True
    try:
        made.link_error(t.heard.s(key=key))
        made.apply_async()
    finally:
        t.app.conf.task_allow_error_cb_on_chord_header = False
    return hears(key, 3)


@gives([[], DEPENDENCY])
def children_of_a_failed_body(t: Any) -> Any:
    parts = [ident(t, 1), t.fail.s()]
    plain = t.chord(parts, t.total.s()).apply_async()
    result = t.chord(parts, t.total.s().on_error(t.same.s())).apply_async()
    wait_until(lambda: plain.ready() and result.ready(), "the chords' end", PATIENCE)
    [sent] = result.children
    # The error callback was given the body's id.
    return [plain.children, stored(t.AsyncResult(sent.children[0].get(timeout=PATIENCE)))]


@gives([BAD, "still heard"])
def an_error_callback_that_fails_changes_nothing(t: Any) -> Any:
    other = str(uuid4())
    result = t.fail.apply_async(link_error=[t.fail.s(), t.same.si("still heard").set(task_id=other)])
    return [outcome_of(result), outcome_of(t.AsyncResult(other))]


@gives("KeyError: 'expected'")
def a_failure_that_is_expected(t: Any) -> Any:
    return t.expected_failure.s()


@gives(["FAILURE", True])
def a_failure_has_its_traceback(t: Any) -> Any:
    result = t.fail.delay()
    outcome_of(result)
    return [result.state, "ValueError: bad" in result.traceback]


@gives("value")
def propagate_false_returns_the_exception(t: Any) -> Any:
    error = t.fail.delay(text="value").get(timeout=PATIENCE, propagate=False)
    return error.args[0]
