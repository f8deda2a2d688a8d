"""Which open chords to count again from the stored results, and when."""

from datetime import datetime, timedelta
from typing import Final

from django_tasks.result_backends.backend import ReadyChord, ResultBackend

#: How often open chords are looked at, from which age on, and how often at least an old one is counted again.
EVERY: Final = timedelta(seconds=15)
FROM: Final = timedelta(minutes=1)
AT_LEAST: Final = timedelta(hours=1)
#: Most chords looked at.
LIMIT: Final = 5_000
#: Most chords counted at a time: all of them may be complete, and their bodies must be sent well within the claim. Not fewer, as each
#: counting may read what has ended since the oldest of its chords was opened.
PORTION: Final = 200


class Recounts:
    """Counts chords again a minute after they were opened, and then ever less often, up to once an hour.

    That is for parts whose result was stored by a process that died before it counted them, where the message does not come
    again. A chord that simply takes long costs a few readings.
    """

    def __init__(self, backend: ResultBackend) -> None:
        self._backend = backend
        self._next: dict[str, datetime] = {}
        self._look_at: datetime | None = None
        #: What is still to be counted of what was due at the last look.
        self._due: list[str] = []

    @property
    def more(self) -> bool:
        """Whether there is another portion to count at once."""
        return bool(self._due)

    def turn(self, now: datetime) -> list[ReadyChord]:
        """Count the next portion of what is due; return the complete chords, claimed for the caller, who sends them before the next."""
        if not self._due:
            self._look(now)
        portion, self._due = self._due[:PORTION], self._due[PORTION:]
        return self._backend.recount_chords(portion) if portion else []

    def _look(self, now: datetime) -> None:
        if self._look_at is not None and _waits(self._look_at, now, EVERY):
            return
        self._look_at = now + EVERY
        waiting = self._backend.waiting_chords(now - FROM, limit=LIMIT)
        due = [chord for chord in waiting if not _waits(self._next.get(chord.group_id, now), now, AT_LEAST)]
        # What is not open any more is forgotten.
        self._next = {chord.group_id: self._next[chord.group_id] for chord in waiting if chord.group_id in self._next}
        self._next.update((chord.group_id, now + min(now - chord.opened, AT_LEAST)) for chord in due)
        self._due = [chord.group_id for chord in due]


def _waits(until: datetime, now: datetime, longest: timedelta) -> bool:
    """Whether that time has not come yet. One that lies further ahead than it can was reckoned before the clock was set back."""
    return now < until <= now + longest
