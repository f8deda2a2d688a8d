"""``manage.py tasks rerun``: from where it failed, or alone."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_tasks import group, states
from django_tasks.models import Message, TaskResult
from tests.database.lane import Lane
from tests.database.resuming.brokensteps import BROKEN, RAN, fail, failed, step, total, value

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    yield
    BROKEN.clear()
    RAN.clear()


def run(*arguments: str) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command("tasks", "rerun", *arguments, stdout=out)
    return out.getvalue()


def test_it_goes_on(lane: Lane) -> None:
    """The failed task runs again under its id, and what was to follow does."""
    result = fail(lane, step.s(0, "1") | step.s("2") | step.s("3"), "2")
    (row,) = failed()
    assert json.loads(run(row.task_id, row.task_id, "--json")) == [
        {"task_id": row.task_id, "sent_as": row.task_id, "task": "resuming.step"}
    ]
    lane.drain()
    assert value(result) == 3


def test_all_that_failed(lane: Lane) -> None:
    """Any task of the workflow leads to its failed ones; where nothing can be run, a sentence says so."""
    result = fail(lane, group(step.s(n, f"p{n}") for n in range(5)) | total.s(), "p1", "p3")
    good = TaskResult.objects.filter(status=states.SUCCESS)[0]
    sent = json.loads(run(good.task_id, "--all", "--json"))
    assert len(sent) == 2
    lane.drain()
    assert value(result) == 15
    with pytest.raises(CommandError, match="nothing in there has failed"):
        run(good.task_id, "--all")


def test_alone(lane: Lane) -> None:
    """Under a new id, in the same workflow; nothing follows."""
    result = fail(lane, step.s(0, "1") | step.s("2"), "1")
    (row,) = failed()
    assert row.task_id in run(row.task_id, "--alone")
    message = Message.objects.get()
    assert message.task_id != row.task_id
    assert json.loads(message.headers)["parent_id"] == row.task_id
    lane.drain()
    assert RAN == ["1"]
    assert TaskResult.objects.get(task_id=result.id).status == states.FAILURE


def test_it_says_why_not(lane: Lane) -> None:
    """Exit status 1 and a sentence, for ids that nobody knows and for a chord's part without the others; nothing is sent."""
    fail(lane, step.s(0, "1"), "1")
    (row,) = failed()
    for arguments in ((row.task_id, "nobody"), (row.task_id, "nobody", "--alone")):
        with pytest.raises(CommandError, match="nothing is kept of nobody") as caught:
            run(*arguments)
        assert caught.value.returncode == 1
    TaskResult.objects.update(task_args=None, meta=None)
    for arguments in ((row.task_id,), (row.task_id, "--alone")):
        with pytest.raises(CommandError, match=r"never started|were not kept"):
            run(*arguments)
    assert not Message.objects.exists()


def test_another_result_backend(settings: Any) -> None:
    """Where results aren't rows, one line says which setting can."""
    TaskResult.objects.create(task_id="a", task_name="x", status=states.FAILURE, date_created="2026-01-01T00:00:00Z")
    settings.DJANGO_TASKS = {"RESULT_BACKEND": "cache://default"}
    with pytest.raises(CommandError, match="RESULT_BACKEND = 'db://default' can") as caught:
        run("a")
    assert caught.value.returncode == 1
