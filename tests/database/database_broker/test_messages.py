"""The rows of messages: written all or none, read whatever is in them."""

import pytest
from django.db import transaction

from django_tasks import clock
from django_tasks.brokers.database import DatabaseBroker
from django_tasks.exceptions import EncodeError, ImproperlyConfigured, OperationalError
from django_tasks.models import Message, MessageState
from django_tasks.testing.broker_probes import envelope, names
from tests.database.database_broker.sessions import in_thread, servers

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


# -- publishing


def test_the_row_of_a_message(broker, alias):
    """A row holds what people look for in columns of its own, and only the headers that say something."""
    broker.publish([envelope("1", priority=-100), envelope("2", queue="q", priority=255, not_before=clock.after(60))])
    now, later = Message.objects.using(alias).order_by("id")
    assert (now.state, now.until, now.priority, now.deliveries, now.claimed_by) == (MessageState.READY, None, -100, 0, None)
    assert (now.task_id, now.task, bytes(now.body)) == ("1", "contract.task", b"1")
    assert now.headers == '{"id":"1","task":"contract.task","retries":0}'
    assert (later.state, later.queue, later.priority) == (MessageState.DELAYED, "q", 255)
    assert abs((later.until - clock.after(60)).total_seconds()) < 5
    assert abs((now.created_at - clock.now()).total_seconds()) < 5


@pytest.mark.parametrize("count", [1, 5, 700])
def test_all_or_none(broker, alias, count):
    """A batch of any size is published whole, in the caller's transaction or in one of its own, or not at all."""
    good = [envelope(str(number)) for number in range(count)]
    with pytest.raises(OperationalError, match="priority 256"):
        broker.publish([*good, envelope("bad", priority=256)])
    assert Message.objects.using(alias).count() == 0
    with transaction.atomic(using=alias):
        broker.publish(good)
        assert in_another_thread(alias) == 0
    assert in_another_thread(alias) == count


def in_another_thread(alias: str) -> int:
    """Count the messages that other connections see."""
    seen: list[int] = []
    in_thread(lambda: seen.append(Message.objects.using(alias).count())).join()
    return seen[0]


@servers
def test_a_refused_batch_leaves_nothing(broker, alias):
    """What the database itself refuses in the middle of a batch takes the whole batch with it."""
    with pytest.raises(OperationalError, match="Publishing 701 message"):
        broker.publish([*(envelope(str(number)) for number in range(700)), envelope("bad", queue="x" * 256)])
    assert Message.objects.using(alias).count() == 0


def test_headers_keep_what_json_has_no_word_for(broker, consumer):
    """Times and other values that our JSON knows survive as headers; what it doesn't know is refused at the caller."""
    moment = clock.now()
    broker.publish([envelope(headers={"id": "1", "task": "t", "at": moment}), envelope("2")])
    received = consumer.receive(2, 5)
    assert received[0].envelope.headers["at"] == moment
    assert names(received) == ["1", "2"]
    with pytest.raises(EncodeError):
        broker.publish([envelope(headers={"id": "1", "task": "t", "odd": object()})])


def test_a_broken_row_is_delivered(broker, alias, consumer):
    """A row whose headers somebody destroyed comes out, without headers, and holds up nobody else's."""
    broker.publish([envelope("1"), envelope("2"), envelope("3")])
    rows = Message.objects.using(alias)
    rows.filter(task_id="1").update(headers='{"id"')
    rows.filter(task_id="2").update(headers='1], {"id": 2}')
    received = consumer.receive(5, 5)
    assert [delivery.envelope.headers.get("id") for delivery in received] == [None, None, "3"]
    assert [delivery.envelope.body for delivery in received] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("use_tz", [True, False])
def test_any_time_zone(broker, alias, settings, use_tz):
    """Times are UTC in the table, whatever the project's time zone and USE_TZ."""
    settings.TIME_ZONE, settings.USE_TZ = "Asia/Kolkata", use_tz
    consumer = broker.consume(["default"], consumer_id="one")
    try:
        broker.publish([envelope("1"), envelope("2", not_before=clock.after(0.2)), envelope("3", not_before=clock.after(600))])
        assert names(consumer.receive(5, 0)) == ["1"]
        assert names(consumer.receive(5, 5)) == ["2"]
        assert consumer.receive(5, 0.3) == []
        assert broker.recover(clock.after(30), limit=5) == 0
        assert broker.recover(clock.after(90), limit=5) == 2
    finally:
        consumer.close()


# -- names


def test_unknown_alias():
    """A URL that names a database which the project doesn't have is refused, with the nearest name."""
    with pytest.raises(ImproperlyConfigured, match="did you mean db://default"):
        DatabaseBroker("defualt")


def test_purge_of_many(broker, alias, monkeypatch):
    """A purge works in portions until nothing is left."""
    monkeypatch.setattr("django_tasks.brokers.database.broker._PURGED_AT_ONCE", 40)
    broker.publish([envelope(str(number), not_before=clock.after(60) if number % 2 else None) for number in range(170)])
    broker.publish([envelope("other", queue="other")])
    assert broker.purge("default") == 170
    assert Message.objects.using(alias).count() == 1
