"""What tasks do while they run: retry, let others run in their place, send, wait, tell their state."""

from typing import Any
from uuid import uuid4

from tests.processes import wait_until
from tests.workflows.shapes import ident
from tests.workflows.table import PATIENCE, Table, outcome_of
from tests.workflows.tasks import note, noted

INSIDE = Table()
gives = INSIDE.gives

RETRIES: dict[str, Any] = {
    "plain": [1, 2, 2],
    "args": [3, 2, 2],
    "kwargs": [1, 4, 2],
    "countdown": [1, 2, 2],
    "eta": [1, 2, 2],
    "for ever": [1, 2, 2],
}


def _enter(name: str, run: Any, expected: Any) -> None:
    gives(expected)(run)
    INSIDE[-1] = type(INSIDE[-1])(name, run, expected)


for _how, _expected in RETRIES.items():
    _enter(f"retry {_how}", lambda t, how=_how: t.retry.s(1, y=2, how=how), _expected)
    _enter(
        f"retry {_how} inside a chord",
        lambda t, how=_how: t.chord([t.retry.s(1, y=2, how=how), ident(t, [1])], t.same.s()),
        [_expected, [1]],
    )

REPLACED: dict[str, Any] = {
    "task": 6,
    "chain": 13,
    "group": [6, 7],
    "chord": 13,
    "chain to group": [7, 8],
    "replaced again": 13,
    "failure": "ValueError: bad",
    "nothing": "ImproperlyConfigured: Cannot replace with an empty chain",
}
for _kind, _expected in REPLACED.items():
    _enter(f"replaced by {_kind}", lambda t, kind=_kind: t.replace.s(5, kind), _expected)
for _kind in ("task", "chain", "group", "chord"):
    _enter(
        f"replaced by {_kind} inside a chain",
        lambda t, kind=_kind: t.same.s(5) | t.replace.s(kind) | t.give.s(1),
        [[REPLACED[_kind], 1], {}],
    )
    _enter(
        f"replaced by {_kind} inside a chord",
        lambda t, kind=_kind: t.chord([t.replace.s(5, kind), ident(t, 1)], t.same.s()),
        [REPLACED[_kind], 1],
    )
    _enter(
        f"replaced by {_kind} as a body",
        lambda t, kind=_kind: t.chord([ident(t, 2), ident(t, 3)], t.total.s() | t.replace.s(kind)),
        REPLACED[_kind],
    )


@gives("MaxRetriesExceededError")
def too_many_retries(t: Any) -> Any:
    return str(outcome_of(t.give_up.delay())).split(":")[0]


@gives("ValueError: own")
def too_many_retries_for_an_exception(t: Any) -> Any:
    return t.give_up.s("own")


@gives("MaxRetriesExceededError")
def too_many_retries_by_option(t: Any) -> Any:
    return str(outcome_of(t.retry.delay(how="plain", until=9))).split(":")[0]


@gives(8)
def max_retries_none(t: Any) -> Any:
    return t.persist.s(8)


@gives(["second", True])
def retry_without_raising(t: Any) -> Any:
    key = str(uuid4())
    return [outcome_of(t.retry_quietly.delay(key)), f"{key} went on" in noted()]


@gives([1, "OSError: try 2"])
def autoretry_with_backoff(t: Any) -> Any:
    # Two results side by side: the delays of one second each are Celery's smallest.
    return [outcome_of(each) for each in (t.backoff.delay(1), t.backoff.delay(9))]


@gives(["KeyError: 'no'", "ValueError: no"])
def autoretry_of_some_errors(t: Any) -> Any:
    return [outcome_of(t.choosy.delay("key")), outcome_of(t.choosy.delay("value"))]


@gives({"mark": "kept"})
def stamps_survive_a_chain(t: Any) -> Any:
    made = t.chain(t.add.s(1, 1), t.double.s(), t.marks.s())
    made.stamp(mark="kept")
    return made


@gives([1, 2, 10, 20])
def parts_added_to_a_chord(t: Any) -> Any:
    return sorted(t.chord([t.grow.s(1), t.grow.s(2)], t.same.s()).apply_async().get(timeout=PATIENCE))


@gives(6)
def what_a_task_sends_runs(t: Any) -> Any:
    sent = t.send.delay("task", 5).get(timeout=PATIENCE)
    return t.AsyncResult(sent)


