"""What RabbitMQ hands out again, to whom, and how often it was started."""

from typing import Any

import pytest

from django_tasks import clock
from django_tasks.brokers.kombu import KombuBroker
from django_tasks.exceptions import OperationalError
from django_tasks.messages import DELIVERY_COUNT, KEPT_ASIDE, Death, Delivery, Disposition, Settlement
from django_tasks.models import Redelivery
from django_tasks.testing.broker_probes import envelope, names, settled
from tests.contracts.kombu_broker.receiving import arrivals, consuming, cut
from tests.processes import SOON, wait_until

pytestmark = [pytest.mark.rabbitmq, pytest.mark.django_db(transaction=True)]


def test_a_broken_connection_gives_back_what_it_held(broker: KombuBroker) -> None:
    """The next call raises, the one after it reconnects; what came back is counted, and handed out alone."""
    broker.publish([envelope("1"), envelope("2")])
    with consuming(broker) as consumer:
        held = consumer.receive(10, 5)
        assert names(held) == ["1", "2"]
        cut(consumer)
        with pytest.raises(OperationalError):
            consumer.receive(10, 5)
        # What an earlier connection received is passed over.
        again = arrivals(consumer)
        consumer.settle(settled(held, Disposition.ACK))
        assert [(one.envelope.body, one.deliveries) for one in again] == [(b"1", 2)]
        # While the first is in hands, the second one waits: a crash now would not be its fault, and is not counted for it.
        assert consumer.receive(10, 0.2) == []
        assert Redelivery.objects.count() == 1
        consumer.settle(settled(again, Disposition.ACK))
        (last,) = consumer.receive(10, 5)
        assert (last.envelope.body, last.deliveries) == (b"2", 2)
        consumer.settle([Settlement(last, Disposition.ACK)])
        assert not Redelivery.objects.exists()


def test_what_came_again_does_not_wait_for_ever(broker: KombuBroker) -> None:
    """Beside a task that runs for long, it is handed out after a while all the same."""
    broker.publish([envelope("1"), envelope("2")])
    with consuming(broker) as consumer:
        consumer.receive(10, 5)
        cut(consumer)
        with pytest.raises(OperationalError):
            consumer.receive(10, 5)
        assert names(arrivals(consumer)) == ["1"]
        begun = clock.monotonic()
        assert names(consumer.receive(10, 60)) == ["2"]
        assert 0.1 < clock.monotonic() - begun < SOON


def test_how_a_process_died_comes_with_the_message(broker: KombuBroker) -> None:
    """Whoever saw the process die writes it down within the quarantine, and the next consumer is told."""
    broker.quarantine = 120
    broker.publish([envelope("1")])
    with consuming(broker) as first:
        (held,) = first.receive(1, 5)
        broker.remember_deaths({held.tag: Death("overdue", "signal 9")})
        assert len(held.tag) <= 64
        cut(first)
        with consuming(broker, name="two") as second:
            begun = clock.monotonic()
            (again,) = arrivals(second)
            # What is explained needs no quarantine.
            assert clock.monotonic() - begun < SOON
            assert (again.deliveries, again.death) == (2, Death("overdue", "signal 9"))
            second.settle([Settlement(again, Disposition.ACK)])


def test_what_was_never_started_is_not_counted(broker: KombuBroker) -> None:
    """However often a message is given back unread, it is at its first delivery."""
    broker.publish([envelope("1")])
    with consuming(broker) as consumer:
        for _ in range(3):
            (delivery,) = consumer.receive(1, 5)
            assert delivery.deliveries == 1
            consumer.settle([Settlement(delivery, Disposition.REQUEUE, counted=False)])


