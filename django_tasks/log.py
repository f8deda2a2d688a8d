"""Logging: task loggers, and the task's id and name on every record. The project's LOGGING is never touched."""

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

#: Says which task runs here: its id and its name, or None.
TaskLookup: TypeAlias = Callable[[], "tuple[str, str] | None"]


def _nobody() -> None:
    return None


_lookup: TaskLookup = _nobody
#: Our record factory and the one that was there before it, while ours is installed.
_installed: tuple[Callable[..., logging.LogRecord], Callable[..., logging.LogRecord]] | None = None


def set_task_lookup(lookup: TaskLookup) -> None:
    """Say how log records find the running task. ``context`` sets it; what runs tasks in another way may replace it."""
    global _lookup  # noqa: PLW0603  one hook a process is the point
    _lookup = lookup


class TaskContextFilter(logging.Filter):
    """Adds ``task_id`` and ``task_name`` to each record, empty outside tasks; lets every record pass.

    List it in LOGGING's ``filters`` to use ``%(task_id)s`` in formats outside workers, too.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the two fields, unless they are there."""
        if not hasattr(record, "task_id"):
            _mark(record)
        return True


def get_task_logger(name: str) -> logging.Logger:
    """Return the logger of this name; its records have ``task_id`` and ``task_name`` in every process."""
    logger = logging.getLogger(name)
    if not any(isinstance(known, TaskContextFilter) for known in logger.filters):
        logger.addFilter(TaskContextFilter())
    return logger


def get_logger(name: str) -> logging.Logger:
    """Return the logger of this name, as ``logging.getLogger`` does; Celery's name for it."""
    return logging.getLogger(name)


def enable_loggers() -> None:
    """Let this package's loggers speak again.

    ``logging.config.dictConfig`` silences every logger that is there already and that it does not name, unless it is told otherwise
    (``disable_existing_loggers``). Settings that import ``crontab`` make ours before Django reads LOGGING. Levels and handlers stay.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and f"{name}.".startswith("django_tasks."):
            logger.disabled = False


def install_task_context() -> None:
    """Put ``task_id`` and ``task_name`` on every record of every logger from now on, as a worker does.

    The record factory that is there stays in use. Calling it again changes nothing.
    """
    global _installed  # noqa: PLW0603  the factory is process-wide, too
    previous = logging.getLogRecordFactory()
    if _installed is not None and previous is _installed[0]:
        return

    def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = previous(*args, **kwargs)
        _mark(record)
        return record

    logging.setLogRecordFactory(make_record)
    _installed = (make_record, previous)


def remove_task_context() -> None:
    """Undo ``install_task_context``, unless another factory was put on top of ours since."""
    global _installed  # noqa: PLW0603
    if _installed is not None and logging.getLogRecordFactory() is _installed[0]:
        logging.setLogRecordFactory(_installed[1])
        _installed = None


def _mark(record: logging.LogRecord) -> None:
    task = _lookup()
    record.task_id, record.task_name = ("", "") if task is None else task
