"""System checks: what is wrong with a project's settings, with the value, what is allowed, and the nearest name."""

from django.core.checks import register as register_check

from django_tasks.checks.addresses import check_addresses, check_outbox, check_queues, check_sqlite
from django_tasks.checks.contents import check_content, check_installation, check_middleware, check_routing
from django_tasks.checks.names import check_names, check_values
from django_tasks.checks.periodic import check_periodic_tasks
from django_tasks.checks.priorities import check_priorities
from django_tasks.checks.tasks import check_modules, check_tasks

#: The tag of all of them: ``manage.py check --tag django_tasks``.
TAG = "django_tasks"

CHECKS = (
    check_modules,
    check_installation,
    check_names,
    check_values,
    check_content,
    check_addresses,
    check_routing,
    check_middleware,
    check_sqlite,
    check_outbox,
    check_queues,
    check_priorities,
    check_tasks,
    check_periodic_tasks,
)


def register() -> None:
    """Register every check with Django."""
    for check in CHECKS:
        register_check(check, TAG)


__all__ = ["CHECKS", "TAG", "register"]
