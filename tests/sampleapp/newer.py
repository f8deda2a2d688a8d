"""A task of the next release: only workers that IMPORTS names this module to have it."""

from django_tasks import shared_task


@shared_task
def added(x, y):
    """Return the sum."""
    return x + y
