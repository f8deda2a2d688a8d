"""Keeping tasks from running."""

from collections.abc import Sequence

from django.apps import apps
from django.utils import timezone

from django_tasks import clock, result_backends, states
from django_tasks.exceptions import TaskRevokedError
from django_tasks.result_backends.backend import ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import encode_exception, encode_value

#: Of tasks in these states nothing has happened yet that could still end otherwise.
_NOT_RUNNING = frozenset({states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED})


def revoke_tasks(
    task_ids: Sequence[str], *, terminate: bool = False, signal: str | None = None, by: str = "", backend: ResultBackend | None = None
) -> None:
    """Record that these tasks are not to run; workers read that every second or so.

    Those of which nothing is known yet become REVOKED at once, so that nobody waits for them.
    """
    if not task_ids:
        return
    revocations = apps.get_model("django_tasks", "Revocation").objects
    # Anew, with a larger id: that is how workers notice.
    revocations.filter(task_id__in=task_ids).delete()
    now = timezone.now()
    revocations.bulk_create(
        revocations.model(task_id=task_id, terminate=terminate, signal=signal or "SIGTERM", revoked_at=now, revoked_by=by)
        for task_id in task_ids
    )
    store = backend or result_backends.current()
    if not store.reads:
        return
    known = store.fetch(task_ids)
    text, content_type, content_encoding = encode_value(encode_exception(TaskRevokedError("revoked")))
    store.store(
        [
            ResultMeta(
                task_id=task_id,
                status=states.REVOKED,
                result=text,
                content_type=content_type,
                content_encoding=content_encoding,
                date_done=clock.now(),
            )
            for task_id in task_ids
            if task_id not in known or known[task_id].status in _NOT_RUNNING
        ]
    )
