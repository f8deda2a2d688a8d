"""Events as rows: what transactions mean for them, and how long they stay."""

import threading
from contextlib import closing
from functools import partial

import pytest
from django.db import connections, transaction

from django_tasks import brokers, clock, events, result_backends
from django_tasks.events.channel import event
from django_tasks.events.database import DatabaseEvents
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.models import Event
from django_tasks.testing.event_contract import heard, task_event
from django_tasks.worker.maintenance import Maintenance

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


def ids(found):
    return [one["uuid"] for one in found]


def test_events_of_a_transaction_are_heard_when_it_commits(alias):
    """Until then nobody else sees the rows, and what comes after it is heard as well."""
    channel = DatabaseEvents(alias)
    with channel.listen() as receiver:
        with transaction.atomic(using=alias):
            channel.send([task_event("started", 1), task_event("started", 2)])
        channel.send([task_event("started", 3)])
        assert ids(heard(receiver, 3)) == ["id-1", "id-2", "id-3"]


def test_events_of_a_rolled_back_transaction_are_never_heard(alias):
    """They were rows of it."""
    channel = DatabaseEvents(alias)
    with channel.listen() as receiver:
        with transaction.atomic(using=alias):
            channel.send([task_event("started", 1)])
            transaction.set_rollback(True, using=alias)
        channel.send([task_event("started", 2)])
        assert ids(heard(receiver, 1)) == ["id-2"]
        assert receiver.receive(0.1) == []


def test_an_event_that_cannot_be_inserted_spoils_no_transaction(alias):
    """The caller's transaction goes on and commits, without any event of that batch."""
    channel = DatabaseEvents(alias)
    with transaction.atomic(using=alias):
        Event.objects.using(alias).create(type="mine", hostname="h", timestamp=0, fields="{}")
        with pytest.raises(OperationalError, match="Sending 2 event"):
            channel.send([task_event("started", 1), {**task_event("started", 2), "hostname": None}])
        Event.objects.using(alias).create(type="mine", hostname="h", timestamp=1, fields="{}")
    assert list(Event.objects.using(alias).values_list("type", flat=True)) == ["mine", "mine"]


def test_a_spoilt_transaction_takes_events_with_it(alias):
    """Sending in it is no error of its own: what it does is rolled back in any case."""
    channel = DatabaseEvents(alias)
    with transaction.atomic(using=alias):
        transaction.set_rollback(True, using=alias)
        channel.send([task_event("started", 1)])
    assert not Event.objects.using(alias).exists()


def test_a_row_that_is_committed_late_is_not_missed(alias):
    """A transaction that ends behind others with larger ids: its events are heard then."""
    if alias == "default":
        pytest.skip("SQLite has one writer at a time")
    channel = DatabaseEvents(alias)
    inserted, end = threading.Event(), threading.Event()

    def late():
        with closing(connections[alias]), transaction.atomic(using=alias):
            channel.send([task_event("started", 1), task_event("started", 2)])
            inserted.set()
            assert end.wait(20)

    with channel.listen() as receiver:
        thread = threading.Thread(target=late)
        thread.start()
        assert inserted.wait(20)
        channel.send([task_event("started", 3)])
        assert ids(heard(receiver, 1)) == ["id-3"]
        channel.send([task_event("started", 4)])
        assert ids(heard(receiver, 1)) == ["id-4"]
        end.set()
        thread.join()
        assert ids(heard(receiver, 2)) == ["id-1", "id-2"]
        channel.send([task_event("started", 5)])
        assert ids(heard(receiver, 1)) == ["id-5"]


def test_missing_ids_are_not_looked_for_for_ever(alias, settings):
    """After the time for which rows are kept, they were a rolled-back transaction's."""
    settings.DJANGO_TASKS = {"EVENT_QUEUE_EXPIRES": 0.2}
    channel = DatabaseEvents(alias)
    rows = Event.objects.using(alias)
    channel.send([task_event("started", 0)])
    with channel.listen() as receiver:
        last = rows.latest("id").id
        rows.create(id=last + 10, type="late", hostname="h", timestamp=0, fields="{}")
        assert [one["type"] for one in heard(receiver, 1)] == ["late"]
        rows.create(id=last + 5, type="in-time", hostname="h", timestamp=0, fields="{}")
        assert [one["type"] for one in heard(receiver, 1)] == ["in-time"]
        assert receiver.receive(0.5) == []
        rows.create(id=last + 7, type="too-late", hostname="h", timestamp=0, fields="{}")
        assert receiver.receive(0.1) == []


def test_what_no_json_reads_is_left_out(alias, caplog):
    """A row that somebody else wrote stops nobody."""
    channel = DatabaseEvents(alias)
    with channel.listen() as receiver:
        Event.objects.using(alias).create(type="odd", hostname="h", timestamp=0, fields="{")
        channel.send([task_event("started", 1)])
        assert ids(heard(receiver, 1)) == ["id-1"]
    assert "odd" in caplog.text


def test_old_events_are_deleted(alias, settings):
    """Those older than EVENT_QUEUE_EXPIRES go, a limited number at a time; so do those of a clock that is far ahead."""
    settings.DJANGO_TASKS = {"EVENT_QUEUE_EXPIRES": 60}
    channel, now = DatabaseEvents(alias), clock.timestamp()
    ages = [100, 90, 0, 70, -1000, 10]
    channel.send([event("task-started", "w1@host", uuid=str(age), timestamp=now - age) for age in ages])
    assert channel.expire(limit=2) == 2
    assert channel.expire(limit=100) == 2
    assert channel.expire(limit=100) == 0
    assert sorted(round(now - row.timestamp) for row in Event.objects.using(alias).all()) == [0, 10]


def test_expiring_without_events(alias):
    """An empty table is no error."""
    assert DatabaseEvents(alias).expire(limit=10) == 0


def test_a_node_deletes_old_events(settings):
    """As part of its maintenance, whatever the receivers do."""
    settings.DJANGO_TASKS = {"BROKER_URL": "db://default", "EVENT_QUEUE_EXPIRES": 60}
    events.current().send([task_event("started", 1, timestamp=clock.timestamp() - 61), task_event("started", 2)])
    Maintenance(brokers.current(), result_backends.current(), lambda chords: None).turn()
    assert Event.objects.count() == 1


def test_an_unknown_alias_is_named():
    """With the nearest one that there is."""
    with pytest.raises(ImproperlyConfigured, match="did you mean db://default"):
        events.open_channel("db://defualt")


def test_a_batch_is_one_statement(alias, django_assert_num_queries):
    """Outside a transaction, whatever its size up to some hundreds."""
    channel = DatabaseEvents(alias)
    send = partial(channel.send, [task_event("started", number) for number in range(300)])
    with django_assert_num_queries(1, using=alias):
        send()
    assert Event.objects.using(alias).count() == 300
