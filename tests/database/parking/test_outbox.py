"""The outbox: messages that belong to a transaction, for a broker that is not the database; and what operators see of them."""

import time

import pytest
from django.db import connections, transaction
from django.urls import reverse

from django_tasks import clock, parking, signals
from django_tasks.brokers.database import wakeup
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.messages import PARKED
from django_tasks.models import Message
from django_tasks.operations.queues import known_names, message_rows, overview, purge, run_now
from django_tasks.parking import forwarder as forwarding
from django_tasks.testing.broker_probes import envelope
from django_tasks.worker.options import chosen_queues
from tests.database.parking.lot import RecordingBroker, only_sqlite, parked, rolled_back, rows, running, until
from tests.processes import SOON

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


# -- the outbox


def test_the_outbox_is_part_of_the_transaction(outbox, alias, forwarder):
    """A rolled back call was never there; a committed one is sent once; nothing is sent before the commit."""
    with rolled_back(alias):
        parked.delay(1)
    assert not rows(alias).exists()
    with transaction.atomic(using=alias):
        sent = parked.delay(2)
        assert rows(alias).get().task_id == sent.id
        assert not connections[alias].run_on_commit
    assert not outbox.sent
    assert forwarder.turn(5) == 1
    assert forwarder.turn(0) == 0
    assert outbox.ids == [sent.id]


def test_savepoints_of_the_outbox(outbox, alias, forwarder):
    """A block inside the transaction that is rolled back takes its calls with it."""
    with transaction.atomic(using=alias):
        kept = parked.delay(1)
        with rolled_back(alias):
            parked.delay(2)
    forwarder.turn(5)
    assert outbox.ids == [kept.id]


def test_without_a_transaction_nothing_is_parked(outbox, alias):
    """Nor with ``on_commit=False``: the broker gets it at once."""
    parked.delay()
    with transaction.atomic(using=alias):
        parked.apply_async(on_commit=False)
    assert len(outbox.sent) == 2
    assert not rows(alias).exists()


@only_sqlite
def test_a_transaction_on_another_database(outbox, alias, settings):
    """There is no row of it to write: a hook sends after its commit, and never if it rolls back."""
    others = [name for name in connections if name != alias]
    if not others:
        pytest.skip("only one database answers here")
    with transaction.atomic(using=others[0]):
        parked.delay()
        assert not outbox.sent
    assert len(outbox.sent) == 1
    with rolled_back(others[0]):
        parked.delay()
    assert len(outbox.sent) == 1
    assert not rows(alias).exists()


def test_delayed_calls_in_the_outbox_go_to_a_broker_that_delays(outbox, alias, forwarder):
    """The broker gets them after the commit, with their due time, and keeps them itself."""
    with transaction.atomic(using=alias):
        parked.apply_async(countdown=3600)
    assert forwarder.turn(5) == 1
    assert (outbox.sent[0].not_before - clock.now()).total_seconds() > 3500


def test_signals_are_sent_once_when_the_message_is_parked(outbox, alias, forwarder):
    """Headers that a receiver adds travel along; forwarding announces nothing again."""
    seen: list[str] = []

    def before(sender=None, headers=None, **kwargs):
        headers["trace"] = "abc"
        seen.append("before")

    def after(sender=None, **kwargs):
        seen.append("after")

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        with transaction.atomic(using=alias):
            parked.delay()
        forwarder.turn(5)
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert seen == ["before", "after"]
    assert outbox.sent[0].headers["trace"] == "abc"


def test_the_outbox_is_quick(outbox, alias, monkeypatch):
    """A waiting forwarder hears of the commit, and does not only come across the message when it looks once a second."""
    monkeypatch.setattr(wakeup, "LOOK", 60.0)
    monkeypatch.setattr(forwarding, "PATIENCE", 60.0)
    with running(outbox):
        parked.delay()
        delays = []
        for number in range(5):
            with transaction.atomic(using=alias):
                parked.delay(number)
            begin = clock.monotonic()
            wanted = number + 2
            until(lambda wanted=wanted: len(outbox.sent) == wanted, lambda _: time.sleep(0.002))
            delays.append(clock.monotonic() - begin)
    assert sorted(delays)[2] < SOON, delays


# -- what operators see and do


@pytest.fixture
def quiet(broker: RecordingBroker) -> None:
    """Two parked messages, one of them for later."""
    parking.park(
        [envelope("1"), envelope("2", headers={"id": "2", "task": "t", "eta": "2099-01-01T00:00:00+00:00"}, not_before=clock.after(3600))]
    )


@pytest.mark.usefixtures("quiet")
def test_parked_messages_are_a_queue_to_operators(alias):
    """With what is delayed in it, and purged like any other."""
    assert PARKED in known_names()
    (lot, other) = overview([PARKED, "default"])
    assert (lot.size, lot.delayed, other.delayed) == (2, 1, None)
    assert purge([PARKED, "default"]) == {PARKED: 2, "default": 0}
    assert PARKED not in known_names()


@pytest.mark.usefixtures("quiet")
def test_a_parked_call_is_run_now(broker, alias, forwarder):
    """It leaves at once, and comes to the worker without its due time."""
    assert run_now(message_rows().filter(task_id="2")) == 1
    assert forwarder.turn(5) == 2
    assert (broker.sent[1].not_before, broker.sent[1].headers.get("eta")) == (None, None)


@only_sqlite
@pytest.mark.usefixtures("quiet")
def test_the_admin_shows_parked_messages(broker, admin_client):
    """In the list of messages and in that of queues, as being forwarded by nobody where no worker runs."""
    page = admin_client.get(reverse("admin:django_tasks_message_changelist")).content.decode()
    assert page.count(PARKED) >= 2
    assert "is counted under Queues" in page
    row = Message.objects.get(task_id="2")
    assert "2099" in admin_client.get(reverse("admin:django_tasks_message_change", args=[row.pk])).content.decode()
    assert PARKED in admin_client.get(reverse("admin:django_tasks_queue_changelist")).content.decode()


@only_sqlite
def test_the_reserved_queue_is_refused(broker):
    """By callers and by workers."""
    with pytest.raises(ValueError, match="reserved"):
        parked.apply_async(queue=PARKED)
    with pytest.raises(ImproperlyConfigured, match="forwards"):
        chosen_queues([PARKED], [])
