"""``tasks result --watch``: what it tells while a task goes on."""

import io
import json
import os

import pytest
from django.core.management import CommandError, call_command

from django_tasks import clock, states
from django_tasks.cli import watching
from django_tasks.cli.watching import bar, described
from django_tasks.models import TaskResult
from django_tasks.operations.progress import Progress
from django_tasks.result_backends.backend import ResultMeta


def going(done, total=120, message="reading"):
    text = json.dumps({"done": done, "total": total, "message": message})
    return ResultMeta(task_id="one", status=states.PROGRESS, result=text)


@pytest.mark.parametrize(
    ("meta", "line"),
    [
        (None, "PENDING"),
        (ResultMeta(task_id="one", status="STARTED", result="{}"), "STARTED"),
        (going(30), "PROGRESS [########----------------------] 25 % (30 of 120) reading"),
        (going(150, 120, ""), "PROGRESS [##############################] 100 % (150 of 120)"),
        (going(7, None, "rows"), "PROGRESS 7 rows"),
        (ResultMeta(task_id="one", status=states.PROGRESS, result='{"page": 3}'), "PROGRESS"),
        (
            ResultMeta(task_id="one", status="PACKING", result='{"current": 1, "total": 2}'),
            "PACKING [###############---------------] 50 % (1 of 2)",
        ),
        (ResultMeta(task_id="one", status=states.PROGRESS, result="nonsense"), "PROGRESS"),
    ],
)
def test_a_state_in_a_line(meta, line):
    """State, bar, numbers and words; what says nothing of how far it is is named by its state."""
    assert described(meta) == line


def test_a_bar_is_as_long_as_its_share():
    """Nothing done is an empty bar, all done a full one."""
    assert bar(Progress(0, 10)).count("#") == 0
    assert bar(Progress(10, 10)).count("-") == 0


@pytest.mark.django_db(transaction=True)
def test_watching_until_it_is_done(monkeypatch):
    """Every change is told once, then the result is printed as without --watch."""
    row = TaskResult.objects.create(task_id="one", task_name="t", status=states.PROGRESS, result=going(30).result, date_created=clock.now())
    looks = []

    def next_look(_seconds):
        looks.append(1)
        if len(looks) == 2:
            TaskResult.objects.filter(pk=row.pk).update(result=going(60).result)
        if len(looks) == 4:
            TaskResult.objects.filter(pk=row.pk).update(status=states.SUCCESS, result="5", date_done=clock.now())

    monkeypatch.setattr(watching.time, "sleep", next_look)
    out = io.StringIO()
    call_command("tasks", "result", "one", "--watch", stdout=out)
    lines = out.getvalue().splitlines()
    assert [line.partition(" ")[0] for line in lines[:3]] == ["PROGRESS", "PROGRESS", "SUCCESS"]
    assert "25 %" in lines[0]
    assert "50 %" in lines[1]
    assert any(line.startswith("result:") and line.endswith("5") for line in lines)


@pytest.mark.django_db
def test_watching_ends_with_its_time():
    """Of a task that isn't done in time the state is told, and the exit status is 1."""
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"was not done after 0\.05 s") as caught:
        call_command("tasks", "result", "none-such", "--watch", "0.05", stdout=out)
    assert caught.value.returncode == 1
    assert out.getvalue() == "PENDING\n"


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self):
        """It is a terminal."""
        return True


@pytest.mark.django_db(transaction=True)
def test_a_terminal_has_one_line_that_changes(monkeypatch):
    """The bar is drawn over itself, no wider than the terminal; what a task says can't command the terminal."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 20)))
    monkeypatch.setenv("TERM", "xterm")
    row = TaskResult.objects.create(
        task_id="one",
        task_name="t",
        status=states.PROGRESS,
        result=going(30, message="\x1b[2J" + "x" * 90).result,
        date_created=clock.now(),
    )
    monkeypatch.setattr(watching.time, "sleep", lambda _: TaskResult.objects.filter(pk=row.pk).update(status=states.SUCCESS, result="5"))
    out = Terminal()
    call_command("tasks", "result", "one", "--watch", stdout=out)
    bar_line, state_line = out.getvalue().partition("\n")[0].split("\r\x1b[K")[1:]
    assert bar_line.startswith("PROGRESS [####")
    assert len(bar_line) == 59
    assert "\x1b" not in bar_line
    assert state_line == "SUCCESS"


@pytest.mark.django_db(transaction=True)
def test_a_file_gets_a_line_a_change(monkeypatch):
    """Where time is up, the last line is not said again, and nothing is drawn over."""
    TaskResult.objects.create(task_id="one", task_name="t", status=states.PROGRESS, result=going(30).result, date_created=clock.now())
    monkeypatch.setattr(watching.clock, "monotonic", iter(range(100)).__next__)
    monkeypatch.setattr(watching.time, "sleep", lambda _: None)
    out = io.StringIO()
    with pytest.raises(CommandError, match="one was not done after 3 s"):
        call_command("tasks", "result", "one", "--watch", "3", stdout=out)
    assert out.getvalue() == "PROGRESS [########----------------------] 25 % (30 of 120) reading\n"
