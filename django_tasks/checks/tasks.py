"""The checks of what tasks are declared with, as far as only the settings tell whether it can be."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Warning

from django_tasks import routing, serializers
from django_tasks.checks.findings import failures, well_typed
from django_tasks.conf import settings
from django_tasks.exceptions import QueueNotFound
from django_tasks.importing import broken_modules
from django_tasks.registry import registry

_NEEDED: Final = ("TASK_SERIALIZER", "TASK_COMPRESSION", "ACCEPT_CONTENT", "TASK_TIME_LIMIT", "TASK_SOFT_TIME_LIMIT")
#: Options of a call that do nothing as options of a task, though they look as if they did.
_OF_CALLS: Final = ("countdown", "eta", "link", "link_error", "on_commit", "retry_policy")
_ATTEMPTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "serializer": lambda name: serializers.dumps(None, name),
    "compression": lambda name: serializers.dumps(0, "json", name),
}


def check_modules(**_kwargs: Any) -> list[CheckMessage]:
    """E021: modules with tasks that can't be imported."""
    return [
        Error(
            f"{module}\n\n{module.traceback}\n",
            hint=f"{module.name} has no tasks until it is mended.",
            id="django_tasks.E021",
        )
        for module in broken_modules
    ]


def check_tasks(**_kwargs: Any) -> list[CheckMessage]:
    """E019, W010, W019, W020: serializers, compressions, queues and limits of single tasks that can't work under these settings."""
    if not well_typed(*_NEEDED):
        return []
    return [message for name in sorted(registry) for look in (_missing, _refused, _limits, _idle) for message in look(name, registry[name])]


def _missing(name: str, task: Any) -> Iterator[CheckMessage]:
    # What the settings name is looked at by another check.
    named = {"serializer": {task.serializer} - {settings.TASK_SERIALIZER}, "compression": {task.compression} - {None}}
    attempts = {
        "serializer": lambda value: serializers.dumps(None, value),
        "compression": lambda value: serializers.dumps(0, "json", value),
    }
    for option, values in named.items():
        for value, error in failures(attempts[option], values):
            yield _error(f"The task {name} has {option}={value!r}, which is not there: {error}", "Install what it needs, or name another.")
    queue = getattr(task.queue, "name", task.queue)
    if queue is not None:
        for _, error in _unknown_queues(queue):
            yield _error(f"The task {name} has queue={queue!r}: {error}", "Until it is right, calls of this task raise QueueNotFound.")


def _unknown_queues(queue: str) -> list[tuple[str, Exception]]:
    # What else is wrong with the queues is said by the checks of routing.
    with suppress(Exception):
        return [(name, error) for name, error in failures(routing.current().find_queue, [queue]) if isinstance(error, QueueNotFound)]
    return []


def _error(text: str, hint: str) -> CheckMessage:
    return Error(text if text.endswith(".") else f"{text}.", hint=hint, id="django_tasks.E019")


def _refused(name: str, task: Any) -> Iterator[CheckMessage]:
    serializer, accepted = task.serializer, settings.ACCEPT_CONTENT
    if serializer in {settings.TASK_SERIALIZER, *accepted}:
        return
    # A serializer or content that is not there has been said.
    with suppress(Exception):
        if serializers.dumps(None, serializer).content_type not in serializers.accepted_types(accepted):
            yield Warning(
                f"The task {name} has serializer={serializer!r}, which ACCEPT_CONTENT does not accept: {sorted(accepted)!r}.",
                hint=f"Add {serializer!r} to ACCEPT_CONTENT, or this project's workers make a dead letter of each call.",
                id="django_tasks.W010",
            )


def _limits(name: str, task: Any) -> Iterator[CheckMessage]:
    soft, hard = task.soft_time_limit, task.time_limit
    if soft and hard and soft > hard:
        yield Warning(
            f"The task {name} has a soft time limit of {soft:g} seconds, which comes after the hard one of {hard:g}.",
            hint="The hard limit ends its process first. Where it has none of its own, TASK_SOFT_TIME_LIMIT and TASK_TIME_LIMIT hold.",
            id="django_tasks.W019",
        )


def _idle(name: str, task: Any) -> Iterator[CheckMessage]:
    given = [option for option in _OF_CALLS if vars(type(task)).get(option) is not None]
    if given:
        yield Warning(
            f"The task {name} is declared with {', '.join(given)}, which is nothing to a task: it says how one call is made.",
            hint=f"Give it to the calls, as apply_async({given[0]}=...) or as s(...).set({given[0]}=...).",
            id="django_tasks.W020",
        )
