"""What a worker reads before its first fork, so that its processes need not."""

from typing import Any

import pytest
from django.db import DatabaseError

from django_tasks.models import Revocation
from django_tasks.result import revoke_tasks
from django_tasks.worker.revocations import learn_revocations
from django_tasks.worker.revoked import RevokedTasks

pytestmark = pytest.mark.django_db


def test_what_is_revoked_is_read_once(django_assert_num_queries: Any) -> None:
    """A child that was given all that its worker has read asks the database nothing."""
    revoke_tasks(["a", "b"])
    revoked = RevokedTasks()
    learn_revocations(revoked)
    assert len(revoked) == 2
    with django_assert_num_queries(0):
        learn_revocations(revoked)


def test_what_could_not_be_read_is_read_by_each_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away when the worker starts may be there when its children do."""

    def fail(*args: object, **options: object) -> None:
        raise DatabaseError("no such table")

    revoke_tasks(["a"])
    revoked = RevokedTasks()
    with monkeypatch.context() as away:
        away.setattr(Revocation.objects, "order_by", fail)
        learn_revocations(revoked)
    assert len(revoked) == 0
    learn_revocations(revoked)
    assert len(revoked) == 1
