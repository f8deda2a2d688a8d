"""Events where the broker can't carry them: work goes on, and whoever wants to listen is told why."""

import logging

import pytest

from django_tasks import events, kombuaccess
from django_tasks.exceptions import ImproperlyConfigured


@pytest.fixture(autouse=True)
def own_channel():
    """No channel of another test, and none left for one."""
    events.reset()
    yield
    events.reset()


def test_a_missing_package_silences_events_and_nothing_else(settings, monkeypatch, caplog):
    """What is sent is dropped, with one warning that names the package; listening raises the same."""

    def lacks(*args, **kwargs):
        raise ImproperlyConfigured("redis:// needs a package that is not installed: pip install 'django-tasks-engine[redis]'")

    monkeypatch.setattr(kombuaccess, "connection", lacks)
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "BROKER_URL": "redis://127.0.0.1:6379/0"}
    with caplog.at_level(logging.WARNING, logger="django_tasks.events"):
        for _ in range(2):
            events.current().send([events.event("worker-heartbeat", "w@h")])
        assert events.current().expire(limit=10) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "No events are sent: redis:// needs a package that is not installed: pip install 'django-tasks-engine[redis]'"
    ]
    with pytest.raises(ImproperlyConfigured, match=r"django-tasks-engine\[redis\]"):
        events.current().listen()
    with pytest.raises(ImproperlyConfigured, match=r"django-tasks-engine\[redis\]"):
        events.open_channel("redis://127.0.0.1:6379/0")
