"""For unittest: test cases whose tasks wait in memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from unittest import TestCase

from django_tasks.outcomes import Outcome
from django_tasks.testing.inmemory import TaskQueue, in_memory
from django_tasks.testing.publications import Publication
from django_tasks.testing.timetravel import Target


class TasksMixin(TestCase):
    """Mix into a test case: ``class OrderTests(TasksMixin, django.test.TestCase)``. ``self.tasks`` is the test's ``TaskQueue``."""

    #: False publishes at once, whatever transaction is open: TestCase's own never commits.
    tasks_on_commit: ClassVar[bool | None] = None
    #: Whether ``run_pending`` raises what a task raises.
    tasks_raise_errors: ClassVar[bool] = False

    tasks: TaskQueue

    def setUp(self) -> None:
        """Open the queue."""
        super().setUp()
        self.tasks = self.enterContext(in_memory(on_commit=self.tasks_on_commit, raise_errors=self.tasks_raise_errors))

    def run_pending(self, limit: int | None = None, *, now: Target | None = None, raise_errors: bool | None = None) -> list[Outcome]:
        """Run what is due; see ``TaskQueue.run_pending``."""
        return self.tasks.run_pending(limit, now=now, raise_errors=raise_errors)

    def assertPublished(  # noqa: N802  unittest's way
        self,
        task: Any = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        times: int | None = None,
    ) -> list[Publication]:
        """See ``TaskQueue.assert_published``."""
        return self.tasks.assert_published(task, args=args, kwargs=kwargs, queue=queue, countdown=countdown, eta=eta, times=times)

    def assertNotPublished(  # noqa: N802
        self, task: Any = None, *, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """See ``TaskQueue.assert_not_published``."""
        self.tasks.assert_not_published(task, args=args, kwargs=kwargs)
