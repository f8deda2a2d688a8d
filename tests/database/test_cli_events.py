"""``tasks events``: what it prints, and how it ends."""

import json
import signal
import sys
from collections.abc import Iterator

import pytest

from django_tasks import events
from django_tasks.cli import listening
from django_tasks.cli.listening import Dumper
from django_tasks.cli.tables import Failure, Screen
from django_tasks.events.channel import event
from django_tasks.exceptions import OperationalError
from django_tasks.testing.event_contract import task_event
from tests.processes import WorkerProcess

RECEIVED = task_event("received", 1, name="shop.add", args="(2, 3)", kwargs="{}", retries=0)
OPTIONS = {"limit": None, "timeout": None, "type": None, "dump": True}


def test_lines_are_celerys():
    """Node, time, what happened, the task by its name as soon as that is known, and the other fields."""
    dumper = Dumper()
    common = {"hostname": "w1@host", "timestamp": 1700000000.5}
    received = {**common, "type": "task-received", "uuid": "1", "name": "shop.add", "args": "(2, 3)", "kwargs": "{}", "retries": 0}
    lines = [
        dumper.line({**common, "type": "task-started", "uuid": "1", "pid": 7}),
        dumper.line(received),
        dumper.line({**common, "type": "task-failed", "uuid": "1", "traceback": "a\n  b", "exception": "E()"}),
        dumper.line({**common, "type": "worker-heartbeat", "freq": 2.0, "active": 1}),
        dumper.line({"type": "Shop-Sold", "hostname": "x"}),
    ]
    when = "w1@host [2023-11-14 22:13:20.500000+00:00]"
    assert lines == [
        f"{when} task started: 1 pid=7",
        f"{when} task received: shop.add(1) args=(2, 3) kwargs={{}} retries=0",
        f"{when} task failed: shop.add(1) args=(2, 3) kwargs={{}} exception=E(), traceback=a   b",
        f"{when} heartbeat: active=1, freq=2.0",
        "x shop sold",
    ]
    assert received["name"] == "shop.add", "the event itself is left as it is"


class Scripted:
    """A receiver that hands out what a test has written down."""

    def __init__(self, steps):
        self.steps = list(steps)

    def listen(self, routing_key="#"):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    def receive(self, timeout):
        if not self.steps:
            raise KeyboardInterrupt
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step


def told(monkeypatch, steps, *, as_json=False, **options):
    monkeypatch.setattr(events, "current", lambda: Scripted(steps))
    monkeypatch.setattr(listening.time, "sleep", lambda seconds: None)
    lines = []
    status = listening.listen(Screen(lines.append, as_json=as_json), {**OPTIONS, **options})
    assert status == 0
    return lines


def test_json_is_one_document_a_line(monkeypatch):
    """With all fields, as they came."""
    assert [json.loads(line) for line in told(monkeypatch, [[RECEIVED]], as_json=True)] == [RECEIVED]


def test_only_the_types_asked_for(monkeypatch):
    """What doesn't match isn't printed and doesn't count, but its task's name is remembered."""
    batch = [RECEIVED, event("worker-online", "w1@host"), task_event("started", 1), task_event("failed", 1), task_event("failed", 2)]
    (line,) = told(monkeypatch, [batch], type="task-f*", limit=1)
    assert "task failed: shop.add(id-1)" in line


def test_a_lost_connection_is_tried_again(monkeypatch, capsys):
    """It is said on standard error, where it spoils no output."""
    lines = told(monkeypatch, [[RECEIVED], OperationalError("Receiving events failed at redis://x"), [task_event("started", 1)]])
    assert [line.split(":")[3].split()[-1] for line in lines] == ["received", "started"]
    assert "Receiving events failed at redis://x; trying again" in capsys.readouterr().err


def test_nothing_in_time_is_a_failure(monkeypatch):
    """Exit status 1, with what to do about it."""
    with pytest.raises(Failure, match="runworker -E") as info:
        told(monkeypatch, [[]] * 500_000, timeout=0.01)
    assert info.value.status == 1


@pytest.fixture
def start(child_environment) -> Iterator:
    processes = []

    def start(*arguments):
        command = (sys.executable, "-m", "django", "tasks", "events", *arguments)
        processes.append(WorkerProcess({**child_environment, "TEST_BROKER_URL": "db://default"}, command=command))
        processes[-1].says("Ctrl-C ends it")
        return processes[-1]

    yield start
    for process in processes:
        process.stop()


@pytest.mark.django_db(transaction=True)
def test_a_process_prints_events_as_they_come_and_ends_with_ctrl_c(start):
    """Each line is there at once; SIGINT ends it with status 0 and without a traceback."""
    process = start()
    channel = events.open_channel("db://default")
    channel.send([RECEIVED])
    process.says("task received: shop.add(id-1)")
    channel.send([task_event("succeeded", 1, result="5", runtime=0.1)])
    process.says("task succeeded: shop.add(id-1)")
    process.signal(signal.SIGINT)
    assert process.ends() == 0
    assert "Traceback" not in process.output


@pytest.mark.django_db(transaction=True)
def test_a_process_ends_after_so_many_events(start):
    """With --limit; what is printed with --json is nothing but documents."""
    process = start("--json", "--limit", "2", "--type", "task-*")
    events.open_channel("db://default").send([RECEIVED, event("worker-online", "w1@host"), task_event("started", 1)])
    assert process.ends() == 0
    process._reader.join(5)
    documents = [json.loads(line) for line in process.lines if line.startswith("{")]
    assert [one["type"] for one in documents] == ["task-received", "task-started"]


@pytest.mark.django_db(transaction=True)
def test_a_process_without_events_fails_in_time(start):
    """Exit status 1 when --timeout has passed."""
    assert start("--timeout", "0.3").ends() == 1
