"""What ``app.add_periodic_task`` refuses: told where it is written, and nothing is added."""

import math
from datetime import time, timedelta

import pytest

from django_tasks import app
from django_tasks.canvas import group
from django_tasks.registry import periodic_tasks
from django_tasks.schedules import crontab, schedule, solar


@pytest.fixture(autouse=True)
def entries(monkeypatch):
    """No entries but a test's own."""
    before = dict(periodic_tasks)
    periodic_tasks.clear()
    yield periodic_tasks
    periodic_tasks.clear()
    periodic_tasks.update(before)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("soon", "not the text 'soon'"),
        ("* * * * *", "crontab"),
        (None, "a number of seconds"),
        (True, "a number of seconds"),
        (math.nan, "a number of seconds"),
        (math.inf, "a number of seconds"),
        (time(4), "a number of seconds"),
        (crontab, r"did you mean crontab\(\)"),
        (0, "longer than nothing"),
        (-5, "longer than nothing"),
        (timedelta(0), "longer than nothing"),
        (schedule(run_every=0), "longer than nothing"),
    ],
)
def test_what_is_no_schedule(add, entries, given, words):
    """The error says what a schedule is."""
    with pytest.raises((TypeError, ValueError), match=words) as raised:
        app.add_periodic_task(given, add.s(1))
    assert "no periodic task was added" in str(raised.value)
    assert entries == {}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"args": 3}, "args as a list or tuple"),
        ({"args": "12"}, "args as a list or tuple"),
        ({"kwargs": 3}, "kwargs as a mapping"),
        ({"args": (1, 2, 3)}, "takes from 1 to 2"),
        ({"kwargs": {"z": 1}}, "unexpected keyword argument 'z'"),
        ({"name": 3}, "255 printable characters"),
        ({"name": "x" * 256}, "255 printable characters"),
        ({"countdwn": 3}, "did you mean 'countdown'"),
        ({"expires": "x"}, "expires takes"),
        ({"expire_seconds": "x"}, "expire_seconds takes"),
        ({"queue": 3}, "queue takes"),
        ({"priority": "high"}, "priority takes"),
    ],
)
def test_what_can_not_be_sent(add, entries, wrong, words):
    """Arguments and options are those of a call."""
    with pytest.raises(TypeError, match=words):
        app.add_periodic_task(10, add.s(1), **wrong)
    assert entries == {}


def test_what_can_be(add, entries):
    """Celery's forms are taken: schedules, names of tasks that are elsewhere, tasks, workflows, and no kwargs as a tuple."""
    every = [10, 0.5, timedelta(seconds=1), crontab(hour=4), solar("sunset", 0, 0), schedule(run_every=5)]
    names = [app.add_periodic_task(one, add.s(1), name=f"entry {number}") for number, one in enumerate(every)]
    names.append(app.add_periodic_task(10, "else.where", (1, 2, 3), {}, expire_seconds=5, queue="q", priority=5))
    names.append(app.add_periodic_task(10, add, [1], ()))
    names.append(app.add_periodic_task(10, group(add.s(1), add.s(2))))
    assert list(entries) == names
