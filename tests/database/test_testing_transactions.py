"""Testing tasks inside a test's transaction: what waits for a commit, and tasks that run there."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, override_settings

from django_tasks import shared_task
from django_tasks.models import DeadLetter, Message, TaskResult
from django_tasks.testing import TasksMixin, UncommittedWarning, in_memory, run_pending
from tests.sampleapp.models import Effect
from tests.sampleapp.tasks import add, fail, record, record_async


@shared_task
def record_then_add(key):
    """Leave a row behind, and publish a task."""
    Effect.objects.create(key=key, pid=0)
    add.delay(1, 2)
    return key


@shared_task
def duplicate():
    """Violate a constraint."""
    first = Effect.objects.create(key="duplicate", pid=0)
    Effect(pk=first.pk, key="again", pid=0).save(force_insert=True)


class CommitTests(TasksMixin, TestCase):
    """In a TestCase, whose transaction never commits."""

    def test_what_waits_for_a_commit_is_named(self):
        """Nothing is published; assertion and run_pending say what waits, and how to let it go."""
        add.delay(1, 2)
        assert [one.args for one in self.tasks.uncommitted(add)] == [[1, 2]]
        with pytest.raises(AssertionError) as failed:
            self.assertPublished(add)
        assert "Nothing was published.\n1 message(s) wait for a commit:\n  - tests.sampleapp.tasks.add(1, 2)" in str(failed.value)
        assert "captureOnCommitCallbacks(execute=True)" in str(failed.value)
        with pytest.warns(UncommittedWarning, match=r"1 message\(s\) wait for a commit \(tests.sampleapp.tasks.add\)"):
            assert self.run_pending() == []
        self.assertNotPublished(add)

    def test_commit_hooks_that_are_called_publish(self):
        """captureOnCommitCallbacks(execute=True) publishes, once, and ends."""
        with self.captureOnCommitCallbacks(execute=True) as hooks:
            add.delay(1, 2)
        assert len(hooks) == 1
        self.assertPublished(add, args=(1, 2), times=1)

    def test_tasks_run_in_the_tests_transaction(self):
        """A task sees the test's rows, the test sees the task's; what the task publishes leaves as in a worker."""
        with self.captureOnCommitCallbacks(execute=True):
            record_then_add.delay("here")
        outcomes = self.run_pending()
        assert [outcome.request.message.task for outcome in outcomes] == [record_then_add.name, add.name]
        assert Effect.objects.filter(key="here").exists()
        assert self.tasks.uncommitted() == []
        assert len(connection.run_on_commit) == 1  # the test's own, as Django leaves it

    def test_a_query_that_fails_leaves_the_transaction_usable(self):
        """A task's IntegrityError is its failure; the test goes on."""
        with self.captureOnCommitCallbacks(execute=True):
            duplicate.delay()
        (outcome,) = self.run_pending()
        assert isinstance(outcome.value, IntegrityError)
        assert Effect.objects.count() == 0

    def test_coroutines_run_in_the_tests_transaction(self):
        """What an async def task writes is in the transaction, too."""
        with self.captureOnCommitCallbacks(execute=True):
            record_async.delay("async")
        assert [outcome.state for outcome in self.run_pending()] == ["SUCCESS"]
        assert Effect.objects.filter(key="async").count() == 1


class AtOnceTests(TasksMixin, TestCase):
    """With tasks_on_commit = False."""

    tasks_on_commit = False
    tasks_raise_errors = True

    def test_messages_dont_wait_for_the_commit(self):
        """They are published at once, and errors are raised."""
        fail.delay()
        self.assertPublished(fail)
        with pytest.raises(ValueError, match="broken"):
            self.run_pending()


@pytest.mark.django_db
def test_a_rolled_back_call_is_not_published():
    """A savepoint that is rolled back takes the call with it."""
    with in_memory() as queue:
        with transaction.atomic():
            add.delay(1, 2)
            assert len(queue.uncommitted()) == 1
            transaction.set_rollback(True)
        assert queue.uncommitted() == []


@pytest.mark.django_db
def test_pytest_djangos_fixture_publishes(django_capture_on_commit_callbacks):
    """django_capture_on_commit_callbacks(execute=True) publishes."""
    with in_memory() as queue:
        with django_capture_on_commit_callbacks(execute=True):
            add.delay(1, 2)
        assert [outcome.value for outcome in queue.run_pending()] == [3]


@pytest.mark.django_db(databases=["default", "postgres", "mysql"])
def test_hooks_of_several_open_transactions_end(alias, django_capture_on_commit_callbacks):
    """Hooks called by hand send their messages whatever other transactions are open."""
    with override_settings(DJANGO_TASKS={"TASK_PUBLISH_ON_COMMIT": True}), in_memory() as queue:
        add.delay(1, 2)
        for _ in range(5):
            for name in ("default", alias):
                with django_capture_on_commit_callbacks(using=name, execute=True):
                    add.delay(3, 4)
        assert {tuple(one.args) for one in queue.published()} <= {(3, 4)}


@pytest.mark.django_db(databases=["default", "postgres", "mysql"])
def test_the_database_broker_runs_in_the_tests_transaction(alias):
    """Without in_memory(), run_pending() runs rows of the test's transaction, with results and dead letters as rows."""
    with override_settings(DJANGO_TASKS={"BROKER_URL": f"db://{alias}", "RESULT_BACKEND": f"db://{alias}"}):
        chained = record_then_add.apply_async(("row",), link=record.s())
        assert Message.objects.using(alias).count() == 1
        outcomes = run_pending()
        assert [outcome.state for outcome in outcomes].count("SUCCESS") == 3
        assert chained.state == "SUCCESS"
        assert TaskResult.objects.using(alias).count() == 3
        assert Message.objects.using(alias).count() == 0
        assert Effect.objects.filter(key="row").exists()


@pytest.mark.django_db
def test_dead_letters_of_the_database_broker_are_recorded():
    """An unknown task's message becomes a dead letter, as in a worker."""
    from django_tasks import app

    app.send_task("shop.tasks.unknown")
    run_pending()
    assert DeadLetter.objects.get().task == "shop.tasks.unknown"


@pytest.mark.django_db
def test_what_has_left_waits_for_no_commit(settings, django_capture_on_commit_callbacks):
    """On the project's own broker, a hook that was called is not warned of; one that was not is."""
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://has-left", "RESULT_BACKEND": "memory://has-left"}
    with django_capture_on_commit_callbacks(execute=True):
        add.delay(1, 2)
    assert [outcome.value for outcome in run_pending()] == [3]
    assert run_pending() == []
    with django_capture_on_commit_callbacks():
        add.delay(3, 4)
    with pytest.warns(UncommittedWarning, match=r"^1 message\(s\) wait for a commit"):
        assert run_pending() == []
