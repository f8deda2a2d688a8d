"""When open chords are counted again."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from django_tasks.result_backends.backend import OpenChord, ReadyChord
from django_tasks.result_backends.memory import MemoryResultBackend
from django_tasks.worker.recounts import Recounts

BEGIN = datetime(2026, 11, 21, tzinfo=UTC)


class Backend(MemoryResultBackend):
    """Says which chords are open, and writes down which are counted again."""

    def __init__(self) -> None:
        super().__init__("recounts")
        self.opened: dict[str, datetime] = {}
        self.asked: list[list[str]] = []
        self.looks = 0

    def waiting_chords(self, before: datetime, *, limit: int) -> list[OpenChord]:
        self.looks += 1
        return [OpenChord(name, 2, 0, opened, {}) for name, opened in self.opened.items() if opened < before]

    def recount_chords(self, group_ids: Collection[str]) -> list[ReadyChord]:
        self.asked.append(list(group_ids))
        return [ReadyChord(name, {}, []) for name in group_ids if name == "complete"]


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
