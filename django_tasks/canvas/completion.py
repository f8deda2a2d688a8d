"""What a complete chord sets off: its body, or, if a part failed, the body's failure."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from django_tasks.canvas.calls import listed
from django_tasks.canvas.chords import chord
from django_tasks.canvas.dispatch import gathering
from django_tasks.canvas.failures import Failure, call_errbacks, failed_metas
from django_tasks.canvas.groups import group
from django_tasks.canvas.signatures import maybe_signature
from django_tasks.exceptions import ChordError, OperationalError
from django_tasks.executor import saferepr
from django_tasks.outcomes import Followups
from django_tasks.result_backends.backend import ReadyChord, ResultMeta
from django_tasks.result_backends.encoding import decode
from django_tasks.states import PROPAGATE_STATES

logger = logging.getLogger("django_tasks.canvas")


def resolve(ready: ReadyChord, last: ResultMeta | None = None) -> Followups:
    """Say what a complete chord sets off: the body with the results, or, if a part failed, its failure.

    ``last`` is the part that completed it, which becomes the parent of the body; a body that has no root yet takes that part's.
    """
    body = maybe_signature(ready.body)
    # Where that is not known (its process died), any of them.
    completing = last or (ready.parts[-1] if ready.parts else None)
    parent_id = None if completing is None else completing.task_id
    if completing is not None and completing.root_id is not None and body.options.get("root_id") is None:
        # It was frozen where it was sent, perhaps in a task: only its parts' messages say what that belongs to.
        body.options = {**body.options, "root_id": completing.root_id}
    failed = next((part for part in ready.parts if part.status in PROPAGATE_STATES), None)
    try:
        if failed is None:
            with gathering() as outbox:
                body.apply_async((_results(ready),), parent_id=parent_id)
            return outbox.followups()
        cause = decode(failed)
        if isinstance(body, group) and isinstance(cause, BaseException):
            # As in Celery: they have no result of the chord's own, in which it would be a ChordError.
            return _failed(body, cause, parent_id)
        error = ChordError(f"Dependency {failed.task_id} raised {saferepr(cause, 10_000)}")
        error.__cause__ = cause if isinstance(cause, BaseException) else None
    except OperationalError:
        # The results are away: it is tried again.
        raise
    except Exception as problem:
        logger.exception("The body of chord %s can't be called", ready.group_id)
        error = ChordError(f"Callback error: {saferepr(problem, 10_000)}")
        error.__cause__ = problem
    return _failed(body, error, parent_id)


def _results(ready: ReadyChord) -> list[Any]:
    if ready.shape is None:
        return [decode(part) for part in ready.parts]
    values = {part.task_id: decode(part) for part in ready.parts}
    _, members = ready.shape
    return [_shaped(member, values) for member in members]


def _shaped(node: Any, values: Mapping[str, Any]) -> Any:
    """Put values into the places of their result tuples: ``[[id, parent], None]``, or ``[[id, parent], members]``."""
    (task_id, _), members = node
    return values[task_id] if members is None else [_shaped(member, values) for member in members]


def _failed(body: Any, error: BaseException, parent_id: str | None) -> Followups:
    sent: dict[Any, list[Any]] = {}
    with gathering() as outbox:
        for sig, of_groups in _ends(body):
            own_id = _result_id(sig)
            results = call_errbacks(_errbacks(sig, of_groups), own_id, sig.options.get("root_id"), error, task=sig.task)
            sent[own_id] = [result.as_tuple() for result in results]
    # What it sent are its children, as of a task that ran: with Celery whoever finds the failed body finds its error callbacks.
    metas = failed_with(body, Failure(error), parent_id)
    return outbox.followups([replace(meta, children=sent[meta.task_id]) if sent.get(meta.task_id) else meta for meta in metas])


def failed_with(body: Any, failure: Failure, parent_id: str | None = None) -> list[ResultMeta]:
    """Return the results of all that fails with a chord: its body, whatever that is made of, and what was to follow it."""
    body = maybe_signature(body)
    root_id = body.options.get("root_id")
    metas: list[ResultMeta] = []
    for sig in _all_calls(body):
        metas.extend(failed_metas([sig], failure, root_id=root_id, parent_id=parent_id))
    metas.extend(failed_metas(body.options.get("chain") or (), failure, root_id=root_id, parent_id=body.id))
    return metas


def _errbacks(sig: Any, of_groups: Sequence[Any]) -> list[Any]:
    """Return a failed body's error callbacks and those of groups around it, each once, but for those of a chord around it.

    That chord fails with it, and calls them.
    """
    last = maybe_signature(sig.tasks[-1]) if sig.subtask_type == "chain" and sig.tasks else sig
    around = maybe_signature(last.options.get("chord"))
    outer = [] if around is None else [errback for end, of_its in _ends(around) for errback in (*_linked(end), *of_its)]
    found = _linked(sig)
    found += [errback for errback in of_groups if errback not in found]
    return [errback for errback in found if errback not in outer]


def _linked(sig: Any) -> list[Any]:
    """Return error callbacks; a chord's are linked to its body, whose result is the chord's."""
    found = listed(sig.options.get("link_error"))
    if isinstance(sig, chord) and sig.body is not None:
        for end, of_groups in _ends(sig.body):
            found += [errback for errback in (*_linked(end), *of_groups) if errback not in found]
    return found


def _result_id(sig: Any) -> Any:
    return _result_id(sig.body) if isinstance(sig, chord) and sig.body is not None else sig.id


def _ends(sig: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Yield a body, or of a group its members, each with the error callbacks of the groups that it lies in."""
    if isinstance(sig, group):
        own = listed(sig.options.get("link_error"))
        for task in sig.tasks:
            for end, of_groups in _ends(task):
                yield end, [*of_groups, *own]
    else:
        yield sig, []


def _all_calls(sig: Any) -> Iterator[Any]:
    """Yield every call of the body that will never be made and has an id to be waited for."""
    if isinstance(sig, group):
        for task in sig.tasks:
            yield from _all_calls(task)
    elif isinstance(sig, chord):
        yield from _all_calls(sig.body)
    elif sig.subtask_type == "chain":
        for task in sig.kwargs["tasks"]:
            yield from _all_calls(maybe_signature(task))
    else:
        yield sig
