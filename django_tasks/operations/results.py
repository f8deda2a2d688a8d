"""Where results are, for how long, and one that is elsewhere than in the rows."""

from django_tasks import result_backends, urls
from django_tasks.conf import settings
from django_tasks.models import TaskResult
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.database.rows import for_model
from django_tasks.result_backends.lifetimes import of_failures, of_results

__all__ = ["elsewhere", "found_elsewhere", "of_failures", "of_results"]


def elsewhere() -> str | None:
    """Return where results are kept, without passwords, if that is not the database of the rows that the admin lists."""
    backend = result_backends.current()
    return None if backend.alias is not None else urls.mask(str(settings.RESULT_BACKEND))


def found_elsewhere(task_id: str) -> TaskResult | None:
    """Return what the result backend keeps of a task as a row that isn't stored; None where it keeps nothing, or rows.

    Raises OperationalError where it can't be reached.
    """
    backend = result_backends.current()
    if backend.alias is not None or not backend.reads:
        return None
    try:
        meta = backend.fetch([task_id]).get(task_id)
    except NotImplementedError:
        return None
    return None if meta is None else _row(meta)


def _row(meta: ResultMeta) -> TaskResult:
    times = {name: for_model(moment) for name in ("date_started", "date_done") if (moment := getattr(meta, name)) is not None}
    # Its id stands in the place of a number: addresses take both.
    return TaskResult(
        id=meta.task_id,
        task_id=meta.task_id,
        periodic_task_name=meta.periodic_task_name,
        task_name=meta.name,
        task_args=meta.args,
        task_kwargs=meta.kwargs,
        status=meta.status,
        worker=meta.worker,
        queue=meta.queue,
        content_type=meta.content_type,
        content_encoding=meta.content_encoding,
        result=meta.result,
        traceback=meta.traceback,
        retries=meta.retries,
        runtime=meta.runtime,
        group_id=meta.group_id,
        root_id=meta.root_id,
        parent_id=meta.parent_id,
        **times,
    )
