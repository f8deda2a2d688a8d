"""What becomes of a run: handlers, expected errors, refusals, results that nobody wants, and other names in the log."""

import logging

import pytest
from django.test import override_settings

from django_tasks import signals
from django_tasks.brokers.broker import Delivery
from django_tasks.canvas.calls import build_message
from django_tasks.context import Request
from django_tasks.exceptions import Ignore, Reject, TimeLimitExceeded
from django_tasks.executor import Executor
from django_tasks.messages import HIDDEN, Destination, Disposition, Envelope, TaskMessage
from django_tasks.outcomes import NO_FOLLOWUPS, Followups, ignores_result
from django_tasks.protocol import encode
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.encoding import decode
from django_tasks.resultmetas import meta_of
from django_tasks.serializers import loads_json
from django_tasks.tasks import Task, shared_task
from django_tasks.worker.recovery import OVERDUE, outcome_after_death

pytestmark = pytest.mark.usefixtures("own_registry")

ENVELOPE = Envelope(body=b"", content_type="", content_encoding="", headers={}, properties={}, queue="q")


@pytest.fixture
def heard():
    """Names and values of the signals that are sent."""
    found = []

    def note(name, *fields):
        def receiver(sender, **given):
            found.append((name, *(given[field] for field in fields)))

        return receiver

    receivers = {
        signals.task_failure: note("failure", "exception"),
        signals.task_postrun: note("postrun", "state"),
        signals.task_internal_error: note("internal", "exception"),
    }
    for signal, receiver in receivers.items():
        signal.connect(receiver)
    yield found
    for signal, receiver in receivers.items():
        signal.disconnect(receiver)


def run(task, *, follow=lambda request, state, value: NO_FOLLOWUPS, delivered=True, **fields):
    """Run a task as a worker does."""
    message = TaskMessage(id="1", task=task.name, queue="q", **fields)
    return Executor(follow=follow).execute(
        Request(message=message, definition=task, delivery=Delivery(ENVELOPE, "t", "q") if delivered else None)
    )


def stored(outcome):
    """Return what a reader of the result gets."""
    meta = ResultMeta(task_id="1", status=outcome.state, result=outcome.result, content_type=outcome.content_type)
    return decode(meta)


@pytest.mark.parametrize("throws", [KeyError, (KeyError,), [KeyError], (LookupError, ValueError)])
def test_expected_errors_are_logged_without_a_traceback(caplog, throws):
    """``throws`` is one class or several; the task fails, but that is no news for the error log."""

    @shared_task(name="o.expected", throws=throws)
    def expected():
        raise KeyError("x")

    with caplog.at_level(logging.INFO, "django_tasks.task"):
        assert run(expected).state == "FAILURE"
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("INFO", None)] * 2


@pytest.mark.parametrize(
    ("log_tasks", "level", "lines"),
    [
        (True, logging.INFO, ["Task o.lines[1] started", "Task o.lines[1] succeeded in "]),
        (True, logging.WARNING, []),
        (False, logging.INFO, []),
    ],
)
def test_a_task_that_starts_and_one_that_ends_is_a_line_each(caplog, log_tasks, level, lines):
    """At INFO a run is two lines, unless WORKER_LOG_TASKS is off; at the level that a worker has by default it is none."""

    @shared_task(name="o.lines")
    def lined():
        return 1

    message = TaskMessage(id="1", task=lined.name, queue="q")
    with caplog.at_level(level, "django_tasks.task"):
        Executor(follow=lambda *_: NO_FOLLOWUPS, log_tasks=log_tasks).execute(Request(message=message, definition=lined))
    assert len(caplog.messages) == len(lines)
    assert all(message.startswith(line) for message, line in zip(caplog.messages, lines, strict=True))


def test_what_cannot_be_classified_is_a_failure(caplog, heard):
    """A malformed attribute of the task doesn't take the worker down: the run fails with what went wrong."""

    @shared_task(name="o.malformed", throws=property(lambda task: 3))
    def malformed():
        raise KeyError("x")

    outcome = run(malformed)
    assert outcome.state == "FAILURE"
    assert isinstance(outcome.value, TypeError)
    assert "internal" in [name for name, _ in heard]
    assert "handling that failed" in caplog.text


