"""When open chords are counted again."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from django_tasks import clock
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.result_backends.backend import OpenChord, ReadyChord
from django_tasks.result_backends.memory import MemoryResultBackend
from django_tasks.worker import maintenance as maintaining
from django_tasks.worker import recounts as recounting
from django_tasks.worker.maintenance import Maintenance
from django_tasks.worker.recounts import PORTION, Recounts

BEGIN = datetime(2026, 11, 21, tzinfo=UTC)


class Backend(MemoryResultBackend):
    """Says which chords are open, and writes down which are counted again."""

    def __init__(self) -> None:
        super().__init__("recounts")
        self.opened: dict[str, datetime] = {}
        self.asked: list[list[str]] = []
        self.steps: list[tuple[str, int]] = []
        self.looks = 0

    def waiting_chords(self, before: datetime, *, limit: int) -> list[OpenChord]:
        self.looks += 1
        return [OpenChord(name, 2, 0, opened, {}) for name, opened in self.opened.items() if opened < before]

    def recount_chords(self, group_ids: Collection[str]) -> list[ReadyChord]:
        self.asked.append(list(group_ids))
        self.steps.append(("claimed", len(group_ids)))
        return [ReadyChord(name, {}, []) for name in group_ids if name.startswith("complete")]

    def send(self, chords: Sequence[ReadyChord]) -> None:
        """Send bodies."""
        self.steps.append(("sent", len(chords)))


def test_an_old_chord_is_counted_ever_less_often() -> None:
    """First when it is a minute old, then when it is twice as old as the last time, and every hour from some time on."""
    backend = Backend()
    backend.opened["slow"] = BEGIN
    recounts = Recounts(backend)
    minutes: list[float] = []
    for seconds in range(0, 5 * 3600, 15):
        backend.asked.clear()
        recounts.turn(BEGIN + timedelta(seconds=seconds))
        if backend.asked:
            minutes.append(seconds / 60)
    assert minutes == [1.25, 2.5, 5, 10, 20, 40, 80, 140, 200, 260]


def test_looking_costs_little() -> None:
    """Four looks a minute at what is open; nothing is counted as long as nothing is old."""
    backend = Backend()
    recounts = Recounts(backend)
    for seconds in range(60):
        recounts.turn(BEGIN + timedelta(seconds=seconds))
    assert (backend.looks, backend.asked) == (4, [])


def test_complete_ones_are_returned_and_ended_ones_forgotten() -> None:
    """What turns out to be complete is for the caller to send."""
    backend = Backend()
    backend.opened = {"complete": BEGIN, "slow": BEGIN}
    recounts = Recounts(backend)
    later = BEGIN + timedelta(minutes=3)
    assert [ready.group_id for ready in recounts.turn(later)] == ["complete"]
    del backend.opened["complete"], backend.opened["slow"]
    recounts.turn(later + timedelta(minutes=1))
    backend.opened["slow"] = later
    recounts.turn(later + timedelta(minutes=2))
    assert backend.asked == [["complete", "slow"], ["slow"]]


def test_many_are_counted_in_portions() -> None:
    """Each portion is sent before the next is claimed, so that none of them is given to another node meanwhile."""
    backend = Backend()
    backend.opened = {f"chord-{number}": BEGIN for number in range(PORTION * 2)} | {"complete": BEGIN}
    recounts, later = Recounts(backend), BEGIN + timedelta(minutes=3)
    assert [(recounts.turn(later), recounts.more) for _ in range(2)] == [([], True)] * 2
    assert [ready.group_id for ready in recounts.turn(later)] == ["complete"]
    assert not recounts.more
    assert recounts.turn(later) == []
    assert [len(asked) for asked in backend.asked] == [PORTION, PORTION, 1]
    assert sorted(name for asked in backend.asked for name in asked) == sorted(backend.opened)


def test_nodes_send_each_portion_before_they_claim_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node goes on for a second, and with the rest in its next turn: whoever waits for it must not wait for thousands of chords."""
    backend = Backend()
    monkeypatch.setattr(recounting, "PORTION", 2)
    backend.opened = {f"complete-{number}": clock.now() - timedelta(minutes=3) for number in range(7)}
    chores = Maintenance(MemoryBroker(), backend, backend.send)
    monkeypatch.setattr(maintaining, "RECOUNTING", 0.0)
    chores._recount_chords()
    assert backend.steps == [("claimed", 2), ("sent", 2)]
    monkeypatch.setattr(maintaining, "RECOUNTING", 60.0)
    chores._recount_chords()
    assert backend.steps[2:] == [("claimed", 2), ("sent", 2)] * 2 + [("claimed", 1), ("sent", 1)]


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    """What was to be looked at by a clock that was ahead must be looked at by the new time as well."""
    backend = Backend()
    backend.opened["slow"] = BEGIN - timedelta(days=1)
    recounts = Recounts(backend)
    recounts.turn(BEGIN + timedelta(hours=5))
    backend.asked.clear()
    for minutes in range(60):
        recounts.turn(BEGIN + timedelta(minutes=minutes))
    assert backend.looks == 61
    assert backend.asked == [["slow"]]
