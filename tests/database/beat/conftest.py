"""Entries in the settings, and a broker to watch."""

import pytest
from django.db import connection

from django_tasks import brokers, conf
from django_tasks.exceptions import OperationalError


@pytest.fixture
def declare(settings):
    """Set BEAT_SCHEDULE."""

    def declared(**entries):
        settings.DJANGO_TASKS = {"BEAT_SCHEDULE": entries}
        conf.settings.reset()

    yield declared
    conf.settings.reset()


@pytest.fixture
def recorder(monkeypatch):
    """A broker that can't join a transaction, and can be out of order."""

    class Recorder:
        joins_transaction = False
        delays = True
        longest_delay = float("inf")
        alias = None

        def __init__(self):
            self.ids, self.broken = [], False

        def publish(self, envelopes):
            if self.broken:
                raise OperationalError("no broker")
            assert not connection.in_atomic_block
            self.ids += [envelope.headers["id"] for envelope in envelopes]

    found = Recorder()
    monkeypatch.setattr(brokers, "current", lambda: found)
    return found
