"""A task that lets others run in its place, or adds to its chord; and signatures of what already runs."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from django_tasks import result_backends
from django_tasks.canvas.calls import listed
from django_tasks.canvas.chains import chain
from django_tasks.canvas.chords import part_ids
from django_tasks.canvas.dispatch import gathering
from django_tasks.canvas.groups import group
from django_tasks.canvas.signatures import Signature, member_of, signature
from django_tasks.context import Request
from django_tasks.exceptions import Ignore, ImproperlyConfigured
from django_tasks.executor import Replaced
from django_tasks.messages import TaskMessage, repeatable_ids, shown_arguments
from django_tasks.result.family import is_result


def signature_of_request(
    task: Any,
    message: TaskMessage,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Signature[Any]:
    """Return a signature that makes the call of a message once more."""
    embed = message.embed
    own: dict[str, Any] = {
        "task_id": message.id,
        "root_id": message.root_id,
        "parent_id": message.parent_id,
        "group_id": message.group,
        "group_index": message.group_index,
        "chord": embed.get("chord"),
        "chain": embed.get("chain"),
        "link": embed.get("callbacks"),
        "link_error": embed.get("errbacks"),
        "expires": message.expires,
        "time_limit": message.time_limit,
        "soft_time_limit": message.soft_time_limit,
        "headers": dict(message.headers) or None,
        "retries": message.retries,
        "eta": message.eta,
        "reply_to": message.reply_to,
        "shadow": message.shadow,
        "origin": message.origin,
        "priority": message.priority,
        "queue": message.queue or None,
        "ignore_result": message.ignore_result,
        "replaced_task_nesting": message.replaced_task_nesting,
    }
    # What the caller hides stays hidden, other arguments in its place as well.
    for name, shown in zip(("args", "kwargs"), shown_arguments(message), strict=True):
        if shown is not getattr(message, name):
            own[f"{name}repr"] = shown
    if message.stamped_headers:
        own.update(message.stamps, stamped_headers=list(message.stamped_headers))
    own.update(options or {})
    return Signature(
        task,
        message.args if args is None else args,
        dict(message.kwargs if kwargs is None else kwargs),
        {name: value for name, value in own.items() if value is not None},
    )


def replacement(request: Request, sig: Signature[Any]) -> Signature[Any]:
    """Return what runs instead of the task of this request: under its id, with its links, chord and following steps."""
    sig = member_of(sig)
    if "chord" in sig.options:
        raise ImproperlyConfigured(f"A signature replacing a task must not be part of a chord, and {sig!r} is one")
    if isinstance(sig, chain) and not sig.tasks:
        raise ImproperlyConfigured("Cannot replace with an empty chain")
    sig = _with_one_result(sig)
    for callback in listed(request.callbacks):
        sig.link(callback)
    for errback in listed(request.errbacks):
        sig.link_error(errback)
    if isinstance(sig, chain) and "link" in sig.options:
        # The last step runs them; more steps may be added behind it.
        for callback in listed(sig.options.pop("link")):
            sig.tasks[-1].link(callback)
    with _ids_of(request):
        sig.freeze(request.id)
    nesting = request.replaced_task_nesting + 1
    sig.set(
        chord=request.chord,
        group_id=request.group,
        group_index=request.group_index,
        root_id=request.root_id,
        replaced_task_nesting=nesting,
    )
    if isinstance(sig, chain):
        for step in sig.tasks:
            step.set(replaced_task_nesting=nesting)
    for wire in reversed(request.chain or ()):
        sig |= signature(wire).set(replaced_task_nesting=nesting)
    return sig


def _with_one_result(sig: Signature[Any]) -> Signature[Any]:
    """Give a group, or a chain that ends in one, a last step: a task has one result, and links go to that."""
    collect: Signature[Any] = Signature("celery.accumulate", (), {"index": 0})
    if isinstance(sig, group):
        collected: Signature[Any] = sig | collect
        return collected
    if isinstance(sig, chain) and isinstance(sig.tasks[-1], group):
        sig.tasks = [*sig.tasks[:-1], sig.tasks[-1] | collect]
    return sig


def send_replacement(request: Request, sig: Signature[Any]) -> NoReturn:
    """Let the replacement leave with this run's outcome, and end the run; in eager mode run it, and end the run with its value."""
    if request.is_eager:
        # They are the replacement's now.
        request.callbacks = request.errbacks = request.chain = None
        raise Replaced(sig.apply().get(disable_sync_subtasks=False))
    with gathering() as outbox, _ids_of(request):
        sig.apply_async()
    sent = outbox.followups()
    request.pending.extend(sent.messages)
    request.opening = (*request.opening, *sent.chords)
    raise Ignore("Replaced by new task")


def add_to_chord(request: Request, sig: Signature[Any], *, lazy: bool) -> Any:
    """Make a signature one more part of the chord that this request is a part of."""
    if request.chord is None or request.group is None:
        raise ValueError("the task that runs here is no part of a chord, so nothing can be added to one")
    sig = member_of(sig)
    sig.set(group_id=request.group, group_index=request.group_index, chord=request.chord, root_id=request.root_id)
    with _ids_of(request):
        added = sig.freeze()
    parts = part_ids(added)
    result_backends.current().grow_chord(request.group, len(parts), parts)
    if lazy:
        return sig
    sent = sig.apply_async()
    return sent if is_result(sent) else added


def _ids_of(request: Request) -> AbstractContextManager[None]:
    """Let ids follow from this run: delivered again, it must not open another chord, or expect one more part."""
    if not request.id:
        return nullcontext()
    request.workflows += 1
    return repeatable_ids(f"{request.id}/{request.retries}/{request.replaced_task_nesting}/{request.workflows}")
