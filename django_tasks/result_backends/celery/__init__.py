"""Every URL that Celery's own result backends take: ``file://``, ``db+postgresql://``, ``mongodb://``, ``s3://`` and so on."""

from django_tasks.result_backends.celery.backend import CeleryResultBackend

__all__ = ["CeleryResultBackend"]
