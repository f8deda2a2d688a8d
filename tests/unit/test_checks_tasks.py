"""The checks of what single tasks and periodic tasks are declared with: what only the settings can tell."""

import pytest
from django.test import override_settings

from django_tasks import app
from django_tasks.checks import CHECKS
from django_tasks.checks.periodic import check_periodic_tasks
from django_tasks.checks.tasks import check_tasks
from django_tasks.registry import periodic_tasks, registry
from django_tasks.schedules import crontab


def declare(**options):
    return app.task(lambda x=0: None, name="checked.one", **options)


def found(check=check_tasks, **values):
    with override_settings(DJANGO_TASKS=values):
        return [
            f"{message.id.removeprefix('django_tasks.')} {message.msg} | {message.hint}"
            for message in check()
            if "checked" in message.msg or "entry" in message.msg
        ]


@pytest.mark.parametrize(
    ("options", "values", "words"),
    [
        ({"serializer": "xml"}, {}, ("E019", "serializer='xml'", "there are json")),
        ({"compression": "rar"}, {}, ("E019", "compression='rar'", "there are")),
        (
            {"queue": "slwo"},
            {"TASK_QUEUES": {"slow": {}}, "TASK_DEFAULT_QUEUE": "slow", "TASK_CREATE_MISSING_QUEUES": False},
            ("E019", "queue='slwo'", "did you mean 'slow'"),
        ),
        ({"serializer": "pickle"}, {}, ("W010", "serializer='pickle'", "['json']", "dead letter")),
        ({"soft_time_limit": 10}, {"TASK_TIME_LIMIT": 5}, ("W019", "soft time limit of 10 seconds", "hard one of 5")),
        ({"time_limit": 5}, {"TASK_SOFT_TIME_LIMIT": 10}, ("W019", "soft time limit of 10 seconds", "hard one of 5")),
        ({"countdown": 10}, {}, ("W020", "declared with countdown", "apply_async(countdown=...)")),
    ],
)
def test_what_a_task_is_declared_with(own_registry, options, values, words):
    """One message says what is wrong and what can be done."""
    declare(**options)
    (message,) = found(**values)
    assert all(word in message for word in words), message


def test_a_task_that_is_fine(own_registry):
    """Serializers that are accepted, compressions that are there, limits in order."""
    declare(serializer="yaml", compression="gzip", soft_time_limit=5, time_limit=10, queue="any")
    assert found(ACCEPT_CONTENT=["json", "yaml"]) == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (3, ("E018", "must be a dictionary")),
        ({"task": "checked.one"}, ("E018", "has no 'schedule'")),
        ({"task": "checked.one", "schedule": "soon"}, ("E018", "its schedule is 'soon'")),
        ({"task": "checked.one", "schedule": 0}, ("E018", "longer than nothing")),
        ({"task": "checked.one", "schedule": 5, "args": [1, 2]}, ("E018", "takes from 0 to 1")),
        ({"task": "checked.one", "schedule": 5, "options": {"expires": "x"}}, ("E018", "expires takes")),
        ({"task": "checked.one", "schedule": 5, "options": {"priority": "x"}}, ("E018", "priority takes")),
        ({"task": "checked.oen", "schedule": 5}, ("W018", "'checked.oen'", "no task is registered")),
    ],
)
def test_what_beat_would_pass_over(own_registry, entry, words):
    """An entry of BEAT_SCHEDULE that can't be is an error, a name that nobody knows here a warning."""
    declare()
    (message,) = found(check_periodic_tasks, BEAT_SCHEDULE={"an entry": entry})
    assert "DJANGO_TASKS['BEAT_SCHEDULE']" in message
    assert all(word in message for word in words), message


def test_entries_that_are_fine(own_registry):
    """What beat sends is no message of the check."""
    declare()
    schedule = {"an entry": {"task": "checked.one", "schedule": crontab(hour=4), "args": (1,), "options": {"queue": "q"}}}
    assert found(check_periodic_tasks, BEAT_SCHEDULE=schedule) == []


def test_an_added_entry_is_looked_at(own_registry, monkeypatch):
    """One whose task was unknown when it was added."""
    monkeypatch.setitem(periodic_tasks, "an entry", {"task": "checked.one", "schedule": 5, "args": (1, 2), "kwargs": {}, "options": {}})
    assert "checked.one" not in registry
    (message,) = found(check_periodic_tasks)
    assert message.startswith("W018 The periodic task 'an entry' of add_periodic_task")
    declare()
    (message,) = found(check_periodic_tasks)
    assert message.startswith("E018")


def test_the_checks_are_registered():
    """``manage.py check`` runs them."""
    assert {check_tasks, check_periodic_tasks} <= set(CHECKS)