@gives([True, True])
def what_a_task_sends_is_its_child(t: Any) -> Any:
    result = t.send.delay("task", 5)
    sent = result.get(timeout=PATIENCE)
    return [[child.id for child in result.children] == [sent], result.get_leaf() == 6]


@gives("RuntimeError")
def waiting_inside_a_task(t: Any) -> Any:
    return outcome_of(t.wait_for.delay(1, "plainly")).split(":")[0]


@gives([2, 2])
def waiting_inside_a_task_when_allowed(t: Any) -> Any:
    return [outcome_of(t.wait_for.delay(1, how)) for how in ("allowed", "block")]


@gives(["COUNTING", {"done": 3, "of": 4}, "counted"])
def a_state_of_its_own(t: Any) -> Any:
    key = str(uuid4())
    result = t.report.delay(key)
    wait_until(lambda: f"{key} reported" in noted(), "the task to report", PATIENCE)
    seen = [result.state, result.info]
    note(f"{key} go on")
    return [*seen, result.get(timeout=PATIENCE)]


@gives(["TOLD", [1]])
def a_state_of_another_task(t: Any) -> Any:
    other = str(uuid4())
    outcome_of(t.tell_other.delay(other))
    result = t.AsyncResult(other)
    return [result.state, result.info]


@gives(["SKIPPED", {"why": "not today"}])
def ignore_keeps_the_state(t: Any) -> Any:
    result = t.ignore.delay("SKIPPED")
    wait_until(lambda: result.state == "SKIPPED", "the state of the ignored task", PATIENCE)
    return [result.state, result.info]


@gives(["at last", 2])
def reject_and_requeue(t: Any) -> Any:
    key = str(uuid4())
    return [outcome_of(t.reject_once.delay(key)), noted().count(key)]


@gives(["Reject", "FAILURE", 1])
def reject_for_good(t: Any) -> Any:
    key = str(uuid4())
    result = t.reject.delay(key)
    return [outcome_of(result).split(":")[0], result.state, noted().count(key)]


@gives(["about", 60, 50])
def what_a_task_knows_of_its_run(t: Any) -> Any:
    return t.about.s().set(time_limit=60, soft_time_limit=50)


@gives(["stopped", 0])
def a_chain_that_a_step_ends(t: Any) -> Any:
    key = str(uuid4())
    result = t.chain(t.stop.s("stopped"), t.leave_result.s(key)).apply_async()
    stopped = outcome_of(result.parent)
    # What the worker might have sent lies in the queue before this.
    outcome_of(t.same.delay())
    return [stopped, sum(key in line for line in noted())]


@gives("done")
def a_success_whose_handler_fails(t: Any) -> Any:
    return t.handled_carelessly.s()


@gives(1)
def a_result_that_the_call_wants(t: Any) -> Any:
    return t.forgettable.s(str(uuid4())).set(ignore_result=False)


@gives(None)
def an_ignored_result(t: Any) -> Any:
    key = str(uuid4())
    result = t.forgettable.delay(key)
    wait_until(lambda: key in noted(), "the task to run", PATIENCE)
    return result.get(timeout=PATIENCE)


LIVES = {
    "success": ["before_start", "on_success success", "after_return SUCCESS"],
    "failure": ["before_start", "on_failure bad", "after_return FAILURE"],
    "retry": [
        "before_start",
        "on_retry Retry('Retry in 0s: OSError(\\'again\\')')",
        "before_start",
        "on_success retry",
        "after_return SUCCESS",
    ],
}


def _life(how: str) -> Any:
    def run(t: Any) -> Any:
        result = t.life.delay(how)
        outcome_of(result)
        lines = LIVES[how]
        wait_until(lambda: len([line for line in noted() if line.startswith(result.id)]) >= len(lines), f"the life of {how}", PATIENCE)
        found = [line.split(" ", 1)[1] for line in noted() if line.startswith(result.id)]
        return [line.split(" ")[0] if line.startswith("on_retry") else line for line in found]

    return run


for _how, _lines in LIVES.items():
    _enter(f"hooks of {_how}", _life(_how), [line.split(" ")[0] if line.startswith("on_retry") else line for line in _lines])
