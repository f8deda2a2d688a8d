"""The heap of what is due next."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from django_tasks.beat.agenda import Agenda
from django_tasks.beat.entries import Entry
from django_tasks.beat.occurrences import Interval

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def entry(name: str) -> Entry:
    return Entry(name=name, task="t", occurrences=Interval(timedelta(seconds=10)), args=(), kwargs={}, options={})


def names(slots) -> list[str]:
    return [slot.entry.name for slot in slots]


def test_what_is_due_comes_earliest_first_and_bounded():
    """No more than asked for, and nothing from the future."""
    agenda = Agenda()
    for name, seconds in (("c", 3), ("a", 1), ("later", 99), ("b", 2), ("never", None)):
        agenda.put(entry(name), None if seconds is None else at(seconds))
    assert agenda.next_at() == at(1)
    assert names(agenda.due(at(5), 2)) == ["a", "b"]
    assert names(agenda.due(at(5), 10)) == ["c"]
    assert agenda.next_at() == at(99)
    assert "never" in agenda


def test_a_replaced_entry_is_due_at_its_new_time_only():
    """The old place in the heap counts no more."""
    agenda = Agenda()
    agenda.put(entry("a"), at(1))
    agenda.put(entry("a"), at(7))
    assert agenda.due(at(5), 10) == []
    assert names(agenda.due(at(7), 10)) == ["a"]
    assert len(agenda) == 1


def test_a_removed_entry_is_gone():
    """Also while it is off the heap: putting it back does nothing."""
    agenda = Agenda()
    agenda.put(entry("a"), at(1))
    agenda.put(entry("b"), at(1))
    taken = agenda.due(at(1), 10)
    agenda.remove("a")
    agenda.put_back(taken)
    assert names(agenda.due(at(1), 10)) == ["b"]
    assert agenda.find("a") is None
    agenda.remove("unknown")


def test_what_was_taken_and_replaced_does_not_come_back_as_it_was():
    """An edit while a batch is on its way wins."""
    agenda = Agenda()
    agenda.put(entry("a"), at(1))
    taken = agenda.due(at(1), 10)
    agenda.put(entry("a"), at(50))
    agenda.put_back(taken)
    assert agenda.next_at() == at(50)


def test_stale_items_do_not_pile_up():
    """A thousand edits of ten entries leave no thousand items."""
    agenda = Agenda()
    for second in range(5000):
        agenda.put(entry(str(second % 10)), at(second))
    assert len(agenda) == 10
    assert len(agenda._heap) < 1100
    assert agenda.next_at() == at(4990)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 50), st.booleans())), st.integers(0, 60))
def test_the_heap_agrees_with_a_plain_dictionary(changes, now):
    """Whatever was put in and taken out, what is due is what a dictionary of times says."""
    agenda, plain = Agenda(), {}
    for name, seconds, stays in changes:
        if stays:
            agenda.put(entry(name), at(seconds))
            plain[name] = seconds
        else:
            agenda.remove(name)
            plain.pop(name, None)
    due = sorted(names(agenda.due(at(now), 100)))
    assert due == sorted(name for name, seconds in plain.items() if seconds <= now)
