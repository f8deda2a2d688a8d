"""What all pages of the admin share: actions as every Django gives them."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.urls import reverse

from django_tasks import app, clock, result_backends, states
from django_tasks.models import DeadLetter, Message, Rerun, Revocation, TaskResult, Worker
from django_tasks.models.times import as_models_give
from django_tasks.operations import queues
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.worker.maintenance import forget_operations

pytestmark = pytest.mark.django_db

LIST = "admin:django_tasks_taskresult_changelist"
PAGE = "admin:django_tasks_taskresult_change"


def make(task_id="one", **fields):
    values = {"task_name": "shop.tasks.add", "task_args": "[2, 3]", "task_kwargs": "{}", "status": states.STARTED, **fields}
    return TaskResult.objects.create(task_id=task_id, date_created=clock.now(), **values)


def test_actions_as_django_6_1_has_them(admin_client, monkeypatch):
    """Actions may be objects, and ``response_action`` may get the place where one was chosen: lists and buttons work with both."""
    row = make()
    actions, seen = admin.ModelAdmin.get_actions, []
    monkeypatch.setattr(admin.ModelAdmin, "response_action", lambda self, request, rows, action_location: seen.append(action_location))
    page = admin.site._registry[TaskResult]
    page.response_action(SimpleNamespace(POST={}), TaskResult.objects.all(), action_location="CHANGE_LIST")
    assert seen == ["CHANGE_LIST"]

    def objects(self, request, action_location=None):
        found = actions(self, request)
        return {name: one if hasattr(one, "func") else SimpleNamespace(func=one[0], description=one[2]) for name, one in found.items()}

    monkeypatch.setattr(admin.ModelAdmin, "get_actions", objects)
    address = reverse("admin:django_tasks_taskresult_do", args=[row.pk, "revoke"])
    assert address in admin_client.get(reverse("admin:django_tasks_taskresult_change", args=[row.pk])).content.decode()
    assert admin_client.post(address).status_code == 302
    assert Revocation.objects.get().task_id == "one"


def test_a_paused_queue_is_marked_wherever_it_appears(admin_client):
    """With who paused it and why; its page names the living workers that would take from it. Names are links."""
    now = clock.now()
    node = {"host": "host", "pid": 1, "pool": "prefork", "concurrency": 2, "started_at": now, "heartbeat_at": now}
    worker = Worker.objects.create(instance="i", name="w1@host", queues=["slow", "mail"], **node)
    sent = app.send_task("shop.tasks.add", queue="slow")
    message = Message.objects.get(task_id=sent.id)
    letter = DeadLetter.objects.create(task="x", task_id="d", queue="slow", worker="w1@host", reason="r", body=b"", died_at=now)
    queues.pause(["slow"], by="eve", reason="the printer burns")
    for model, row in (("message", message), ("worker", worker), ("deadletter", letter)):
        for address in (reverse(f"admin:django_tasks_{model}_changelist"), reverse(f"admin:django_tasks_{model}_change", args=[row.pk])):
            page = admin_client.get(address).content.decode()
            assert page.count("by eve: the printer burns") == 1, address
            assert f'href="{queue_page("slow")}"' in page
    page = admin_client.get(queue_page("slow")).content.decode()
    assert "the printer burns" in page
    assert "would take from it, were it not paused" in page
    worker_page = reverse("admin:django_tasks_worker_change", args=[quote("name:w1@host")])
    assert f'href="{worker_page}"' in page
    assert admin_client.get(worker_page).status_code == 200


def test_results_elsewhere_are_named_and_found_by_id(admin_client, settings):
    """With results that are no rows, the list says where they are and for how long, and a search for an id leads to its page."""
    settings.DJANGO_TASKS = {"RESULT_BACKEND": "cache://default", "RESULT_EXPIRES": 3600, "RESULT_FAILURE_EXPIRES": 7 * 86400}
    failure = ResultMeta(
        task_id="far-away", status=states.FAILURE, result='{"exc_type":"OSError"}', name="shop.tasks.add", worker="w1@host"
    )
    result_backends.current().store([failure])
    page = admin_client.get(reverse(LIST)).content.decode()
    for text in ("Results are in cache://default", "Kept for 1 h 0 min; failures for 7 days."):
        assert text in page
    found = admin_client.get(reverse(LIST), {"q": "far-away"}, follow=True)
    assert found.redirect_chain[-1][0] == reverse(PAGE, args=["far-away"])
    assert "OSError" in found.content.decode()
    assert "deletelink" not in found.content.decode()
    assert admin_client.post(reverse("admin:django_tasks_taskresult_do", args=["far-away", "revoke"])).status_code == 404


def test_how_long_things_are_kept(admin_client, settings):
    """Failures outlive other results, dead letters go when they are told to, and notes of reruns go with the failures."""
    settings.DJANGO_TASKS = {"DEAD_LETTER_EXPIRES": 3600, "RESULT_FAILURE_EXPIRES": 10 * 86400}
    now = clock.now()
    for task_id, status, days in (("new", states.FAILURE, 9), ("old", states.FAILURE, 11), ("done", states.SUCCESS, 2)):
        make(task_id, status=status, date_done=now - timedelta(days=days))
        Rerun.objects.create(task_id=task_id, new_id="x", run_at=now - timedelta(days=days))
    for hours in (0, 2):
        DeadLetter.objects.create(task="x", task_id=str(hours), queue="q", reason="r", body=b"", died_at=now - timedelta(hours=hours))
    result_backends.current().expire(now - timedelta(days=1), limit=100)
    assert forget_operations(limit=100) == 2
    assert [row.task_id for row in TaskResult.objects.all()] == ["new"]
    assert [letter.task_id for letter in DeadLetter.objects.all()] == ["0"]
    assert set(Rerun.objects.values_list("task_id", flat=True)) == {"new", "done"}
    assert "Kept for 1 h 0 min" in admin_client.get(reverse("admin:django_tasks_deadletter_changelist")).content.decode()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
def test_they_are_kept_as_long_without_time_zones(settings, zone):
    """With USE_TZ off, too, times are compared as they lie in the database, wherever the project is."""
    settings.DJANGO_TASKS = {"DEAD_LETTER_EXPIRES": 3600, "RESULT_EXPIRES": 3600, "RESULT_FAILURE_EXPIRES": 3600}
    settings.USE_TZ, settings.TIME_ZONE = False, zone
    for hours in (0, 2):
        ago = as_models_give(clock.after(-3600 * hours))
        Rerun.objects.create(task_id=str(hours), new_id="x", run_at=ago)
        DeadLetter.objects.create(task="x", task_id=str(hours), queue="q", reason="r", body=b"", died_at=ago)
    assert forget_operations(limit=100) == 2
    assert [row.task_id for model in (Rerun, DeadLetter) for row in model.objects.all()] == ["0", "0"]


def queue_page(name):
    return reverse("admin:django_tasks_queue_change", args=[quote(f"name:{name}")])
