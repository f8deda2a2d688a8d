"""The admin's pages: results, queued messages, dead letters, queues, workers, revoked stamps, periodic tasks. Importing registers them."""

from django.apps import apps

from django_tasks.admin import deadletters, messages, queues, results, stamps, workers

__all__ = ["deadletters", "messages", "queues", "results", "stamps", "workers"]

if apps.is_installed("django_celery_beat"):
    from django_tasks.admin import beatruns, periodic

    __all__ += ["beatruns", "periodic"]
