"""Middleware of the tasks (not of the site): wraps publishing and running."""

import time
from typing import Any

from django_tasks.context import Request
from django_tasks.log import get_task_logger
from django_tasks.messages import TaskMessage
from django_tasks.middleware import Execute, Middleware, Publish

logger = get_task_logger(__name__)


class Stopwatch(Middleware):
    """Says which task took long."""

    #: Seconds.
    LONG = 2.0

    def publish(self, message: TaskMessage, call_next: Publish) -> TaskMessage:
        """Look at every message on its way out; it could be changed or refused here."""
        logger.debug("publishing %s[%s]", message.task, message.id)
        return call_next(message)

    def execute(self, request: Request, call_next: Execute) -> Any:
        """Time the task's function."""
        begin = time.perf_counter()
        try:
            return call_next(request)
        finally:
            if (seconds := time.perf_counter() - begin) > self.LONG:
                logger.info("%s took %.1f s", request.message.task, seconds)
