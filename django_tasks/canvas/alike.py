"""Many calls of one task at once: what large groups mostly are."""

from collections.abc import Sequence
from typing import Any, Final

from django_tasks.canvas.calls import build_message
from django_tasks.canvas.dispatch import send_all
from django_tasks.canvas.signatures import Signature
from django_tasks.messages import TaskMessage, new_ids
from django_tasks.records import copier
from django_tasks.result import AsyncResult

_copy: Final = copier(TaskMessage, "id", "args", "kwargs", "root_id", "group_index")


def send_alike(members: Sequence[Signature[Any]], options: dict[str, Any], first_index: int = 0) -> list[Any] | None:
    """Send plain calls of one task, building what they share once; None if these are not of that kind.

    The messages are those that ``apply_async`` would send for each.
    """
    first = members[0]
    target = first.find_task()
    if target is None or not all(_is_plain(member, first["task"]) for member in members) or not target.calls_are_alike:
        return None
    check = target.check_arguments if target.typing else None
    template = build_message(target.name, (), {}, {**target.call_options((), {}, options), "group_index": 0})
    root_id = None if template.root_id == template.id else template.root_id
    messages: list[TaskMessage] = []
    results: list[Any] = []
    for index, (member, task_id) in enumerate(zip(members, new_ids(len(members)), strict=True), first_index):
        args, kwargs = member["args"], member["kwargs"]
        if check is not None:
            check(*args, **kwargs)
        messages.append(_copy(template, task_id, args, kwargs, root_id or task_id, index))
        result: AsyncResult[Any] = AsyncResult(task_id, task_name=target.name)
        if template.ignore_result:
            result.ignored = True
        results.append(result)
    send_all(messages, (options.get("on_commit"), options.get("retry"), options.get("retry_policy")))
    return results


def _is_plain(member: Signature[Any], name: str) -> bool:
    return type(member) is Signature and member["task"] == name and not member["options"] and member["subtask_type"] is None