@pytest.mark.parametrize("header", [5, None, True, {"args": 1}, "args"])
def test_a_strange_header_hides_nothing_and_breaks_nothing(header):
    """A producer that is not ours may send a header of that name: the result must be built all the same."""

    @shared_task(name="o.strange")
    def strange(x):
        return x

    outcome = run(strange, args=(1,), headers={HIDDEN: header})
    assert (outcome.state, meta_of(outcome, "w").args) == ("SUCCESS", "[1]")


def test_what_cannot_be_classified_is_told_once(heard):
    """With a malformed ``throws`` neither the signal nor what is to follow a failure may go out twice, with two different errors."""
    followed = []

    def follow(request, state, value):
        followed.append(value)
        return NO_FOLLOWUPS

    @shared_task(name="o.malformed.followed", throws=property(lambda task: 3))
    def malformed():
        raise KeyError("x")

    outcome = run(malformed, follow=follow, embed={"errbacks": [{"task": "o.malformed.followed"}]})
    assert followed == [outcome.value]
    assert [name for name, _ in heard] == ["internal"]


def test_a_success_handler_that_fails_changes_nothing(caplog):
    """The task has done its work: a worker logs what its handler raises, and the other handlers run."""
    ends = []

    class Handling(Task):
        def on_success(self, retval, task_id, args, kwargs):
            raise ValueError("handler")

        def after_return(self, status, *rest):
            ends.append(status)

    @shared_task(name="o.handled", base=Handling)
    def handled():
        return 1

    outcome = run(handled)
    assert (outcome.state, outcome.value, ends) == ("SUCCESS", 1, ["SUCCESS"])
    assert "on_success failed" in caplog.text


def test_a_refused_task_has_failed(heard):
    """Who waits for a task that will never run again learns so; its error callbacks run, its handlers don't."""
    handled = []

    class Handling(Task):
        def on_failure(self, *arguments):
            handled.append(arguments)

        after_return = on_failure

    @shared_task(name="o.refuses", base=Handling)
    def refuses():
        raise Reject(MemoryError("too big"), requeue=False)

    errback = TaskMessage(id="2", task="o.errback")
    outcome = run(refuses, embed={"errbacks": [{}]}, follow=lambda request, state, value: Followups([errback]))
    assert (outcome.state, outcome.settlement.disposition, outcome.store) == ("FAILURE", Disposition.DEAD, True)
    assert outcome.followups.messages == [errback]
    assert "too big" in str(stored(outcome))
    assert [name for name, *_ in heard] == ["failure", "postrun"]
    assert heard[1] == ("postrun", "REJECTED")
    assert not handled


def test_a_refused_task_that_was_acknowledged_before_has_failed_too():
    """Without a delivery there is nothing to put away."""

    @shared_task(name="o.refuses")
    def refuses():
        raise Reject("no")

    outcome = run(refuses, delivered=False)
    assert (outcome.state, outcome.settlement) == ("FAILURE", None)


def test_a_task_given_back_has_no_outcome(heard):
    """``Reject(requeue=True)`` and ``Ignore`` store nothing."""

    @shared_task(name="o.later")
    def later(requeue):
        raise Reject("later", requeue=True) if requeue else Ignore()

    outcome = run(later, args=(True,))
    assert (outcome.state, outcome.settlement.disposition, outcome.store) == ("REJECTED", Disposition.REQUEUE, False)
    outcome = run(later, args=(False,))
    assert (outcome.state, outcome.settlement, outcome.store) == ("IGNORED", None, False)
    assert heard == [("postrun", "REJECTED"), ("postrun", "IGNORED")]


@pytest.mark.parametrize(
    ("setting", "own", "asked", "ignored"),
    [
        (False, None, None, False),
        (True, None, None, True),
        (True, False, None, False),
        (False, True, None, True),
        (False, True, False, False),
        (True, None, False, False),
        (False, False, True, True),
    ],
)
def test_the_call_decides_then_the_task_then_the_settings(setting, own, asked, ignored):
    """``ignore_result``: the nearest that says something."""

    @shared_task(name="o.maybe", ignore_result=own)
    def maybe():
        return 1

    with override_settings(DJANGO_TASKS={"TASK_IGNORE_RESULT": setting}):
        assert ignores_result(Request(message=TaskMessage(id="1", task="o.maybe", ignore_result=asked), definition=maybe)) is ignored
        assert run(maybe, ignore_result=asked).store is not ignored


