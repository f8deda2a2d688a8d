"""A router that reads from a replica, which lags: own rows are read where they are written."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.urls import reverse

from django_tasks import clock, deadletters, result_backends, states
from django_tasks.beat.service import BeatService
from django_tasks.models import DeadLetter, GroupResult, Queue, TaskResult
from django_tasks.models.home import OwnRows
from django_tasks.operations import queues
from django_tasks.result import AsyncResult, revoke_tasks
from django_tasks.result.revocation import revoke_stamped
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.worker.heartbeat import Heartbeat
from django_tasks.worker.maintenance import forget_revocations
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.revocations import RevocationWatch, StampWatch, learn_revocations
from django_tasks.worker.revoked import RevokedTasks

pytestmark = pytest.mark.django_db(transaction=True)

OWN = sorted(apps.get_app_config("django_tasks").get_models(), key=lambda model: model.__name__)


class NoReplica:
    """Nothing that is ours may be read from a replica, however empty or old that is."""

    def db_for_read(self, model: Any, **hints: Any) -> None:
        """Refuse."""
        assert model._meta.app_label not in {"django_tasks", "django_celery_beat"}, f"{model.__name__} is read from a replica"


@pytest.fixture(autouse=True)
def replica(settings: Any) -> None:
    """Send all reads elsewhere."""
    settings.DATABASE_ROUTERS = [NoReplica()]


def revocations() -> object:
    """What was revoked is heard: at the start of a worker, while it runs, and of stamps."""
    revoke_tasks(["a"])
    revoke_stamped({"tenant": "acme"})
    revoked = RevokedTasks()
    learn_revocations(revoked)
    heard = len(RevocationWatch().look()), bool(StampWatch().look()), len(revoked)
    return *heard, forget_revocations(clock.now(), limit=10) > 0


def workers_and_queues() -> object:
    """A worker is seen, and a paused queue."""
    beat = Heartbeat(WorkerOptions(name="w@h", queues=("default",)), host="h", pid=1)
    beat.begin()
    beat.beat(active=0, processed=0, queues=["default"])
    queues.pause(["default"], by="me")
    out = StringIO()
    call_command("tasks", "status", stdout=out)
    (overview,) = queues.overview(["default"])
    return "w@h" in out.getvalue(), overview.paused, overview.workers


def dead_letters() -> object:
    """A dead letter is listed, shown, and replayed by its id."""
    letter = DeadLetter.objects.create(queue="default", task="t", task_id="1", reason="rejected", body=b"[]", headers="{}", properties="{}",
                                       content_type="application/json", content_encoding="utf-8", died_at=clock.now())  # fmt: skip
    out = StringIO()
    call_command("tasks", "dead", "list", stdout=out)
    call_command("tasks", "dead", "show", str(letter.pk), stdout=out)
    return "rejected" in out.getvalue(), deadletters.replay([letter.pk])


def results() -> object:
    """A result, and what the command and the page say of it."""
    result_backends.current().store([ResultMeta(task_id="1", name="t", status=states.SUCCESS, result="5")])
    out = StringIO()
    call_command("tasks", "result", "1", stdout=out)
    return AsyncResult("1").get(timeout=1), "SUCCESS" in out.getvalue(), TaskResult.objects.count(), GroupResult.objects.count()


def beat() -> object:
    """It leads, reads the schedules, and has nothing to send."""
    service = BeatService(max_interval=5)
    service.turn(clock.now())
    service._resign()
    return service.leader.holder != ""


READERS: list[tuple[Callable[[], object], object]] = [
    (revocations, (1, True, 1, True)),
    (workers_and_queues, (True, True, 1)),
    (dead_letters, (True, 1)),
    (results, (5, True, 1, 0)),
    (beat, True),
]


@pytest.mark.parametrize(("read", "found"), READERS, ids=[read.__name__ for read, _ in READERS])
def test_what_reads(read: Callable[[], object], found: object) -> None:
    """Each finds what was written a moment ago."""
    assert read() == found


@pytest.mark.parametrize("model", OWN, ids=lambda model: model.__name__)
def test_every_model(admin_client: Any, model: Any) -> None:
    """Its manager goes to where rows are written, unless it is told where to go, and so does the admin's list."""
    assert isinstance(model.objects, OwnRows)
    assert model._default_manager is model.objects
    assert model.objects.count() == 0
    assert model.objects.using("elsewhere").db == model.objects.db_manager("elsewhere").all().db == "elsewhere"
    if model in {Queue, TaskResult, DeadLetter}:
        assert admin_client.get(reverse(f"admin:django_tasks_{model._meta.model_name}_changelist")).status_code == 200


def test_results_are_where_the_setting_says(settings: Any) -> None:
    """The rows of ``db://ALIAS`` are written there, whatever the router says."""
    settings.DJANGO_TASKS = {"RESULT_BACKEND": "db://elsewhere"}
    assert TaskResult.objects.all().db == "elsewhere"
    settings.DJANGO_TASKS = {"RESULT_BACKEND": "redis://localhost"}
    assert TaskResult.objects.all().db == "default"
