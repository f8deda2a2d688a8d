"""Which entry is due next: a heap that is changed entry by entry, never rebuilt for one edit."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from django_tasks.beat.entries import Entry


@dataclass(slots=True, eq=False)
class Slot:
    """An entry's place in the agenda. A slot that was taken out, or moved, leaves stale items in the heap."""

    entry: Entry
    at: datetime | None
    ticket: int = 0


class Agenda:
    """Entries by name, and by when they are to be looked at next."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        self._heap: list[tuple[datetime, int, Slot]] = []
        self._tickets = count(1)

    def put(self, entry: Entry, at: datetime | None) -> None:
        """Enter or replace an entry; ``at`` None keeps it known but never due."""
        self.remove(entry.name)
        slot = self._slots[entry.name] = Slot(entry, at)
        self.move(slot, at)

    def move(self, slot: Slot, at: datetime | None) -> None:
        """Give an entry another time."""
        slot.at, slot.ticket = at, next(self._tickets)
        if at is not None:
            heapq.heappush(self._heap, (at, slot.ticket, slot))
        if len(self._heap) > 2 * len(self._slots) + 1000:
            self._heap = [item for item in self._heap if item[2].ticket == item[1]]
            heapq.heapify(self._heap)

    def remove(self, name: str) -> None:
        """Take an entry out, if it is in."""
        slot = self._slots.pop(name, None)
        if slot is not None:
            slot.ticket = 0

    def due(self, now: datetime, limit: int) -> list[Slot]:
        """Take the slots that are due off the heap, earliest first; each must be moved, removed or put back."""
        found: list[Slot] = []
        while len(found) < limit and (at := self.next_at()) is not None and at <= now:
            found.append(heapq.heappop(self._heap)[2])
        return found

    def put_back(self, slots: list[Slot]) -> None:
        """Give slots that were taken off, and not removed since, their old times back."""
        for slot in slots:
            if slot.ticket:
                self.move(slot, slot.at)

    def next_at(self) -> datetime | None:
        """Return the time of the first slot; None without any."""
        while self._heap and self._heap[0][2].ticket != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def find(self, name: str) -> Entry | None:
        """Return the entry of a name, or None."""
        slot = self._slots.get(name)
        return None if slot is None else slot.entry

    def __contains__(self, name: object) -> bool:
        return name in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Entry]:
        return (slot.entry for slot in self._slots.values())
