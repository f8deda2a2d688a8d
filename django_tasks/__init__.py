"""Background tasks for Django, in Celery's words."""

from django_tasks.application import app
from django_tasks.canvas import chain, chord, chunks, group, maybe_signature, signature, xmap, xstarmap
from django_tasks.canvas.signatures import Signature
from django_tasks.context import current_task
from django_tasks.messages import uuid
from django_tasks.result import AsyncResult, EagerResult, GroupResult, ResultSet
from django_tasks.tasks import Task, shared_task
from django_tasks.version import __version__

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "Signature",
    "Task",
    "__version__",
    "app",
    "chain",
    "chord",
    "chunks",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "uuid",
    "xmap",
    "xstarmap",
]
