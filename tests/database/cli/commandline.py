"""Running ``manage.py tasks``, and rows for it to tell of."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from django_tasks import clock, states
from django_tasks.models import DeadLetter, TaskResult, Worker

ADD = "tests.sampleapp.tasks.add"


def run(*arguments):
    """Run the command; return its exit status and what it printed."""
    out = io.StringIO()
    try:
        call_command("tasks", *arguments, stdout=out)
    except SystemExit as stop:
        return stop.code, out.getvalue()
    return 0, out.getvalue()


def answer(*arguments):
    """Run the command with --json; return what it printed, parsed."""
    status, text = run(*arguments, "--json")
    assert status == 0
    return json.loads(text)


def refusal(*arguments):
    """Run a command that must fail; return its exit status and what it said."""
    with pytest.raises(CommandError) as caught:
        call_command("tasks", *arguments, stdout=io.StringIO())
    return caught.value.returncode, str(caught.value)


def store(task_id="one", **fields):
    values = {
        "task_name": ADD,
        "status": states.SUCCESS,
        "result": "5",
        "task_args": "[2, 3]",
        "task_kwargs": "{}",
        "date_created": clock.now(),
        "date_done": clock.now(),
    }
    return TaskResult.objects.create(task_id=task_id, **{**values, **fields})


def bury(**fields):
    values = {
        "queue": "default",
        "task_id": "dead-id",
        "task": ADD,
        "reason": "unknown task",
        "detail": "nobody knows it",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": json.dumps({"lang": "py", "task": ADD, "id": "dead-id"}),
        "properties": "{}",
        "body": b'[[2, 3], {"z": 1}, {}]',
        "died_at": clock.now(),
    }
    return DeadLetter.objects.create(**{**values, **fields})


def heartbeat(name="w1@host", **fields):
    now = clock.now()
    values = {"host": "host", "pid": 1, "pool": "prefork", "concurrency": 2, "queues": ["default"], "active": 1, "processed": 7}
    return Worker.objects.create(instance=name, name=name, **{**values, "started_at": now, "heartbeat_at": now, **fields})
