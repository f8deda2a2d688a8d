"""The signals that the long-running commands send before they do anything, by which projects set up logging and options."""

import logging
from contextlib import ExitStack, contextmanager

import pytest
from django.core.management import CommandError, call_command

from django_tasks import app, apps, signals
from django_tasks.management.commands import runbeat, runworker

LOGGING = ("setup_logging", "after_setup_logger", "after_setup_task_logger")


@pytest.fixture
def logs():
    """The loggers as they were, afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("django_tasks")
    kept = list(root.handlers), root.level, ours.level
    yield root
    root.handlers[:], root.level, ours.level = kept
    logging.getLogger("django_tasks").setLevel(kept[2])


@contextmanager
def listening(*names):
    """A list of (name, what the signal carries) of the signals that are sent while the block runs."""
    heard = []
    with ExitStack() as stack:
        for name in names:
            sent = getattr(signals, name)

            def receive(sender=None, signal=None, _name=name, **told):
                heard.append((_name, {"sender": sender, **told}))

            sent.connect(receive, weak=False)
            stack.callback(sent.disconnect, receive)
        yield heard


def test_a_worker_says_that_it_starts(monkeypatch, logs):
    """celeryd_init comes first and may change what the command line said; then logging, then celeryd_after_setup."""
    ran = []
    monkeypatch.setattr(runworker, "run_worker", lambda worker, **more: ran.append(worker) or 0)

    def fewer(sender, options, conf, **more):
        options["concurrency"] = 1
        assert conf is app.conf

    signals.celeryd_init.connect(fewer)
    try:
        with listening("celeryd_init", *LOGGING, "celeryd_after_setup") as heard:
            call_command("runworker", "-n", "one@here", "-c", "7", "-l", "info")
    finally:
        signals.celeryd_init.disconnect(fewer)
    assert [name for name, _ in heard] == ["celeryd_init", *LOGGING, "celeryd_after_setup"]
    assert ran[0].concurrency == 1
    assert heard[-1][1]["sender"] == "one@here"
    assert heard[-1][1]["instance"] is ran[0]
    assert heard[2][1]["logger"] is logs
    assert {heard[1][1]["loglevel"], heard[2][1]["loglevel"]} == {"INFO"}


@pytest.mark.parametrize("queues", ["", " ", ","])
def test_a_worker_of_no_queue_does_not_start(monkeypatch, queues):
    """-Q "$QUEUES" with nothing in the variable is refused, and does not make a worker of the default queue."""
    monkeypatch.setattr(runworker, "run_worker", lambda worker, **more: 0)
    with pytest.raises(CommandError, match="names no queue"):
        call_command("runworker", "-Q", queues)


def test_beat_sends_the_signals_of_logging(monkeypatch, logs):
    """As Celery's does."""
    monkeypatch.setattr(runbeat, "run_beat", lambda options, **more: 0)
    with listening(*LOGGING) as heard:
        call_command("runbeat")
    assert [name for name, _ in heard] == list(LOGGING)


def test_what_a_receiver_configures_counts(monkeypatch, logs):
    """A handler that a receiver of setup_logging adds is not doubled by ours, and a receiver's dictConfig doesn't silence our loggers."""
    monkeypatch.setattr(runbeat, "run_beat", lambda options, **more: 0)
    logs.handlers[:] = []
    own = logging.NullHandler()

    def configure(**told):
        logs.addHandler(own)
        logging.getLogger("django_tasks.beat").disabled = True

    signals.setup_logging.connect(configure)
    try:
        call_command("runbeat")
    finally:
        signals.setup_logging.disconnect(configure)
    assert logs.handlers == [own]
    assert not logging.getLogger("django_tasks.beat").disabled


def test_import_modules_is_sent_before_tasks_are_imported(monkeypatch):
    """A receiver may import what no setting names."""
    with listening("import_modules") as heard:
        monkeypatch.setattr(apps, "import_task_modules", lambda names: heard.append(("imported", {})) or [])
        apps.discover_tasks()
    assert [name for name, _ in heard] == ["import_modules", "imported"]
    assert heard[0][1]["sender"] is app
