"""Rows of revoked stamps: how they are written, how workers and tests hear of them, how they go."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from django_tasks import AsyncResult, GroupResult, app, clock, result_backends, shared_task, states
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.exceptions import EncodeError
from django_tasks.messages import TaskMessage
from django_tasks.models import RevokedStamp
from django_tasks.testing import run_pending
from django_tasks.worker.maintenance import Maintenance
from django_tasks.worker.revocations import StampWatch, learn_revocations
from django_tasks.worker.revoked import RevokedTasks

pytestmark = pytest.mark.django_db

LIST = "admin:django_tasks_revokedstamp_changelist"
ADD = "admin:django_tasks_revokedstamp_add"
PAGE = "admin:django_tasks_revokedstamp_change"
DELETE = "admin:django_tasks_revokedstamp_delete"

UID = UUID("12345678123456781234567812345678")


@shared_task(name="tests.stamps.echo")
def echo(value: str) -> str:
    """Return it."""
    return value


@shared_task(name="tests.stamps.revoke")
def revoke(tenant: str) -> None:
    """Revoke a tenant's tasks."""
    app.control.revoke_by_stamped_headers({"tenant": tenant})


def rows() -> list[tuple[Any, ...]]:
    return sorted(RevokedStamp.objects.values_list("name", "value", "terminate", "signal"))


@pytest.mark.parametrize(
    ("headers", "written"),
    [
        ({"tenant": "acme", "order": [17, "18"]}, {("tenant", '"acme"'), ("order", "17"), ("order", '"18"')}),
        ({"tenant": ("a", "a", "b")}, {("tenant", '"a"'), ("tenant", '"b"')}),
        ({"tenant": {"a"}}, {("tenant", '"a"')}),
        (["tenant=acme", "tenant=b=c", "order="], {("tenant", '"acme"'), ("tenant", '"b=c"'), ("order", '""')}),
        ("tenant=acme", {("tenant", '"acme"')}),
        ({}, set()),
        ({"tenant": []}, set()),
    ],
)
def test_a_row_for_each_value(headers: Any, written: set[tuple[str, str]]) -> None:
    """Names with one value or several, or texts as Celery's command line has them."""
    app.control.revoke_by_stamped_headers(headers)
    assert set(rows()) == {(*stamp, False, "SIGTERM") for stamp in written}
    assert len(rows()) == len(written)


@pytest.mark.parametrize(
    ("headers", "error"),
    [(["tenant"], ValueError), (["=x"], ValueError), ({"a": 1, "b": None}, ValueError), ({"a": object()}, EncodeError)],
)
def test_what_is_no_stamp_revokes_nothing(headers: Any, error: type[Exception]) -> None:
    """The error comes before anything is written."""
    with pytest.raises(error):
        app.control.revoke_by_stamped_headers(headers)
    assert rows() == []


def test_a_stamp_that_is_revoked_again_has_one_row_with_what_was_said_last() -> None:
    """Its number is new, so that workers notice; other values, and texts that differ in case, are other stamps."""
    app.control.revoke_by_stamped_headers({"tenant": ["acme", "Acme", "other"]})
    before = set(RevokedStamp.objects.values_list("id", flat=True))
    app.control.revoke_by_stamped_headers({"tenant": "acme"}, terminate=True, signal="SIGKILL")
    assert rows() == [
        ("tenant", '"Acme"', False, "SIGTERM"),
        ("tenant", '"acme"', True, "SIGKILL"),
        ("tenant", '"other"', False, "SIGTERM"),
    ]
    assert RevokedStamp.objects.get(terminate=True).pk not in before


def test_one_worker_can_not_be_told_alone() -> None:
    """It says so, and revokes nothing."""
    with pytest.raises(NotImplementedError, match="Nothing was revoked"):
        app.control.revoke_by_stamped_headers({"tenant": "acme"}, destination=["w@h"])
    assert rows() == []


@pytest.mark.django_db(transaction=True)
def test_results_revoke_by_stamps_too() -> None:
    """A task's and a group's result do what app.control does; ``wait`` ends when the task is ready, or the time is up."""
    AsyncResult("a").revoke_by_stamped_headers({"a": 1}, terminate=True)
    group = GroupResult("g", [AsyncResult("a"), AsyncResult("b")])
    group.revoke_by_stamped_headers(["b=2"], signal="SIGKILL", wait=True, timeout=0.01)
    assert rows() == [("a", "1", True, "SIGTERM"), ("b", '"2"', False, "SIGKILL")]


def test_a_process_learns_what_was_revoked_before_it_started() -> None:
    """Values come back as what they were, a UUID for one."""
    app.control.revoke_by_stamped_headers({"run": [UID, 5]})
    revoked = RevokedTasks()
    learn_revocations(revoked)
    assert [
        revoked.forbids(TaskMessage(id="i", task="t", stamped_headers=["run"], stamps={"run": value})) for value in (UID, 5, "5", [7, 5])
    ] == [True, True, False, True]


