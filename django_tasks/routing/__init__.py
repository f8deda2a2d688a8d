"""Where a message goes: from the caller's options, TASK_ROUTES, TASK_QUEUES and the defaults, in this order."""

from django_tasks.routing.queues import Defaults, QueueSpec, check_name
from django_tasks.routing.router import HIGHEST_PRIORITY, LOWEST_PRIORITY, Router, current, reset
from django_tasks.routing.routes import ROUTE_OPTIONS, set_task_lookup

__all__ = [
    "HIGHEST_PRIORITY",
    "LOWEST_PRIORITY",
    "ROUTE_OPTIONS",
    "Defaults",
    "QueueSpec",
    "Router",
    "check_name",
    "current",
    "reset",
    "set_task_lookup",
]
