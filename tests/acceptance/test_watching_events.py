"""A terminal and a program of a project's own watch a real worker, with the worker's broker between them."""

import json
import signal
import sys
import uuid
from collections.abc import Iterator

import pytest

from tests.places import Place
from tests.processes import StartWorker, WorkerProcess
from tests.sampleapp import tasks

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]

#: Celery's guide, with another import.
MONITOR = """
import django
django.setup()
from django_tasks import app

state = app.events.State()

def announce(event):
    state.event(event)
    task = state.tasks.get(event["uuid"])
    print("TASK FAILED:", task.name, task.exception, task.worker in list(state.alive_workers()), flush=True)

with app.connection() as connection:
    recv = app.events.Receiver(connection, handlers={"task-failed": announce, "*": state.event})
    print("monitoring", flush=True)
    recv.capture(limit=None, timeout=None, wakeup=True)
"""


@pytest.fixture
def start_process(place: Place, child_environment: dict[str, str]) -> Iterator[StartWorker]:
    """``start_process("-m", "django", ...)`` starts a Python that ends with the test."""
    started: list[WorkerProcess] = []

    def start(*arguments: str) -> WorkerProcess:
        started.append(WorkerProcess(child_environment, command=(sys.executable, "-W", "error::RuntimeWarning", *arguments)))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def test_a_terminal_and_a_program_watch_a_worker(start_worker: StartWorker, start_process: StartWorker, place: Place) -> None:
    """Both hear of tasks and of the worker; each ends with Ctrl-C, the command with status 0."""
    name = f"watched-{uuid.uuid4().hex[:8]}@h"
    start_worker("-E", "-c", "2", "-n", name)
    terminal = start_process("-m", "django", "tasks", "events", "--json", "--type", "task-*")
    program = start_process("-c", MONITOR)
    terminal.says("Ctrl-C ends it")
    program.says("monitoring")
    good = tasks.add.delay(2, 3)
    terminal.says("task-succeeded")
    while "TASK FAILED: tests.sampleapp.tasks.fail ValueError('broken') True" not in program.output:
        # It says that it listens some time before it does.
        bad = tasks.fail.delay()
        terminal.says(bad.id)
        with pytest.raises(ValueError, match="broken"):
            bad.get(timeout=50)
    for process in (terminal, program):
        process.signal(signal.SIGINT)
    assert terminal.ends() == 0
    terminal._reader.join(5)
    said = [json.loads(line) for line in terminal.lines if line.startswith("{")]
    assert [one["type"] for one in said if one["uuid"] == good.id] == ["task-received", "task-started", "task-succeeded"]
    assert {one["hostname"] for one in said if one["uuid"] == good.id} == {name}
