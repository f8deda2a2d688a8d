"""The admin of workers: what their heartbeats say, and deleting the dead."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from django_tasks import clock
from django_tasks.models import Worker

pytestmark = pytest.mark.django_db

LIST = "admin:django_tasks_worker_changelist"
PAGE = "admin:django_tasks_worker_change"
DELETE = "admin:django_tasks_worker_delete"


def heartbeat(name, ago=0, **fields):
    now = clock.now()
    values = {
        "host": "host",
        "pid": 4711,
        "pool": "prefork",
        "concurrency": 4,
        "queues": ["default", "slow"],
        "active": 3,
        "processed": 1234,
        "started_at": now - timedelta(hours=2, minutes=5),
        "heartbeat_at": now - timedelta(seconds=ago),
    }
    return Worker.objects.create(instance=name, name=name, **{**values, **fields})


@pytest.fixture
def three():
    """One that lives, one that went silent, one that said good-bye."""
    return heartbeat("alive@host", 10), heartbeat("stale@host", 16), heartbeat("stopped@host", 3, stopped_at=clock.now())


def test_states_follow_the_heartbeats(admin_client, three):
    """A worker is stale after three heartbeats (5 s each), and stopped when it said so."""
    from django_tasks.operations.workers import liveness

    assert [liveness(worker).value for worker in three] == ["alive", "stale", "stopped"]
    page = admin_client.get(reverse(LIST)).content.decode()
    for text in ("alive@host", "dt-good", "dt-bad", ">default</a>", ">slow</a>", "1234", "2 h 5 min"):
        assert text in page.replace(",234", "234")


def test_the_heartbeat_setting_counts(settings, three):
    """With a longer heartbeat a worker may be silent for longer."""
    from django_tasks.operations.workers import liveness

    settings.DJANGO_TASKS = {"WORKER_HEARTBEAT": 60}
    assert liveness(three[1]).value == "alive"


@pytest.mark.parametrize("state", ["alive", "stale", "stopped"])
def test_the_filter_finds_each_state(admin_client, three, state):
    """The filter leaves exactly the workers of that state."""
    found = admin_client.get(reverse(LIST), {"state": state}).context["cl"].result_list
    assert [worker.name for worker in found] == [f"{state}@host"]


def test_the_page_of_a_worker(admin_client, three):
    """All that is known is on the page, and nothing can be edited."""
    page = admin_client.get(reverse(PAGE, args=[three[0].pk])).content.decode()
    for text in ("4711", "prefork", "alive"):
        assert text in page
    assert "_save" not in page


def test_only_dead_workers_are_deleted(admin_client, three):
    """A living worker's row stays, alone and in a selection; dead ones go."""
    alive, stale, stopped = three
    assert admin_client.post(reverse(DELETE, args=[alive.pk]), {"post": "yes"}).status_code == 403
    values = {"action": "delete_selected", "_selected_action": [one.pk for one in three], "index": 0, "post": "yes"}
    assert "alive@host is alive" in admin_client.post(reverse(LIST), values).content.decode()
    assert Worker.objects.count() == 3
    admin_client.post(reverse(LIST), {**values, "_selected_action": [stale.pk, stopped.pk]})
    assert [worker.name for worker in Worker.objects.all()] == ["alive@host"]


def test_permissions(client, three):
    """Viewing doesn't include deleting."""
    user = User.objects.create_user("staff", password="x", is_staff=True)
    client.force_login(user)
    assert client.get(reverse(LIST)).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_worker"))
    assert client.get(reverse(LIST)).status_code == 200
    assert client.post(reverse(DELETE, args=[three[2].pk]), {"post": "yes"}).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="delete_worker"))
    assert client.post(reverse(DELETE, args=[three[2].pk]), {"post": "yes"}).status_code == 302
    assert not Worker.objects.filter(name="stopped@host").exists()
