"""What ``app.control.revoke`` takes, and what it refuses."""

import signal
from uuid import UUID

import pytest

from django_tasks import app
from django_tasks.models import Revocation, RevokedStamp, TaskResult

ID = "5b0c1b58-6a70-4f0c-8f6f-0d7b2f6f2a11"

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("ids", [ID, UUID(ID), [ID], (ID,), iter([UUID(ID)]), [ID, ID]])
def test_ids_in_every_form(ids):
    """One or several, as text or as UUIDs."""
    app.control.revoke(ids)
    assert Revocation.objects.get().task_id == ID


@pytest.mark.parametrize(
    ("given", "name"),
    [("SIGTERM", "SIGTERM"), ("KILL", "SIGKILL"), ("sigusr1", "SIGUSR1"), (9, "SIGKILL"), (signal.SIGTERM, "SIGTERM"), (None, "SIGTERM")],
)
def test_signals_in_every_form(given, name):
    """By name, with or without SIG, by number, as the signal module has them."""
    app.control.revoke(ID, terminate=True, signal=given)
    app.control.revoke_by_stamped_headers({"tenant": "acme"}, terminate=True, signal=given)
    assert Revocation.objects.get().signal == RevokedStamp.objects.get().signal == name


@pytest.mark.parametrize("ids", [3, False, [ID, 3], [None, 3]])
def test_what_is_no_id_revokes_nothing(ids):
    """It is named, and neither rows nor states are written, not even for ids beside it."""
    with pytest.raises(TypeError, match=r"is no task id.*Nothing was revoked"):
        app.control.revoke(ids)
    assert not Revocation.objects.exists()
    assert not TaskResult.objects.exists()


@pytest.mark.parametrize(("ids", "revoked"), [(None, []), ("", []), ([], []), ([None, ""], []), ([None, ID], [ID])])
def test_what_was_never_sent_is_passed_over(ids, revoked):
    """As in Celery: a project stops a job that it never started."""
    app.control.revoke(ids)
    app.control.terminate(ids)
    assert list(Revocation.objects.values_list("task_id", flat=True)) == revoked


@pytest.mark.parametrize("given", ["SIGFOO", 99, "15"])
def test_what_is_no_signal_revokes_nothing(given):
    """It is named, by both ways to revoke."""
    with pytest.raises(ValueError, match=r"is no signal.*Nothing was revoked"):
        app.control.revoke(ID, signal=given)
    with pytest.raises(ValueError, match=r"is no signal.*Nothing was revoked"):
        app.control.revoke_by_stamped_headers(["tenant=acme"], signal=given)
    assert not Revocation.objects.exists()
    assert not RevokedStamp.objects.exists()
