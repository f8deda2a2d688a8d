"""Events and transactions: what was rolled back was never said."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from django_tasks import events, shared_task
from django_tasks.events.buffer import EventBuffer, install, uninstall
from django_tasks.events.channel import EventReceiver

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


@shared_task(name="tests.events.add")
def add(one, other):
    """Add them."""
    return one + other


@pytest.fixture(params=["database", "outbox"])
def heard(request: pytest.FixtureRequest, alias: str, settings: Any) -> Iterator[EventReceiver]:
    """What a monitor hears; messages are rows of ``alias``, or go through an outbox there."""
    if request.param == "database":
        settings.DJANGO_TASKS = {"BROKER_URL": f"db://{alias}", "TASK_SEND_SENT_EVENT": True}
    else:
        settings.DJANGO_TASKS = {
            "BROKER_URL": f"memory://{uuid4().hex}",
            "TASK_PUBLISH_OUTBOX": True,
            "TASK_OUTBOX_DATABASE": alias,
            "TASK_SEND_SENT_EVENT": True,
        }
    with events.current().listen() as receiver:
        yield receiver


def types(receiver: EventReceiver) -> list[str]:
    """Types of what was heard."""
    return [event["type"] for event in receiver.receive(0)]


def test_what_is_sent_in_a_transaction_is_told_when_it_commits(heard: EventReceiver, alias: str) -> None:
    """Not before: the message has not left until then."""
    with transaction.atomic(using=alias):
        add.delay(1, 2)
    assert types(heard) == ["task-sent"]


def test_what_is_rolled_back_is_not_told(heard: EventReceiver, alias: str) -> None:
    """The message has never left."""
    with transaction.atomic(using=alias):
        add.delay(1, 2)
        transaction.set_rollback(True, using=alias)
    assert types(heard) == []


def test_a_worker_tells_it_after_the_commit_too(heard: EventReceiver, alias: str) -> None:
    """Its buffer, which another thread empties, is given nothing before."""
    given: list[events.Event] = []

    class Buffer(EventBuffer):
        def add(self, said: Any) -> None:
            given.extend(said)

    buffer = Buffer(events.current)
    install(buffer)
    try:
        with transaction.atomic(using=alias):
            add.delay(1, 2)
            assert given == []
    finally:
        uninstall(buffer)
    assert [event["type"] for event in given] == ["task-sent"]


def test_a_tasks_own_event_in_a_transaction_leaves_the_workers_behind(heard: EventReceiver, alias: str) -> None:
    """What waits in the worker's buffer must not be rolled back with the task's transaction."""

    class Buffer(EventBuffer):
        def send_now(self, said: Any) -> None:
            raise AssertionError("the buffer was emptied inside of a transaction")

    buffer = Buffer(events.current)
    install(buffer)
    try:
        with transaction.atomic(using=alias):
            add.send_event("task-mine")
    finally:
        uninstall(buffer)
    assert types(heard) == ["task-mine"]
