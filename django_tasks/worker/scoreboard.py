"""What every process of a worker does right now, in memory that all of them share.

One block a child: a head (how it is), then one line a slot (what it runs). A slot writes its own line; the
supervisor reads them all, also those of a child that was killed. Writing a line costs a fraction of a
microsecond and needs no lock: the state is written last when a task begins, and first when it ends.

Times are those of ``clock.monotonic()``, which all processes of a machine share: a wall clock that is set while a task runs must
neither kill it nor make its process look silent.
"""

import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

# running; started, deadline (0: none), how long the texts are, tag, task id, who waits for it: two ids. An id has up to 255 characters
# of up to 4 bytes, and some brokers' tags end with up to 42 characters of it.
_LINE: Final = struct.Struct("<?xxxxxxxddHHH256s1024s2048s")
# last fetch, finished tasks
_HEAD: Final = struct.Struct("<dq")
# why it ended
_END: Final = struct.Struct("<B")
_END_AT: Final = _HEAD.size
# what its consumer thread has in hand: whether it is read or stored (0: nothing), and how long their tags are
_HANDS: Final = struct.Struct("<BH")
_HANDS_AT: Final = _END_AT + 7
# by which signal the supervisor interrupts a task, and when that task began
_INTERRUPT: Final = struct.Struct("<Bxxxxxxxd")
_INTERRUPT_AT: Final = 32
_HEAD_SIZE: Final = 64
#: Bytes for the tags, one a line; those of a batch that don't fit are nobody's.
_HANDS_SIZE: Final = 16384
_TEXTS: Final = struct.Struct("<ddHHH256s1024s2048s")
_RUNNING: Final = struct.Struct("<?")


class Hand(IntEnum):
    """What a child's consumer thread does with messages."""

    NOTHING = 0
    READ = 1  #: it makes sense of them
    STORE = 2  #: it stores what came of them


class End(IntEnum):
    """Why a child has ended. It says so here: exit statuses may be a task's, by ``os._exit``."""

    LOST = 0  #: it has not said so: it was killed, or something in it ended the process
    DONE = 1  #: it was told to, or was due for replacement
    DRAINED = 2  #: the queues are empty: no successor
    UNREACHABLE = 3  #: the broker can't be reached: no successor


@dataclass(frozen=True, slots=True)
class Line:
    """A slot that runs a task: since when, until when it may (None: no limit), for which delivery.

    Of a task that is acknowledged already nothing else is left: ``awaited`` then names the part of a chord that it ends, and its group.
    """

    slot: int
    task_id: str
    tag: str
    started: float
    deadline: float | None
    awaited: str = ""

    @property
    def limit(self) -> float:
        """Its hard time limit, in seconds; 0 without one."""
        return 0.0 if self.deadline is None else round(self.deadline - self.started, 3)


