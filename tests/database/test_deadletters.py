"""Dead letters: kept as they were, and sent again once."""

import threading

import pytest
from django.db import DatabaseError, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_tasks import brokers, clock, deadletters
from django_tasks.brokers.broker import Broker
from django_tasks.brokers.database import DatabaseBroker
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.exceptions import OperationalError
from django_tasks.messages import DeadMessage, Disposition
from django_tasks.models import DeadLetter, Message
from django_tasks.testing.broker_probes import envelope, names, settled

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


def died(name: str = "1", **fields) -> DeadMessage:
    """Make a dead message."""
    return DeadMessage(envelope=envelope(name, **fields), reason="unknown", detail="No task of this name", deliveries=3, worker="w@h")


def use(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    """Make a broker the current one."""
    monkeypatch.setattr(brokers, "current", lambda: broker)


def test_what_is_kept():
    """A dead letter keeps the envelope, and says what happened to it, when and where; a batch is one INSERT."""
    moment = clock.now()
    with CaptureQueriesContext(connections["default"]) as queries:
        deadletters.record([died("1", priority=7, queue="q"), DeadMessage(envelope=envelope("2"), reason="r" * 100, died_at=moment)])
    assert sum("INSERT" in query["sql"] for query in queries) == 1
    first, second = DeadLetter.objects.order_by("id")
    assert (first.task_id, first.task, first.queue, first.priority, first.deliveries) == ("1", "contract.task", "q", 7, 3)
    assert (first.reason, first.detail, first.worker, first.routing_key) == ("unknown", "No task of this name", "w@h", "q")
    assert abs((first.died_at - moment).total_seconds()) < 10
    assert (second.reason, second.died_at) == ("r" * 64, moment)
    deadletters.record([])
    assert DeadLetter.objects.count() == 2


def test_envelopes_come_back_as_they_were():
    """Bodies are kept byte for byte, readable or not, and so are headers and properties."""
    body = bytes(range(256)) * 3
    sent = envelope(
        body=body,
        content_type="application/x-python-serialize",
        content_encoding="binary",
        headers={"id": "1", "task": "t", "x": ["é", None]},
    )
    deadletters.record([DeadMessage(envelope=sent, reason="undecodable")])
    letter = DeadLetter.objects.get()
    assert bytes(letter.body) == body
    assert deadletters.envelope_of(letter) == sent


def test_what_strangers_send_can_be_kept(alias, monkeypatch):
    """Overlong names, NUL and half characters are no reason to lose a message, on any database."""
    monkeypatch.setattr("django_tasks.deadletters.router.db_for_write", lambda *_, **__: alias)
    odd = envelope(headers={"id": "\0\ud800" * 300, "task": None, "x": "\ud800\0"}, body=b"\xff\0", exchange=None, routing_key=None)
    letter = deadletters._row(DeadMessage(envelope=odd, reason="no\0reason", detail="a\0b\ud800", worker="w"))
    letter.save(using=alias)
    DatabaseBroker(alias).publish([odd])
    assert Message.objects.using(alias).get().task_id.startswith("\\0\\ud800")
    kept = DeadLetter.objects.using(alias).get()
    assert bytes(kept.body) == b"\xff\0"
    assert (kept.task, kept.detail, kept.reason) == ("", "a\\0b\\ud800", "no\\0reason")
    assert deadletters.envelope_of(kept).headers["x"] == "\ud800\0"


@pytest.mark.parametrize("use_tz", [True, False])
def test_without_time_zones(settings, use_tz):
    """A project with USE_TZ off can keep dead letters, too."""
    settings.USE_TZ = use_tz
    deadletters.record([died()])
    assert DeadLetter.objects.count() == 1


def test_replay_by_ids(monkeypatch):
    """Replaying sends what was chosen, in the order in which it died, deletes it, and says how many it was."""
    broker = DatabaseBroker()
    use(monkeypatch, broker)
    deadletters.record([died(str(number), priority=2) for number in range(5)])
    ids = list(DeadLetter.objects.order_by("id").values_list("pk", flat=True))
    assert deadletters.replay([*reversed(ids[:3]), 999_999]) == 3
    assert deadletters.replay([]) == 0
    assert DeadLetter.objects.count() == 2
    consumer = broker.consume(["default"], consumer_id="c")
    received = consumer.receive(10, 5)
    assert [(name, one.deliveries, one.envelope.priority) for one in received for name in names([one])] == [
        (str(n), 1, 2) for n in range(3)
    ]
    consumer.settle(settled(received, Disposition.ACK))
    consumer.close()


def test_replay_a_queryset(monkeypatch):
    """A queryset says which letters: of one task, of one reason."""
    use(monkeypatch, DatabaseBroker())
    deadletters.record([died("1"), died("2", queue="other"), died("3")])
    assert deadletters.replay(DeadLetter.objects.filter(queue="default").order_by("-died_at")) == 2
    assert list(DeadLetter.objects.values_list("task_id", flat=True)) == ["2"]


def test_what_can_not_be_sent_stays(monkeypatch):
    """When the broker refuses, nothing is deleted and the error is the caller's."""

    class Down(MemoryBroker):
        def publish(self, envelopes):
            raise OperationalError("down")

    use(monkeypatch, Down("down"))
    deadletters.record([died()])
    with pytest.raises(OperationalError, match="down"):
        deadletters.replay(DeadLetter.objects.all())
    assert DeadLetter.objects.count() == 1


def test_replay_is_part_of_the_transaction(monkeypatch):
    """With the database broker a replay that is rolled back has not happened."""
    use(monkeypatch, DatabaseBroker())
    deadletters.record([died()])
    with transaction.atomic():
        assert deadletters.replay(DeadLetter.objects.all()) == 1
        transaction.set_rollback(True)
    assert (DeadLetter.objects.count(), Message.objects.count()) == (1, 0)


def test_two_replays_send_once(alias, monkeypatch):
    """Two people who replay the same letters at once send each of them once."""
    monkeypatch.setattr("django_tasks.deadletters.router.db_for_write", lambda *_, **__: alias)
    use(monkeypatch, DatabaseBroker(alias))
    DeadLetter.objects.using(alias).bulk_create([deadletters._row(died(str(number))) for number in range(30)])
    ids = list(DeadLetter.objects.using(alias).values_list("pk", flat=True))
    counts, errors, barrier = [], [], threading.Barrier(2)

    def replay() -> None:
        try:
            barrier.wait(30)
            counts.append(deadletters._replay(ids))
        except DatabaseError as error:
            # SQLite without immediate transactions may refuse the later one; it then has sent nothing.
            errors.append(str(error))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=replay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(counts) == 30
    assert all("locked" in error for error in errors)
    assert sorted(Message.objects.using(alias).values_list("task_id", flat=True)) == sorted(str(number) for number in range(30))
    assert DeadLetter.objects.using(alias).count() == 0


def test_a_broken_letter_can_be_replayed(monkeypatch):
    """A letter whose headers somebody destroyed is sent without them, and becomes a dead letter again where it is read."""
    broker = DatabaseBroker()
    use(monkeypatch, broker)
    deadletters.record([died()])
    DeadLetter.objects.update(headers="nonsense")
    assert deadletters.replay(DeadLetter.objects.all()) == 1
    assert Message.objects.get().task_id == ""
