"""What all pages of the admin share: actions as every Django gives them."""

from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.urls import reverse

from django_tasks import clock, states
from django_tasks.models import Revocation, TaskResult

pytestmark = pytest.mark.django_db


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
