"""Model instances as arguments: refused by default, and by a setting passed as references."""

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_tasks import shared_task
from django_tasks.exceptions import EncodeError
from django_tasks.modelreferences import ModelReference
from django_tasks.serializers import dumps_json, loads_json

MEMORY = {"BROKER_URL": "memory://references", "RESULT_BACKEND": "memory://references"}
ON = override_settings(DJANGO_TASKS={**MEMORY, "TASK_MODEL_REFERENCES": True})

seen = []


@shared_task(name="references.rename")
def rename(user, others, *, options):
    seen.append((user, others, options))
    return user.username


@shared_task(name="references.arename")
async def arename(user):
    return user.username


@pytest.fixture
def user(db):
    seen.clear()
    return User.objects.create(username="ada")


def test_refused_by_default(user):
    """A model instance is no argument; the error says what to do instead."""
    with override_settings(DJANGO_TASKS=MEMORY), pytest.raises(EncodeError, match=r"primary key .* or set TASK_MODEL_REFERENCES"):
        rename.delay(user, [], options={})


@ON
def test_a_reference_travels(user):
    """The wire form names the row, and nothing of what is in it."""
    assert dumps_json([user]) == f'[{{"__type__":"django.model","__value__":{{"model":"auth.user","pk":{user.pk},"using":"default"}}}}]'
    assert loads_json(dumps_json([user])) == [ModelReference("auth.user", user.pk)]


@ON
@pytest.mark.parametrize("task", ["sync", "async"])
@pytest.mark.django_db(transaction=True)
def test_the_task_gets_the_row_as_it_is_when_it_runs(task):
    """What has changed since the call is seen by the task."""
    user = User.objects.create(username="ada")
    with override_settings(DJANGO_TASKS={**MEMORY, "TASK_MODEL_REFERENCES": True, "TASK_ALWAYS_EAGER": True}):
        User.objects.filter(pk=user.pk).update(username="grace")
        result = rename.delay(user, [user, {"deep": user}], options={"u": user}) if task == "sync" else arename.delay(user)
        assert result.get() == "grace"
    if task == "sync":
        ((got, others, options),) = seen[-1:]
        assert [got, others[0], others[1]["deep"], options["u"]] == [user] * 4
        assert isinstance(got, User)


@ON
def test_a_row_that_is_gone_is_the_tasks_failure(user):
    """A reference to nothing fails with the model's own error."""
    with override_settings(DJANGO_TASKS={**MEMORY, "TASK_MODEL_REFERENCES": True, "TASK_ALWAYS_EAGER": True}):
        pk = user.pk
        user.delete()
        user.pk, user._state.adding = pk, False
        result = rename.delay(user, [], options={})
        assert result.state == "FAILURE"
        assert isinstance(result.result, User.DoesNotExist)


@ON
def test_an_unsaved_instance_is_refused(db):
    """No worker could load it."""
    with pytest.raises(EncodeError, match="has not been saved"):
        rename.delay(User(username="nobody"), [], options={})