def test_without_its_table_the_consumer_goes_on(broker: KombuBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away stops no message: what comes again counts as started once."""
    from django.db import DatabaseError

    def fail(*_: Any, **__: Any) -> None:
        raise DatabaseError("no database")

    broker.publish([envelope("1")])
    with consuming(broker) as consumer:
        consumer.settle(settled(consumer.receive(1, 5), Disposition.REQUEUE))
        monkeypatch.setattr(Redelivery.objects, "filter", fail)
        monkeypatch.setattr(Redelivery.objects, "bulk_create", fail)
        (again,) = consumer.receive(1, 5)
        assert again.deliveries == 2
        consumer.settle([Settlement(again, Disposition.ACK)])


def test_what_nobody_wants_goes_to_others(broker: KombuBroker) -> None:
    """A consumer that has no room for a second gives back what was pushed to it."""
    broker.publish([envelope(str(number)) for number in range(40)])
    with consuming(broker) as busy, consuming(broker, name="two") as idle:
        held = 0
        while held < 30:
            # However the server portions them.
            held += len(arrivals(busy, 30 - held))
        begun = clock.monotonic()
        while clock.monotonic() - begun < 1.5:
            busy.receive(0, 0.1)
        rest = arrivals(idle, 40)
        while len(rest) < 10 and (more := arrivals(idle, 40)):
            rest += more
        assert len(rest) == 10


def test_a_ring_is_heard_while_messages_arrive(broker: KombuBroker) -> None:
    """Whoever has something for the worker to do is not put off until the pushes end."""
    broker.publish([envelope(str(number)) for number in range(5)])
    with consuming(broker) as consumer:
        consumer.settle(settled(consumer.receive(5, 5), Disposition.ACK))
        broker.publish([envelope(str(number)) for number in range(5)])
        deadline = clock.monotonic() + SOON
        while broker.size("default") and clock.monotonic() < deadline:
            pass
        consumer.wake()
        begun = clock.monotonic()
        assert consumer.receive(0, 60) == []
        assert clock.monotonic() - begun < SOON
        assert len(consumer.receive(5, 5)) == 5


def test_messages_of_any_size_in_one_batch(broker: KombuBroker) -> None:
    """Those of several frames, of one frame, and without a body come as they were sent, in order."""
    sizes = [0, 3, 131_064, 131_065, 5, 700_000, 0, 8]
    sent = [envelope(str(number), body=b"%d" % number * size) for number, size in enumerate(sizes)]
    broker.publish(sent)
    broker.publish(sent[5:6])
    with consuming(broker) as consumer:
        got: list[Delivery] = []
        while len(got) <= len(sent) and (more := consumer.receive(20, 5)):
            got += more
        assert [one.envelope.body for one in got] == [one.body for one in [*sent, sent[5]]]
        assert [one.envelope.headers for one in got] == [one.headers for one in [*sent, sent[5]]]
        consumer.settle(settled(got, Disposition.ACK))
    assert broker.size("default") == 0


def test_acknowledged_out_of_order(broker: KombuBroker) -> None:
    """Acknowledging many with one frame takes only what was settled."""
    broker.publish([envelope(str(number)) for number in range(9)])
    with consuming(broker) as consumer:
        got = consumer.receive(9, 5)
        for chosen in ([3, 5], [0, 1], [2, 4, 8], [7]):
            consumer.settle(settled([got[number] for number in chosen], Disposition.ACK))
        consumer.settle(settled([got[3]], Disposition.ACK))
    with consuming(broker) as consumer:
        assert names(arrivals(consumer)) == ["6"]


def test_what_is_under_way_is_here_after_catching_up(broker: KombuBroker) -> None:
    """Whether the server has sent anything can be known without waiting for a time: what it counts no more has arrived then."""
    with consuming(broker, "sent") as consumer:
        assert consumer.pushed
        consumer.catch_up()  # nothing to catch up with before the first receive
        for name in ("1", "2", "3"):
            broker.publish([envelope(name, queue="sent")])
            if name == "1":
                received = arrivals(consumer, 1)
            else:
                wait_until(lambda: broker.size("sent") == 0, "the server has sent it")
                consumer.catch_up()
                received = consumer.receive(1, 0)
            assert names(received) == [name]
            consumer.settle([Settlement(received[0], Disposition.ACK)])


def test_catching_up_waits_for_no_explanation(broker: KombuBroker) -> None:
    """What comes again, and nobody says why, can be received at once by whoever asks for all there is."""
    broker.quarantine = 60
    broker.publish([envelope("1", queue="again")])
    with consuming(broker, "again") as lost:
        assert names(arrivals(lost, 1)) == ["1"]
        cut(lost)
        with consuming(broker, "again") as consumer:
            wait_until(lambda: broker.size("again") == 1, "the server has it back")
            assert consumer.receive(1, 1) == []
            consumer.catch_up()
            received = consumer.receive(1, 0)
            assert names(received) == ["1"]
            consumer.settle([Settlement(received[0], Disposition.ACK)])


def test_what_was_kept_aside_counts_as_handed_out_before(broker: KombuBroker) -> None:
    """The message of a long task whose process died: how it died is known, and that start is counted."""
    sent = envelope("1", headers={"id": "1", "task": "contract.task", DELIVERY_COUNT: 2, KEPT_ASIDE: True})
    broker.remember_deaths({"1.1:1": Death("crashed", "signal 9")})
    broker.publish([sent])
    with consuming(broker) as consumer:
        (delivery,) = consumer.receive(1, 5)
        assert delivery.death == Death("crashed", "signal 9")
        assert delivery.deliveries == 1 + 2 + 1
        consumer.settle(settled([delivery], Disposition.ACK))
