"""Workflows whose tasks are delivered again, after a crash, and those whose results were stored but not counted."""

from unittest.mock import Mock

import pytest

from django_tasks import brokers, chord, clock, group, result_backends, shared_task, states
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Disposition, Settlement, repeatable_ids
from django_tasks.models import ChordCounter, ChordPart, Message
from django_tasks.resultmetas import meta_of
from django_tasks.worker.maintenance import Maintenance
from tests.database.lane import Lane, same, total

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="redelivery.fan", bind=True)
def fan(self, n):
    """Let a chord run in its place."""
    return self.replace(group(same.s(i) for i in range(n)) | total.s())


@shared_task(name="redelivery.grow", bind=True)
def grow(self, n):
    """Add parts to the chord."""
    for number in range(n):
        self.add_to_chord(same.si(100 + number))
    return n


def test_a_replacement_that_is_made_again_is_the_same(lane: Lane) -> None:
    """A task that died after it let a chord run in its place, and runs again, leaves one chord, not another that waits for ever."""
    result = (fan.s(3) | same.s()).delay()
    ran = lane.drain(twice=lambda name: name == "redelivery.fan")
    assert result.get(timeout=1) == 3
    assert ran.count("redelivery.total") == 1
    assert ChordCounter.objects.filter(date_done=None).count() == 0
    assert ChordCounter.objects.count() == 1


def test_parts_that_are_added_again_are_expected_once(lane: Lane) -> None:
    """A part that died after it added others to its chord, and runs again: the chord doesn't wait for more than there are."""
    result = chord([grow.s(2), same.s(1)], total.s()).delay()
    lane.drain(twice=lambda name: name == "redelivery.grow")
    # The two that were added, sent twice with one id each, count once.
    assert result.get(timeout=1) == 2 + 1 + 100 + 101
    assert ChordCounter.objects.filter(date_done=None).count() == 0


def test_another_try_makes_other_tasks() -> None:
    """Ids follow from the run: repeated it gives the same, another run gives others."""
    from django_tasks.messages import new_id

    def ids(seed: str) -> list[str]:
        with repeatable_ids(seed):
            return [new_id() for _ in range(3)]

    assert ids("a") == ids("a")
    assert len({*ids("a"), *ids("b"), new_id(), new_id()}) == 8


def test_every_task_runs_twice(lane: Lane) -> None:
    """A workflow all of whose tasks die once before their outcome takes effect has the value that it has, and leaves nothing."""
    inner = chord([same.s(1), same.s(2) | same.s()], total.s())
    result = (chord([inner, fan.s(4), grow.s(1)], total.s()) | same.s()).delay()
    lane.drain(twice=lambda name: True)
    assert result.get(timeout=1) == 3 + 6 + 1 + 100
    assert ChordCounter.objects.filter(date_done=None).count() == ChordPart.objects.count() == Message.objects.count() == 0


def test_a_part_that_was_stored_and_not_counted(lane: Lane) -> None:
    """Its message is gone, as of a task that is acknowledged before it runs: counting again from the results ends the chord."""
    result = chord([same.s(1), same.s(2)], total.s()).delay()
    (first, second) = lane.consumer.receive(2, 0)
    backend, done = result_backends.current(), lane.run(first)
    backend.store([meta_of(done, "w1@here")])
    lane.completer.add(lane.run(second))
    lane.completer.flush(lane.consumer)
    assert result.state == states.PENDING
    (counter,) = ChordCounter.objects.all()
    lane.completer.send_bodies(backend.recount_chords([counter.group_id]))
    Message.objects.filter(pk=first.tag).delete()
    lane.drain()
    assert result.get(timeout=1) == 3


def test_a_chord_that_is_sent_again_is_the_same(lane: Lane) -> None:
    """The step before a chord sends it; when that dies and runs again, no second chord is opened, however deep it lies."""
    result = (same.s(1) | chord([chord([same.s(), same.s(), same.s()], total.s()), same.s()], total.s())).delay()
    lane.drain(twice=lambda name: True)
    assert result.get(timeout=1) == 4
    assert sorted(ChordCounter.objects.exclude(date_done=None).values_list("size", flat=True)) == [2, 3]
    assert ChordCounter.objects.filter(date_done=None).count() == 0


def test_an_outage_of_the_results_between_two_steps(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the next step is a chord and the results are away in that moment, the chord is opened later; nothing fails or is lost."""
    result = (same.s(1) | chord([same.s(), same.s()], total.s())).delay()
    backend = result_backends.current()
    monkeypatch.setattr(backend, "open_chords", Mock(side_effect=OperationalError("away")))
    with pytest.raises(OperationalError):
        lane.drain()
    monkeypatch.undo()
    lane.completer.flush(lane.consumer)
    lane.drain()
    assert result.get(timeout=1) == 2
    assert result.parent.parent.state == states.SUCCESS


def test_maintenance_counts_again(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored and not counted is found by the node's chores, without anybody's doing."""
    result = chord([same.s(1), same.s(2)], total.s()).delay()
    deliveries = lane.consumer.receive(2, 0)
    result_backends.current().store([meta_of(lane.run(delivery), "w1@here") for delivery in deliveries])
    lane.consumer.settle([Settlement(delivery, Disposition.ACK) for delivery in deliveries])
    chores = Maintenance(brokers.current(), result_backends.current(), lane.completer.send_bodies)
    chores.turn()
    assert lane.drain() == []
    ChordCounter.objects.update(date_created=clock.after(-120))
    Maintenance(brokers.current(), result_backends.current(), lane.completer.send_bodies).turn()
    assert lane.drain() == ["redelivery.total"]
    assert result.get(timeout=1) == 3


def test_a_body_that_has_run_is_not_sent_again(lane: Lane) -> None:
    """Where a claimant died between sending a body and saying so, and the body is done, the claim that has lapsed ends there."""
    result = chord([same.s(1), same.s(2)], total.s()).delay()
    lane.drain()
    assert result.get(timeout=1) == 3
    (counter,) = ChordCounter.objects.all()
    ChordCounter.objects.update(date_done=None, claimed_until=clock.after(-1))
    (ready,) = result_backends.current().reclaim_chords(10)
    lane.completer.send_bodies([ready])
    assert lane.drain() == []
    assert ChordCounter.objects.get(pk=counter.pk).date_done is not None
