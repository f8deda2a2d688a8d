"""For unittest: test cases whose tasks wait in memory."""

from typing import Any, ClassVar, Unpack
from unittest import TestCase

from django_tasks.outcomes import Outcome
from django_tasks.testing.inmemory import RunOptions, TaskQueue, in_memory
from django_tasks.testing.publications import Criteria, Publication


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

    def run_pending(self, limit: int | None = None, **options: Unpack[RunOptions]) -> list[Outcome]:
        """Run what is due; see ``TaskQueue.run_pending``."""
        return self.tasks.run_pending(limit, **options)

    def assertPublished(  # noqa: N802  unittest's way
        self, task: Any = None, *, times: int | None = None, **criteria: Unpack[Criteria]
    ) -> list[Publication]:
        """See ``TaskQueue.assert_published``."""
        return self.tasks.assert_published(task, times=times, **criteria)

    def assertNotPublished(self, task: Any = None, **criteria: Unpack[Criteria]) -> None:  # noqa: N802
        """See ``TaskQueue.assert_not_published``."""
        self.tasks.assert_not_published(task, **criteria)
