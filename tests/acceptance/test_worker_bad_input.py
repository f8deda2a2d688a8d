"""What people and programs get wrong: it is named, kept, and stops nothing else."""

import json

import pytest

from django_tasks import app, states
from django_tasks.exceptions import ContentDisallowed, DecodeError, TaskRevokedError
from django_tasks.models import DeadLetter, Message
from tests.places import Place, on_databases, on_one_of_each
from tests.processes import StartWorker, state_of, wait_until
from tests.sampleapp import tasks

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]


@on_databases
def test_a_body_that_can_not_be_read_becomes_a_dead_letter(start_worker: StartWorker, place: Place) -> None:
    """Its bytes are kept as they are, its caller learns of it, and the next task runs."""
    broken = tasks.add.delay(1, 2)
    Message.objects.using(place.alias).update(body=b"\x00\xff not JSON")
    start_worker("-c", "1")
    with pytest.raises(DecodeError):
        broken.get(timeout=50)
    dead = DeadLetter.objects.get()
    assert (bytes(dead.body), dead.task_id, dead.reason) == (b"\x00\xff not JSON", broken.id, "unreadable")
    assert tasks.add.delay(1, 1).get(timeout=50) == 2


def test_pickle_is_refused(start_worker: StartWorker, place: Place) -> None:
    """A message of a content type that ACCEPT_CONTENT does not list is never read; the error names the setting."""
    start_worker("-c", "1")
    refused = tasks.add.apply_async((1, 2), serializer="pickle")
    with pytest.raises(ContentDisallowed, match="ACCEPT_CONTENT"):
        refused.get(timeout=50)
    wait_until(DeadLetter.objects.exists, "the dead letter")
    assert DeadLetter.objects.get().content_type == "application/x-python-serialize"


@on_one_of_each
def test_wrong_arguments_of_a_caller_by_name_fail_the_task(start_worker: StartWorker, place: Place) -> None:
    """Who calls by name isn't checked at home; the task then fails with the TypeError of the call."""
    start_worker("-c", "1")
    result = app.send_task("tests.sampleapp.tasks.add", args=[1, 2, 3])
    with pytest.raises(TypeError, match="positional"):
        result.get(timeout=50)


@on_databases
def test_headers_that_are_none_become_a_dead_letter(start_worker: StartWorker, place: Place) -> None:
    """A row that somebody broke by hand doesn't stop the queue."""
    tasks.add.delay(1, 2)
    Message.objects.using(place.alias).update(headers=json.dumps({"lang": "py"}), body=b"[]")
    start_worker("-c", "1")
    assert tasks.add.delay(1, 1).get(timeout=50) == 2
    wait_until(DeadLetter.objects.exists, "the dead letter")


def test_an_expired_task_does_not_run(start_worker: StartWorker, place: Place) -> None:
    """It ends REVOKED, for the reason that it has expired."""
    late = tasks.record.apply_async(("late",), expires=-1)
    start_worker("-c", "1")
    with pytest.raises(TaskRevokedError, match="expired"):
        late.get(timeout=50)


@on_databases
def test_a_dead_letter_runs_once_it_is_replayed(start_worker: StartWorker, place: Place) -> None:
    """What was wrong is put right, the message is replayed, and the task succeeds under its old id."""
    from django_tasks import deadletters

    result = tasks.add.delay(1, 2)
    Message.objects.using(place.alias).update(content_type="application/unheard-of")
    start_worker("-c", "1")
    wait_until(lambda: state_of(result.id) == states.FAILURE, "the task to fail")
    DeadLetter.objects.update(content_type="application/json")
    assert deadletters.replay(DeadLetter.objects.all()) == 1
    wait_until(lambda: state_of(result.id) == states.SUCCESS, "the task to succeed")
    assert not DeadLetter.objects.exists()
