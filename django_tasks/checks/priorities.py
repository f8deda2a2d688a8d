"""The check of priorities: those in use that the broker can't tell apart."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from typing import Any, Final

from django.core.checks import CheckMessage, Warning

from django_tasks import brokers, routing, urls
from django_tasks.brokers.broker import Broker
from django_tasks.checks.findings import well_typed
from django_tasks.conf import settings
from django_tasks.conf_options import OPTIONS
from django_tasks.messages import Destination, TaskMessage
from django_tasks.registry import registry

_HINT: Final = (
    "The order of such messages is that of their sending. Send what is urgent to a queue with workers of its own. RabbitMQ needs"
    " TASK_QUEUE_MAX_PRIORITY = 9 or a queue's max_priority (a queue that exists without must be deleted first); Redis has more steps"
    " without priority_order 'celery', or with more priority_steps."
)
#: Most queues that one warning names.
_NAMED: Final = 5

#: Queue → priority → who uses it there.
_Used = dict[str, dict[int, str]]


def check_priorities(**_kwargs: Any) -> list[CheckMessage]:
    """W016: tasks, routes and the default use priorities that are one and the same to the broker.

    What single calls ask for is not known here.
    """
    if not all(well_typed(name) for name in OPTIONS if name.startswith(("TASK_", "BROKER_"))):
        return []
    alike: list[str] = []
    # What can't be opened or read is said by the checks of addresses, queues and routes.
    with suppress(Exception):
        broker = brokers.current()
        alike = [text for queue, used in sorted(_used().items()) for text in _alike(broker, queue, used)]
    if not alike:
        return []
    more = f", and so in {len(alike) - _NAMED} more" if len(alike) > _NAMED else ""
    return [
        Warning(
            f"The broker {urls.mask(settings.BROKER_URL)} can't tell priorities apart that are in use: {'; '.join(alike[:_NAMED])}{more}.",
            hint=_HINT,
            id="django_tasks.W016",
        )
    ]


def _used() -> _Used:
    default = routing.current().defaults.priority
    used: _Used = {}
    for name in sorted(registry):
        destination = _destination(registry[name])
        if destination is not None:
            # Messages without a priority may come to any queue.
            in_queue = used.setdefault(destination.queue, {default: "the default"})
            in_queue.setdefault(destination.priority, name)
    return used


def _destination(task: Any) -> Destination | None:
    # A function in TASK_ROUTES may want arguments that are not there, or a task a queue that TASK_QUEUES doesn't have.
    with suppress(Exception):
        return routing.current().destinations([TaskMessage(id="", task=task.name, **task.routing_options())])[0]
    return None


def _alike(broker: Broker, queue: str, used: dict[int, str]) -> Iterator[str]:
    def step(priority: int) -> int:
        return broker.priority_step(queue, priority)

    for _, group in groupby(sorted(used, key=lambda priority: (step(priority), priority)), step):
        priorities = list(group)
        if len(priorities) > 1:
            yield f"in the queue {queue!r} " + ", ".join(f"{priority} ({used[priority]})" for priority in priorities)
