"""The parking lot: messages that wait in the database for a broker that can't delay them."""

import pytest
from django.db import connections, transaction

from django_tasks import client, clock, parking
from django_tasks.brokers.database import DatabaseBroker
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.messages import PARKED
from django_tasks.models import MessageState
from django_tasks.testing.broker_probes import envelope
from tests.database.parking.lot import RecordingBroker, only_sqlite, parked, rows, until
from tests.processes import SOON

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


def test_what_is_parked_comes_out_as_it_went_in(broker, alias, forwarder):
    """Queue, exchange, routing key, priority, headers that are null, and properties: all as they were."""
    one = envelope(
        "1",
        queue="mail",
        priority=300,
        exchange="topics",
        routing_key="mail.de",
        headers={"id": "1", "task": "t", "eta": None, "stamps": {"a": [1]}, "text": "ä\ud800"},
        properties={"correlation_id": "another", "reply_to": "r", "delivery_info": {"exchange": "topics"}, "priority": 9, "x": None},
        not_before=clock.now(),
    )
    two = envelope("2", exchange=None, routing_key=None)
    parking.park([one, two])
    assert {row.queue for row in rows(alias).all()} == {PARKED}
    assert parking.waiting() == parking.waiting(alias) == 2
    assert forwarder.turn(5) == 2
    assert broker.sent == [one, two]
    assert parking.waiting() == 0
    assert not rows(alias).exists()


def test_priorities_leave_in_their_order(broker, forwarder):
    """What is more urgent is handed over first, else what was parked first."""
    parking.park([envelope("late", priority=0), envelope("urgent", priority=9), envelope("next", priority=0)])
    forwarder.turn(5)
    assert broker.ids == ["urgent", "late", "next"]


def test_only_what_the_broker_can_not_delay_is_parked(broker, alias, forwarder):
    """A broker that delays fifteen minutes gets what is due by then, and the rest when no more than that is left."""
    broker.delays, broker.longest_delay = True, 900.0
    far = clock.after(901.5)
    client.forward([envelope("now"), envelope("soon", not_before=clock.after(899)), envelope("far", not_before=far)])
    assert broker.ids == ["now", "soon"]
    assert rows(alias).get().state == MessageState.DELAYED
    assert forwarder.turn(0) == 0
    until(lambda: forwarder.turn(1), lambda _: None)
    assert broker.ids == ["now", "soon", "far"]
    assert broker.sent[-1].not_before == far
    assert 900 - SOON < (far - clock.now()).total_seconds() <= 900


def test_delayed_calls_of_a_broker_that_delays_nothing(broker, alias, forwarder):
    """``countdown`` parks the call; it leaves when it is due and not before."""
    begin = clock.monotonic()
    sent = parked.apply_async((1,), countdown=0.5, queue="other", priority=3)
    assert not broker.sent
    until(lambda: broker.sent, lambda _: forwarder.turn(1))
    assert 0.5 <= clock.monotonic() - begin < SOON
    assert (broker.ids, broker.sent[0].queue, broker.sent[0].priority) == ([sent.id], "other", 3)
    assert "shadow" in broker.sent[0].headers


def test_a_due_time_in_the_past_is_no_delay(broker, alias):
    """What was to run a minute ago goes to the broker at once."""
    client.forward([envelope("1", not_before=clock.after(-60))])
    assert broker.ids == ["1"]
    assert not rows(alias).exists()


def test_a_forwarder_puts_back_what_its_broker_can_not_take_yet(broker, alias, forwarder):
    """Rows that were parked for a broker that delays are kept for one that doesn't."""
    broker.delays, broker.longest_delay = True, float("inf")
    due = clock.after(3600)
    parking.park([envelope("1", not_before=due)])
    broker.delays = False
    assert forwarder.turn(5) == 0
    row = rows(alias).get()
    assert (row.state, row.deliveries) == (MessageState.DELAYED, 0)
    assert abs((row.until - due).total_seconds()) < 0.01


def test_a_batch_is_sent_and_parked_as_one(broker, alias):
    """When the broker takes its part of a batch not, the other part is not parked either."""
    broker.down = True
    with pytest.raises(OperationalError, match="down"):
        client.forward([envelope("now"), envelope("later", not_before=clock.after(60))])
    assert not rows(alias).exists()
    with transaction.atomic(using=alias):
        with pytest.raises(OperationalError, match="down"):
            client.forward([envelope("now"), envelope("later", not_before=clock.after(60))])
        broker.down = False
        client.forward([envelope("now"), envelope("later", not_before=clock.after(60))])
    assert broker.ids == ["now"]
    assert rows(alias).get().task_id == "later"


@only_sqlite
def test_without_its_table_a_delayed_call_says_what_is_missing(broker, alias):
    """A project that never migrated is told why its broker needs the database, and that nothing was sent."""
    with connections[alias].cursor() as cursor:
        cursor.execute("ALTER TABLE django_tasks_message RENAME TO elsewhere")
    try:
        with pytest.raises(OperationalError, match=r"does not delay messages.*'default' \(TASK_OUTBOX_DATABASE\).*migrate"):
            parked.apply_async(countdown=60, retry=False)
        parked.delay()
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO django_tasks_message")
    assert len(broker.sent) == 1


@only_sqlite
def test_a_database_that_can_not_be_opened(broker, alias, monkeypatch):
    """The same for a database that doesn't answer at all: BEGIN fails."""
    connections[alias].close()
    monkeypatch.setitem(connections[alias].settings_dict, "NAME", "/nowhere/at/all.sqlite3")
    with pytest.raises(OperationalError, match="TASK_OUTBOX_DATABASE"):
        parked.apply_async(countdown=60, retry=False)
    assert not broker.sent
    connections[alias].close()


@only_sqlite
def test_an_outbox_in_no_database(broker, settings):
    """A name that DATABASES doesn't have is a mistake of the settings, with the nearest name."""
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "TASK_OUTBOX_DATABASE": "defalt"}
    with pytest.raises(ImproperlyConfigured, match=r"did you mean .*default"):
        parking.park([envelope("1")])


@pytest.mark.parametrize(
    ("delay", "outbox_on", "wanted"), [(None, False, True), (900.0, False, True), (float("inf"), False, False), (float("inf"), True, True)]
)
@only_sqlite
def test_who_needs_a_forwarder(alias, settings, delay, outbox_on, wanted):
    """Brokers that can't delay for ever, and any with an outbox, except the database broker."""
    settings.DJANGO_TASKS = {"TASK_PUBLISH_OUTBOX": outbox_on}
    assert parking.needed(RecordingBroker(longest_delay=delay)) is wanted
    assert parking.needed(DatabaseBroker()) is False
