"""What nodes delete while somebody's transaction is open: they must wait for nobody, since they have other things to do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone

from django_tasks import clock
from django_tasks.events.channel import event
from django_tasks.events.database import DatabaseEvents
from django_tasks.models import Event, Revocation, RevokedStamp
from django_tasks.worker.maintenance import forget_revocations

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])

#: Seconds after which a statement gives up waiting for a lock.
_PATIENCE = 1


@contextmanager
def held_open(alias: str, work: Callable[[], object]) -> Iterator[None]:
    """Do this in a transaction that is open as long as the block runs."""
    done, end = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(connections[alias]), transaction.atomic(using=alias):
            work()
            done.set()
            end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert done.wait(20)
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.fixture
def impatient(alias: str) -> Iterator[None]:
    """Let a statement that waits for a lock fail soon."""
    if alias == "default":
        pytest.skip("SQLite has one writer at a time")
    with connections[alias].cursor() as cursor:
        mine = "lock_timeout = '1s'" if alias == "postgres" else f"SESSION innodb_lock_wait_timeout = {_PATIENCE}"
        cursor.execute(f"SET {mine}")
    yield
    connections[alias].close()


def old_event(number: int) -> dict[str, object]:
    return {**event("task-started", "me", uuid=str(number)), "timestamp": clock.timestamp() - 86400}


@pytest.mark.usefixtures("impatient")
def test_old_events_go_beside_a_transaction_that_sends_some(alias: str) -> None:
    """A task that sends events in a transaction of minutes must not keep a node from deleting the old ones; its own go later."""
    channel = DatabaseEvents(alias)
    channel.send([old_event(1)])
    with held_open(alias, lambda: DatabaseEvents(alias).send([old_event(2)])):
        channel.send([old_event(3), event("task-started", "me", uuid="new")])
        assert channel.expire(limit=100) == 2
    assert channel.expire(limit=100) == 1
    assert Event.objects.using(alias).count() == 1


@pytest.mark.usefixtures("impatient")
def test_old_revocations_go_beside_a_transaction_that_revokes(alias: str) -> None:
    """Nor must a revocation that is part of a long transaction."""
    now = timezone.now()

    def revoke(name: str, moment=now) -> None:
        Revocation.objects.using(alias).create(task_id=name, revoked_at=moment)
        RevokedStamp.objects.using(alias).create(name=name, value='"x"', revoked_at=moment)

    revoke("old", now - timedelta(days=9))
    with held_open(alias, lambda: revoke("open")):
        revoke("new")
        forget_revocations(now - timedelta(days=1), limit=100, alias=alias)
        assert set(Revocation.objects.using(alias).values_list("task_id", flat=True)) == {"new"}
    assert set(RevokedStamp.objects.using(alias).values_list("name", flat=True)) == {"new", "open"}