def test_logs_show_the_other_name(caplog):
    """``shadow`` stands in the log where the task's name would."""

    @shared_task(name="o.shadowed")
    def shadowed(how):
        if how:
            raise how
        return 1

    with caplog.at_level(logging.INFO, "django_tasks.task"):
        for how in (None, ValueError(), Ignore(), Reject()):
            run(shadowed, args=(how,), shadow="another")
    assert len(caplog.messages) == 8
    assert all(line.startswith("Task another[1]") for line in caplog.messages)


def test_what_the_caller_hides_is_not_kept():
    """The row of a result has the caller's texts, and the rest as it is."""

    @shared_task(name="o.pay")
    def pay(account, card=None):
        return 1

    message = build_message("o.pay", ("secret", 2), {"card": "1234"}, {"kwargsrepr": "{'card': '****'}"})
    meta = meta_of(Executor(follow=lambda *_: NO_FOLLOWUPS).execute(Request(message=message, definition=pay)), "w1@here")
    assert (loads_json(meta.args), loads_json(meta.kwargs)) == (["secret", 2], "{'card': '****'}")
    hidden = build_message("o.pay", ("secret", 2), {}, {"argsrepr": "(***)"})
    meta = meta_of(Executor(follow=lambda *_: NO_FOLLOWUPS).execute(Request(message=hidden, definition=pay)), "w1@here")
    assert (loads_json(meta.args), loads_json(meta.kwargs)) == ("(***)", {})


@pytest.mark.parametrize("broken", [False, True])
def test_a_killed_tasks_handler_is_called_elsewhere(heard, caplog, broken):
    """At the hard time limit the process is gone, so its task's on_failure runs where the death is noticed, with the request."""
    handled = []

    class Handling(Task):
        def on_failure(self, exc, task_id, args, kwargs, einfo):
            handled.append((type(exc), task_id, list(args), dict(kwargs), einfo.exception is exc, self.request.id))
            if broken:
                raise ValueError("handler")

    @shared_task(name="o.killed", base=Handling, time_limit=1)
    def killed(x):
        return x

    (envelope,) = encode([TaskMessage(id="1", task="o.killed", args=(3,))], [Destination(queue="q")], origin="t@h")
    outcome = outcome_after_death(Delivery(envelope, "t", "q"), OVERDUE, "killed", "w1@here", lambda *_: NO_FOLLOWUPS)
    assert handled == [(TimeLimitExceeded, "1", [3], {}, True, "1")]
    assert (outcome.state, [name for name, _ in heard]) == ("FAILURE", ["failure"])
    assert ("on_failure failed" in caplog.text) is broken


def test_what_a_failure_keeps_of_its_message():
    """What the result doesn't tell otherwise; of a chord's body only that there is one. Successes keep nothing."""

    @shared_task(name="o.fragile")
    def fragile(broken):
        if broken:
            raise ValueError("broken")

    def kept(broken, **fields):
        message = TaskMessage(id="1", task="o.fragile", args=(broken,), **{"root_id": "1", **fields})
        request = Request(message=message, definition=fragile)
        return meta_of(Executor(follow=lambda *_: NO_FOLLOWUPS).execute(request), "w1@here").follows

    after = {"task": "o.after", "options": {"task_id": "2"}}
    embed = {"callbacks": None, "errbacks": None, "chain": [after], "chord": after}
    assert kept(False, embed=embed) is None
    assert kept(True) == {}
    assert kept(True, priority=3, headers={"a": 1}, embed=embed) == {
        "priority": 3,
        "headers": {"a": 1},
        "embed": {"chain": [after], "chord": True},
    }
    assert kept(True, embed={"chain": [after, object()]}) == {"omitted": "it can't be written as JSON"}
    # A message that could not be read has no root: nothing can be said of it.
    assert kept(True, root_id=None) is None
    with override_settings(DJANGO_TASKS={"RESULT_EXTENDED": False}):
        assert kept(True) is None
