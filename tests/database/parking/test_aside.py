"""Messages of long tasks, settled where they came from and kept in the database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError

from django_tasks import clock
from django_tasks.exceptions import OperationalError
from django_tasks.messages import DELIVERY_COUNT, KEPT_ASIDE, Delivery, Disposition, Settlement
from django_tasks.models import Message
from django_tasks.parking import aside
from django_tasks.testing.broker_probes import envelope
from django_tasks.worker import keepingaside
from django_tasks.worker.keepingaside import KeepingAside
from tests.database.parking.lot import rows

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


class Inner:
    """A consumer with two deliveries, which writes down what is settled."""

    consumer_id, lease = "holder", 60.0

    def __init__(self) -> None:
        self.settled: list[str] = []
        self.lost: set[str] = set()
        sent = {"exchange": "media", "routing_key": "image.png"}
        self.deliveries = [Delivery(envelope(tag, **sent), tag, "default", 3) for tag in ("1", "2")]

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        found, self.deliveries = self.deliveries[:limit], self.deliveries[limit:]
        return found

    def settle(self, settlements: Sequence[Settlement]) -> None:
        self.settled += [one.delivery.tag for one in settlements]

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """It has no lease."""

    def holds(self, tag: str) -> bool:
        return tag not in self.lost

    def kept(self, deliveries: Sequence[Delivery]) -> set[str]:
        return {one.tag for one in deliveries} - self.lost


@pytest.fixture
def keeping(broker: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A consumer around it, whose messages are old at once."""
    monkeypatch.setattr(keepingaside, "AFTER", 0.0)
    monkeypatch.setattr(keepingaside, "LOOK", 0.0)
    return KeepingAside(broker, Inner(), 60.0)  # type: ignore[arg-type]  # what is used of it


def test_a_long_task_is_settled_soon_and_its_message_kept(broker, alias, forwarder, keeping):
    """Until it ends, for as long as its holder says so; of a holder that is dead it goes to its queue, and counts as handed out before."""
    first, second = (keeping.receive(1, 0)[0] for _ in range(2))
    keeping.receive(0, 0)
    assert keeping._inner.settled == ["1", "2"]
    assert set(rows(alias).values_list("claimed_by", flat=True)) == {"holder"}
    before = max(rows(alias).values_list("until", flat=True))
    keeping.extend([first, second])
    assert min(rows(alias).values_list("until", flat=True)) > before
    assert forwarder.turn(0) == 0
    keeping.settle([Settlement(first, Disposition.ACK)])
    assert rows(alias).count() == 1
    aside.release(["holder"])
    assert forwarder.turn(5) == 1
    (sent,) = broker.sent
    assert (sent.headers["id"], sent.queue, sent.exchange, sent.routing_key) == ("2", "default", None, None)
    assert (sent.headers[DELIVERY_COUNT], sent.headers[KEPT_ASIDE]) == (2, True)
    # The lease was another's meanwhile: that is passed over.
    keeping.settle([Settlement(second, Disposition.ACK)])


@pytest.mark.parametrize(("disposition", "forwarded"), [(Disposition.REQUEUE, 1), (Disposition.DELAY, 0), (Disposition.DEAD, 0)])
def test_other_fates(settings, alias, forwarder, keeping, disposition, forwarded):
    """What goes back is sent to its queue, now or when it is due, whatever zone the project has; what is dead is gone."""
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Tokyo"
    (delivery,) = keeping.receive(1, 0)
    keeping.receive(0, 0)
    keeping.settle([Settlement(delivery, disposition, until=clock.now() + timedelta(hours=1))])
    assert forwarder.turn(0) == forwarded
    assert rows(alias).count() == (disposition is Disposition.DELAY)
    assert not keeping._aside
    assert not keeping._since


def test_what_a_broken_connection_brought_is_others(alias, keeping):
    """The server has given it to somebody else: kept here, it would run twice."""
    keeping.receive(2, 0)
    keeping._inner.lost.add("1")
    keeping.receive(0, 0)
    assert keeping._inner.settled == ["2"]
    assert rows(alias).count() == 1


def test_who_was_late_hears_what_is_others(alias, keeping, forwarder):
    """After a freeze that outlasts the lease: of rows that were sent to their queue, and of what a lost connection had brought."""
    found = keeping.receive(1, 0)
    keeping.receive(0, 0)
    found += keeping.receive(1, 0)
    assert keeping.kept(found) == {"1", "2"}
    rows(alias).update(until=clock.now() - timedelta(seconds=1))
    forwarder.turn(0)
    assert keeping.kept(found) == {"2"}
    keeping._inner.lost.add("2")
    assert keeping.kept(found[1:]) == set()


def test_messages_are_kept_all_or_none(alias, keeping, monkeypatch):
    """A row of which its holder knows nothing would be renewed with the others, and run again when the holder has ended."""
    found = keeping.receive(2, 0)
    save, fails = Message.save, iter([False, True])

    def saved(row: Message, **options: Any) -> None:
        if next(fails):
            raise DatabaseError("away")
        save(row, **options)

    monkeypatch.setattr(Message, "save", saved)
    with pytest.raises(OperationalError):
        aside.keep(found, "holder", 60.0)
    assert rows(alias).count() == 0


def test_without_the_database_messages_stay_with_the_broker(keeping, monkeypatch, caplog):
    """It is said once, and tried again after a rest."""

    def fail(*args: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(keepingaside, "REST", 0.0)
    with monkeypatch.context() as away:
        away.setattr(aside, "keep", fail)
        for _ in range(3):
            keeping.receive(1, 0)
    assert keeping._inner.settled == []
    assert sum("consumer_timeout" in text for text in caplog.messages) == 1
    keeping.receive(0, 0)
    assert keeping._inner.settled == ["1", "2"]