class Block:
    """One child's part of the scoreboard."""

    def __init__(self, memory: mmap.mmap, offset: int, slots: int) -> None:
        self._memory = memory
        self._offset = offset
        self._tags = offset + _block_size(slots) - _HANDS_SIZE
        self._hands = offset + _HANDS_AT
        self.slots = slots

    def begin(self, slot: int, task_id: str, tag: str, started: float, deadline: float | None, awaited: str = "") -> None:
        """Note that the slot runs this task now."""
        at = self._line(slot)
        mark, task, part = _raw(tag)[:256], _raw(task_id)[:1024], _raw(awaited)[:2048]
        _TEXTS.pack_into(self._memory, at + 8, started, deadline or 0.0, len(mark), len(task), len(part), mark, task, part)
        _RUNNING.pack_into(self._memory, at, True)

    def end(self, slot: int) -> None:
        """Note that the slot is free."""
        _RUNNING.pack_into(self._memory, self._line(slot), False)

    def running(self) -> list[Line]:
        """Return what runs now."""
        found = []
        for slot in range(self.slots):
            at = self._line(slot)
            # A line is long, and most of them may be free.
            if self._memory[at]:
                started, deadline, m, t, p, tag, task_id, awaited = _TEXTS.unpack_from(self._memory, at + 8)
                found.append(Line(slot, _text(task_id[:t]), _text(tag[:m]), started, deadline or None, _text(awaited[:p])))
        return found

    def overdue(self, now: float) -> list[Line]:
        """Return what has passed its hard time limit."""
        return [line for line in self.running() if line.deadline is not None and line.deadline <= now]

    def fetched(self, now: float, finished: int) -> None:
        """Note that the child has just asked the broker, and how many tasks it has finished so far."""
        _HEAD.pack_into(self._memory, self._offset, now, finished)

    @property
    def last_fetch(self) -> float:
        """When the child last asked the broker (by ``clock.monotonic()``); 0 if it never has."""
        return float(_HEAD.unpack_from(self._memory, self._offset)[0])

    @property
    def finished(self) -> int:
        """How many tasks the child has finished."""
        return max(0, int(_HEAD.unpack_from(self._memory, self._offset)[1]))

    def beginning(self, now: float) -> None:
        """Note that the child is about to ask the broker for the first time."""
        self.fetched(now, -1)

    @property
    def has_begun(self) -> bool:
        """Whether it has come back from its first call of the broker."""
        last_fetch, finished = _HEAD.unpack_from(self._memory, self._offset)
        return bool(last_fetch) and finished >= 0

    def leave(self, end: End) -> None:
        """Note why this child ends."""
        _END.pack_into(self._memory, self._offset + _END_AT, end)

    @property
    def ended(self) -> End:
        """Why the child has ended."""
        return End(self._memory[self._offset + _END_AT])

    def interrupt(self, number: int, started: float) -> None:
        """Note, before the signal is sent, which task it is for: others may send the same one to all processes of a group."""
        _INTERRUPT.pack_into(self._memory, self._offset + _INTERRUPT_AT, number, started)

    def is_for(self, number: int, started: float) -> bool:
        """Whether this signal was sent to the task that began then; once."""
        given = _INTERRUPT.unpack_from(self._memory, self._offset + _INTERRUPT_AT)
        if given != (number, started):
            return False
        self.interrupt(0, 0.0)
        return True

    def hold(self, hand: Hand, tags: Iterable[str]) -> None:
        """Note which deliveries the consumer thread has in hand: should the process die now, it may be because of them."""
        raw = "\n".join(tags).encode("utf-8", "surrogatepass")[:_HANDS_SIZE]
        at = self._tags
        self._memory[at : at + len(raw)] = raw
        _HANDS.pack_into(self._memory, self._hands, hand, len(raw))

    def let_go(self) -> None:
        """Note that it has nothing in hand any more."""
        self._memory[self._hands] = Hand.NOTHING

    def in_hand(self) -> tuple[Hand, list[str]]:
        """Return what the consumer thread has in hand, by their tags."""
        hand, length = _HANDS.unpack_from(self._memory, self._hands)
        tags = _text(self._memory[self._tags : self._tags + length]).split("\n") if hand and length else []
        return Hand(hand), tags[:-1] if length == _HANDS_SIZE else tags

    def clear(self) -> None:
        """Make room for the next child that takes this block."""
        # The tags mean nothing without their length.
        size = _block_size(self.slots) - _HANDS_SIZE
        self._memory[self._offset : self._offset + size] = bytes(size)

    def _line(self, slot: int) -> int:
        return self._offset + _HEAD_SIZE + slot * _LINE.size


class Scoreboard:
    """Anonymous shared memory with ``children`` blocks of ``slots`` lines each; made before the first fork."""

    def __init__(self, children: int, slots: int) -> None:
        self._memory = mmap.mmap(-1, max(1, children) * _block_size(slots))
        self.blocks = [Block(self._memory, index * _block_size(slots), slots) for index in range(children)]

    def __getitem__(self, index: int) -> Block:
        return self.blocks[index]

    def __len__(self) -> int:
        return len(self.blocks)


def _block_size(slots: int) -> int:
    return _HEAD_SIZE + slots * _LINE.size + _HANDS_SIZE


def _raw(text: str) -> bytes:
    # Strangers' ids hold any characters, halves of surrogate pairs among them.
    return text.encode("utf-8", "surrogatepass")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # it was cut inside a character
        return raw.decode(errors="replace")
