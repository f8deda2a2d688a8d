"""Names that projects know from Celery's app, its result backends and its contrib modules."""

import threading
import warnings
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings

import django_tasks
from django_tasks import app, chain, chord, exceptions, schedules, shared_task
from django_tasks.application.celerysnames import CelerysNames
from django_tasks.contrib.abortable import AbortableAsyncResult, AbortableTask
from django_tasks.exceptions import Ignore
from django_tasks.result import AsyncResult
from django_tasks.testing import in_memory
from tests.unit.workflows.flow import calls, double, errback, same, total


@pytest.fixture(autouse=True)
def queue(own_registry):
    """A queue and results in memory."""
    calls.clear()
    with in_memory() as queue:
        yield queue


def test_time_of_the_app():
    """``app.now()`` is aware, in the zone of the schedules."""
    with override_settings(DJANGO_TASKS={"TIMEZONE": "Asia/Tokyo"}):
        assert (app.timezone, app.now().tzinfo, app.uses_utc_timezone()) == (ZoneInfo("Asia/Tokyo"), ZoneInfo("Asia/Tokyo"), False)
    with override_settings(DJANGO_TASKS={"TIMEZONE": "UTC"}):
        assert app.uses_utc_timezone()
        assert app.now().utcoffset() == UTC.utcoffset(None)


def test_either_is_the_first_value_or_the_setting():
    """None is no value; 0 and "" are."""
    assert app.either("task_default_queue") == "default"
    assert app.either("task_default_queue", None, 0) == 0
    assert app.either("task_default_queue", None, lambda: "late") == "late"


def test_one_app_in_every_thread():
    """It is the current and the default one whatever is said, has an id for each process and thread, and can be used after ``close``."""
    app.set_current()
    app.set_default()
    with app as same_app:
        assert same_app.oid == app.oid != app.thread_oid == app.thread_oid
    others = []
    thread = threading.Thread(target=lambda: others.append((app.oid, app.thread_oid)))
    thread.start()
    thread.join()
    assert (others[0][0] == app.oid, others[0][1] == app.thread_oid) == (True, False)
    assert same.delay(3).id
    assert "django-tasks-engine" in app.bugreport()
    assert all(hasattr(django_tasks.app, name) for name in vars(CelerysNames) if not name.startswith("_"))


def test_ids_warnings_and_schedules():
    """``uuid()`` makes ids; Celery's warnings can be filtered by their names, its parser of crontabs imported."""
    assert len({django_tasks.uuid(), django_tasks.uuid()}) == 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", exceptions.CPendingDeprecationWarning)
        warnings.warn("soon", exceptions.CPendingDeprecationWarning, stacklevel=1)
    assert len(caught) == 1
    assert issubclass(exceptions.CDeprecationWarning, DeprecationWarning)
    assert schedules.crontab_parser(24).parse("*/12") == {0, 12}
    assert issubclass(exceptions.BackendStoreError, exceptions.BackendError)


def test_marking_stores_what_became_of_a_task():
    """Without a request a value or an exception is kept, and nothing follows."""
    app.backend.ensure_chords_allowed()
    app.backend.mark_as_started("1", pid=3)
    assert (AsyncResult("1").state, AsyncResult("1").info) == ("STARTED", {"pid": 3})
    app.backend.mark_as_retry("1", ValueError("once"))
    assert AsyncResult("1").state == "RETRY"
    app.backend.mark_as_failure("1", ValueError("no"), traceback="File ...")
    assert (AsyncResult("1").state, AsyncResult("1").result.args, AsyncResult("1").traceback) == ("FAILURE", ("no",), "File ...")
    app.backend.mark_as_done("1", 7)
    assert AsyncResult("1").get(timeout=0) == 7
    app.backend.mark_as_done("2", 7, store_result=False)
    assert AsyncResult("2").state == "PENDING"


def _marking(how):
    @shared_task(bind=True, name="names.marking")
    def marking(self, *args):
        """End by what the backend is told."""
        if how == "done":
            self.backend.mark_as_done(self.request.id, 5, request=self.request)
        else:
            self.backend.mark_as_failure(self.request.id, ValueError("by hand"), request=self.request, call_errbacks=how == "failed")
        raise Ignore

    return marking


@pytest.mark.parametrize(("how", "heard"), [("done", 0), ("failed", 1), ("failed quietly", 0)])
def test_marking_a_part_counts_it(queue, how, heard):
    """With the request of a chord's part the chord goes on, or fails, and the part's error callbacks are called."""
    part = _marking(how).s().on_error(errback.s())
    result = chord([part, same.s(2)], total.s()).apply_async()
    queue.run_pending()
    assert result.state == ("SUCCESS" if how == "done" else "FAILURE")
    assert len(calls) == heard


def test_marking_a_step_as_failed_fails_its_chain(queue):
    """Whoever waits for the last step is told."""
    result = chain(_marking("failed").s(), double.s()).apply_async()
    queue.run_pending()
    assert (result.state, result.result.args) == ("FAILURE", ("by hand",))


def test_the_size_of_a_chord_can_be_set(queue):
    """A chord that waits expects that many parts; an unknown one is none."""
    result = chord([same.s(1), same.s(2)], total.s()).apply_async()
    app.backend.set_chord_size(result.parent.id, 1)
    app.backend.set_chord_size("nobody's", 1)
    queue.run_pending()
    assert result.get(timeout=0) in (1, 2, 3)


def test_an_abortable_task_sees_that_it_is_to_stop(queue):
    """While it runs ``is_aborted()`` follows ``abort()``; asking one that has ended changes nothing."""
    seen = []

    @shared_task(bind=True, base=AbortableTask, name="names.sweep")
    def sweep(self):
        """Look, be asked, and look again."""
        seen.append(self.is_aborted())
        self.AsyncResult(self.request.id).abort()
        seen.append(self.is_aborted())
        return "stopped"

    result = sweep.delay()
    queue.run_pending()
    mine = sweep.AsyncResult(result.id)
    assert isinstance(mine, AbortableAsyncResult)
    assert mine.abort() is None
    assert (seen, mine.is_aborted(), mine.get(timeout=0)) == ([False, True], False, "stopped")
