"""Projects with USE_TZ = False: what the worker and operators write must fit their columns."""

import pytest
from django.test import override_settings

from django_tasks import deadletters
from django_tasks.messages import DeadMessage, Envelope
from django_tasks.models import DeadLetter, Queue, Revocation, Worker
from django_tasks.operations.queues import pause
from django_tasks.result.revocation import revoke_tasks
from django_tasks.result_backends.memory import MemoryResultBackend
from django_tasks.worker.heartbeat import Heartbeat
from django_tasks.worker.options import WorkerOptions

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _without_time_zones():
    with override_settings(USE_TZ=False):
        yield


def test_heartbeats_are_written():
    """A worker enters its row, renews it and closes it."""
    heartbeat = Heartbeat(WorkerOptions(name="w@h", queues=("default",)), host="h", pid=1)
    heartbeat.begin()
    heartbeat.beat(active=1, processed=2, queues=["default"])
    heartbeat.end()
    row = Worker.objects.get()
    assert (row.processed, row.active) == (2, 0)
    assert row.stopped_at >= row.started_at


def test_revocations_pauses_and_dead_letters_are_written():
    """Each is there afterwards."""
    revoke_tasks(["id-1"], backend=MemoryResultBackend())
    pause(["default"], by="tests", reason="none")
    envelope = Envelope(body=b"", content_type="application/json", content_encoding="utf-8", headers={}, properties={}, queue="default")
    deadletters.record([DeadMessage(envelope=envelope, reason="unreadable")])
    assert Revocation.objects.get().task_id == "id-1"
    assert Queue.objects.get().paused_at is not None
    assert DeadLetter.objects.exists()