class TestTheNode:
    """It tells its processes all stamps whenever that is something new."""

    def test_nothing_new_is_nothing_to_tell(self) -> None:
        """Neither without rows nor with those that are known."""
        watch = StampWatch()
        assert watch.look() is None
        app.control.revoke_by_stamped_headers({"tenant": "acme"})
        assert watch.look() is not None
        assert watch.look() is None

    def test_what_runs_is_stopped_once(self) -> None:
        """The stamps to stop for are those that are new, and were revoked with terminate."""
        watch = StampWatch()
        app.control.revoke_by_stamped_headers({"a": 1}, terminate=True)
        app.control.revoke_by_stamped_headers({"b": 2})
        command = watch.look()
        assert command is not None
        assert (command["do"], sorted(command["stamps"]), command["stop"]) == ("revoked_stamps", [("a", "1"), ("b", "2")], [("a", "1")])
        app.control.revoke_by_stamped_headers({"b": 2}, terminate=True)
        command = watch.look()
        assert command is not None
        assert (sorted(command["stamps"]), command["stop"]) == ([("a", "1"), ("b", "2")], [("b", "2")])

    def test_a_row_with_a_smaller_number_may_come_later(self) -> None:
        """As when a transaction that began first ends last."""
        watch = StampWatch()
        app.control.revoke_by_stamped_headers({"late": 1}, terminate=True)
        late = RevokedStamp.objects.get()
        RevokedStamp.objects.filter(pk=late.pk).delete()
        app.control.revoke_by_stamped_headers({"early": 1})
        assert RevokedStamp.objects.get().pk > late.pk
        watch.look()
        late.save(force_insert=True)
        command = watch.look()
        assert command is not None
        assert command["stop"] == [("late", "1")]

    def test_what_is_deleted_counts_no_more(self) -> None:
        """One row or the last one: the processes get the stamps that are left."""
        watch = StampWatch()
        app.control.revoke_by_stamped_headers({"a": 1, "b": 2})
        watch.look()
        RevokedStamp.objects.filter(name="b").delete()
        assert watch.look() == {"do": "revoked_stamps", "stamps": [("a", "1")], "stop": []}
        RevokedStamp.objects.all().delete()
        assert watch.look() == {"do": "revoked_stamps", "stamps": [], "stop": []}


def test_they_are_forgotten_in_time(settings: Any) -> None:
    """As long as results are kept, they are kept as well."""
    settings.DJANGO_TASKS = {"RESULT_EXPIRES": 3 * 86400}
    app.control.revoke_by_stamped_headers({"old": 1, "young": 1})
    RevokedStamp.objects.filter(name="old").update(revoked_at=clock.after(-3.1 * 86400))
    RevokedStamp.objects.filter(name="young").update(revoked_at=clock.after(-2.9 * 86400))
    Maintenance(MemoryBroker(), result_backends.current(), lambda chords: None).turn()
    assert [row[0] for row in rows()] == ["young"]


def test_run_pending_heeds_them() -> None:
    """A test sees what a worker would do: the stamped call is revoked, the other runs."""
    refused, allowed = echo.s("a").stamp(tenant="acme").apply_async(), echo.s("b").stamp(tenant="other").apply_async()
    app.control.revoke_by_stamped_headers({"tenant": "acme"})
    run_pending()
    assert (refused.state, allowed.state) == (states.REVOKED, states.SUCCESS)


def test_run_pending_heeds_what_its_tasks_revoke() -> None:
    """A task revokes the stamp of one that comes after it."""
    first, revoking, last = (
        echo.s("a").stamp(tenant="acme").apply_async(),
        revoke.delay("acme"),
        echo.s("b").stamp(tenant="acme").apply_async(),
    )
    run_pending()
    assert (first.state, revoking.state, last.state) == (states.SUCCESS, states.SUCCESS, states.REVOKED)


class TestTheAdmin:
    """Rows are looked at, added and deleted; nothing else."""

    @pytest.mark.parametrize(("typed", "stored"), [("acme", '"acme"'), ("17", "17"), ('"17"', '"17"'), ("a b", '"a b"'), ("{", '"{"')])
    def test_adding_revokes(self, admin_client: Client, admin_user: User, typed: str, stored: str) -> None:
        """What is JSON is read as such, everything else is a text; who did it is written down."""
        app.control.revoke_by_stamped_headers({"tenant": ["acme"]})
        answer = admin_client.post(reverse(ADD), {"name": "tenant", "value": typed, "terminate": "on"})
        assert answer.status_code == 302, answer.content.decode()
        row = RevokedStamp.objects.get(terminate=True)
        assert (row.name, row.value, row.revoked_by) == ("tenant", stored, admin_user.username)
        assert abs(row.revoked_at - clock.now()) < timedelta(minutes=1)
        assert RevokedStamp.objects.filter(value=stored).count() == 1

    def test_looking_and_deleting(self, admin_client: Client) -> None:
        """The list and the page show the value; a row can't be changed, and can be deleted."""
        app.control.revoke_by_stamped_headers({"tenant": "acme"})
        (row,) = RevokedStamp.objects.all()
        for address in (reverse(LIST), reverse(PAGE, args=[row.pk])):
            assert "&quot;acme&quot;" in admin_client.get(address).content.decode()
        assert admin_client.post(reverse(PAGE, args=[row.pk]), {"name": "x", "value": "y"}).status_code == 403
        assert admin_client.post(reverse(DELETE, args=[row.pk]), {"post": "yes"}).status_code == 302
        assert rows() == []

    def test_adding_asks_for_a_permission(self, client: Client) -> None:
        """Who may only look can't revoke."""
        user = User.objects.create_user("looker", password="x", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_revokedstamp"))
        client.force_login(user)
        assert client.get(reverse(LIST)).status_code == 200
        assert client.post(reverse(ADD), {"name": "tenant", "value": "acme"}).status_code == 403
        assert rows() == []
