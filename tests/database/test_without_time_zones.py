"""USE_TZ = False, and a database with a TIME_ZONE of its own: every time means the same, and is shown in the project's zone."""

import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client, override_settings
from django.urls import reverse

from django_tasks import brokers, clock, deadletters
from django_tasks.beat import runs
from django_tasks.beat.leader import Leader
from django_tasks.messages import DeadMessage, Envelope
from django_tasks.models import BeatRun, BeatTerm, DeadLetter, Message, Queue, Revocation, TaskResult, Worker
from django_tasks.models.times import as_models_give, aware
from django_tasks.operations.queues import pause, run_now
from django_tasks.operations.workers import alive, uptime
from django_tasks.result.revocation import revoke_tasks
from django_tasks.worker.heartbeat import Heartbeat
from django_tasks.worker.options import WorkerOptions
from tests.sampleapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])

#: Far from UTC, and from the machine's zone.
ZONE = "Pacific/Auckland"
#: What writes each time, and where it is then.
WRITTEN = {
    "a worker": lambda: (entered(), Worker.objects.values_list("started_at", "heartbeat_at")),
    "a message": lambda: (add.apply_async((1, 2), countdown=20), Message.objects.values_list("until", "created_at")),
    "a dead letter": lambda: (buried(), DeadLetter.objects.values_list("died_at")),
    "a revoked task's result": lambda: (revoke_tasks(["id-1"]), TaskResult.objects.values_list("date_created", "date_done")),
    "a revocation": lambda: (revoke_tasks(["id-1"]), Revocation.objects.values_list("revoked_at")),
    "a pause": lambda: (pause(["default"], by="tests"), Queue.objects.values_list("paused_at")),
    "beat's term": lambda: (Leader(2.0).lead(clock.now()), BeatTerm.objects.values_list("elected_at", "expires_at")),
    "a periodic run": lambda: (ran(), BeatRun.objects.values_list("due_at", "sent_at")),
}


@pytest.fixture(params=["without zones", "a zone of the database"], autouse=True)
def _times(request: pytest.FixtureRequest, alias: str, settings: Any) -> Iterator[None]:
    """Both kinds of settings, on each database."""

    class Router:
        """Everything is in this one."""

        def db_for_read(self, model: Any, **hints: Any) -> str:
            return alias

        db_for_write = db_for_read

    settings.DJANGO_TASKS = {"BROKER_URL": f"db://{alias}", "RESULT_BACKEND": f"db://{alias}", "TASK_OUTBOX_DATABASE": alias}
    settings.DATABASE_ROUTERS = [Router()]
    without = request.param == "without zones"
    connection = connections[alias]
    connection.settings_dict["TIME_ZONE"] = None if without else ZONE
    forget_zone(connection)
    with override_settings(USE_TZ=not without, TIME_ZONE=ZONE if without else "UTC"):
        forget_zone(connection)
        yield
    connection.settings_dict["TIME_ZONE"] = None
    forget_zone(connection)


def forget_zone(connection: Any) -> None:
    """Let the connection read its settings again."""
    connection.close()
    for name in ("timezone", "timezone_name"):
        connection.__dict__.pop(name, None)


def entered() -> Heartbeat:
    """A worker that has entered its row."""
    heartbeat = Heartbeat(WorkerOptions(name="w@h", queues=("default",)), host="h", pid=1)
    heartbeat.begin()
    heartbeat.beat(active=1, processed=2, queues=["default"])
    return heartbeat


def buried() -> None:
    """Write a dead letter."""
    envelope = Envelope(body=b"", content_type="application/json", content_encoding="utf-8", headers={}, properties={}, queue="default")
    deadletters.record([DeadMessage(envelope=envelope, reason="unreadable")])


def ran() -> None:
    """Record a run, and read it back by its time, and as the last one."""
    now = clock.now()
    runs.insert([(("nightly", now), "id", "task")], sent_at=now)
    assert runs.recorded([("nightly", now)]) == {("nightly", now)}
    assert runs.last_due(["nightly"]) == {"nightly": now}


def test_every_time_is_read_as_it_was_written(settings: Any) -> None:
    """By hand-written SQL and by models alike; with USE_TZ off a model gives local times without a zone."""
    for name, write in WRITTEN.items():
        _, rows = write()
        found = [moment for row in rows for moment in row]
        assert found, name
        for moment in found:
            assert abs(aware(moment) - clock.now()) < timedelta(minutes=1), name
            assert (moment.tzinfo is None) != settings.USE_TZ, name
            assert moment == as_models_give(aware(moment)), name


def test_operators_see_the_worker_and_move_messages() -> None:
    """It is alive and young in the command and in the admin, and a delayed message that is to run now is due now."""
    entered()
    assert alive().count() == 1
    assert uptime(Worker.objects.get()) < timedelta(minutes=1)
    out = io.StringIO()
    call_command("tasks", "status", stdout=out)
    assert " 0:00:" in out.getvalue()
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    for page in ("changelist", "change"):
        args = [Worker.objects.get().pk] if page == "change" else []
        assert client.get(reverse(f"admin:django_tasks_worker_{page}", args=args)).status_code == 200
    add.apply_async((1, 2), countdown=3600)
    assert brokers.current().promote(clock.now(), limit=10) == 0
    assert run_now(Message.objects.all()) == 1
    assert Message.objects.get().state == 0
