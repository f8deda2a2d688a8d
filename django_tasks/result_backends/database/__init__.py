"""``db://ALIAS``: results as rows of the Django database."""

from django_tasks.result_backends.database.backend import DatabaseResultBackend

__all__ = ["DatabaseResultBackend"]
