"""A worker's claim on some queues: receive, settle, extend; one call of a script each."""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from django_tasks import clock
from django_tasks.brokers.broker import Consumer
from django_tasks.brokers.redis import wire
from django_tasks.brokers.redis.bindings import binding_of
from django_tasks.brokers.redis.keys import Keys, holder, label_of
from django_tasks.brokers.redis.lines import Line
from django_tasks.brokers.redis.scripts import script
from django_tasks.brokers.redis.waiting import Ear, Heard
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Delivery, Disposition, Settlement
from django_tasks.records import maker, quick
from django_tasks.redisaccess import RedisServer

#: Bytes of messages after which a claim takes no more, and delayed messages that one claim promotes in each queue.
_ROOM: Final = 32 * 1024 * 1024
_PROMOTED_AT_ONCE: Final = 500
#: Entries that are read at once when a dead consumer's are looked through.
_SCANNED: Final = 1000
#: A wait that was to end when something falls due is this exact, in seconds.
_EXACT: Final = 0.005
_AT_ONCE: Final = float("-inf")


@quick
@dataclass(frozen=True, slots=True)
class _Held:
    payload: bytes
    queue: str


_made_held: Final = maker(_Held)
_delivery: Final = maker(Delivery)


class RedisConsumer(Consumer):
    """One thread's claim on some queues, over a connection of its own."""

    def __init__(
        self,
        server: RedisServer,
        keys: Keys,
        queues: Sequence[str],
        *,
        consumer_id: str,
        lease: float,
        rotates: bool = True,
        sorts: bool = False,
    ) -> None:
        self.consumer_id = consumer_id
        self.lease = lease
        self._server = server
        self._keys = keys
        self._holding = (keys.unacked, keys.unacked_index, keys.leases)
        self._rotates, self._sorts = rotates, sorts
        self._line: Line | None = None
        self._ear = Ear(server)
        self._holder = holder(consumer_id)
        # Microseconds: another consumer of this id that came before has used smaller ones.
        self._number = self._before = time.time_ns() // 1000
        #: Whether a claim was sent whose answer never came.
        self._unheard = False
        self._turn = 0
        self._held: dict[str, _Held] = {}
        #: Whether what the next look finds has been announced, and when that is, if no bell rings before.
        self._announced = True
        self._look_at = _AT_ONCE
        self._said: set[str] = set()
        self.set_queues(queues)

    # ---- receiving

    def set_queues(self, queues: Sequence[str]) -> None:
        """Receive from exactly these queues from now on."""
        names = list(dict.fromkeys(queues))
        self._queues = sorted(names) if self._sorts else names
        self._bells = [self._keys.bell(queue) for queue in self._queues]
        self._look_at = _AT_ONCE
        keys = self._keys
        self._layout: list[str | int] = [
            *(keys.prefix, keys.sep, keys.before_delayed, keys.before_bell),
            len(keys.labels),
            *keys.labels,
            *(part for queue in self._queues for part in (queue, json.dumps(queue))),
        ]

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Claim up to ``limit`` messages, best first; wait up to ``timeout`` seconds for the first."""
        deadline = clock.monotonic() + timeout
        with self._reaching("Receiving messages") as line:
            if limit <= 0 or not self._queues:
                self._only_wait(line, deadline)
                return []
            self._say(line)
            if timeout <= 0 or not self._ear.trusts_bells():
                self._look_at = _AT_ONCE
            while True:
                if clock.monotonic() >= self._look_at and (found := self._look(line, limit)):
                    return found
                now = clock.monotonic()
                if now >= deadline:
                    return []
                heard = self._ear.wait(self._bells, min(deadline, self._look_at) - now)
                if heard is Heard.BELL:
                    self._look_at, self._announced = _AT_ONCE, True
                elif heard is Heard.WAKE:
                    return []

    def _look(self, line: Line, limit: int) -> list[Delivery]:
        """Claim, and decide when to look again: lists that were found empty stay so until a bell rings or something is due."""
        found, due_in = self._claim(line, limit)
        if found and not self._announced:
            self._ear.notice_unannounced()
        if due_in is None:
            self._look_at, self._announced = _AT_ONCE, True
        else:
            pace = self._ear.pace()
            self._look_at, self._announced = clock.monotonic() + min(due_in, pace), due_in <= pace + _EXACT
        return found

    def _only_wait(self, line: Line, deadline: float) -> None:
        while (left := deadline - clock.monotonic()) > 0:
            heard = self._ear.wait((), left)
            if heard is Heard.WAKE:
                return
            if heard is Heard.BELL and (bell := self._ear.which()) is not None:
                # For somebody who has room.
                line.calls([("LPUSH", bell, "1"), ("LTRIM", bell, 0, 0), ("PEXPIRE", bell, 10_000)])

    def _claim(self, line: Line, limit: int) -> tuple[list[Delivery], float | None]:
        """Take messages. The seconds are those until something is due; None where there may be more to take now."""
        if self._unheard:
            self._give_back_unheard(line)
        self._turn += int(self._rotates)
        number = self._number
        # First of all: where the answer is lost on its way, a tag that is used twice would write one message over another.
        self._number += limit
        self._unheard = True
        due_in, *parts = script("claim").call(
            line, self._holding, limit, self._holder, number, self.lease, self._turn, _ROOM, _PROMOTED_AT_ONCE, *self._layout
        )
        self._unheard = False
        found = []
        for place, label, *payloads in parts:
            name, queue = label.decode(), self._queues[place]
            for payload in payloads:
                number += 1
                found.append(self._hold(f"{self._holder}:{number}:{name}", payload, queue))
        return found, float(due_in) if due_in else None

    def _give_back_unheard(self, line: Line) -> None:
        """Give back what a claim took whose answer was lost, uncounted: else it would wait for the end of its lease."""
        unheard = [tag for tag in self._tags_of(line, self._holder) if tag not in self._held and _number_of(tag) > self._before]
        self._take_over(line, unheard, ())
        self._unheard = False

    def _hold(self, tag: str, payload: bytes, queue: str) -> Delivery:
        parsed = wire.read(payload, queue, label_of(tag), self._keys)
        self._held[tag] = _made_held(payload, queue)
        return _delivery(parsed.envelope, tag, queue, parsed.earlier + 1)

    def _say(self, line: Line) -> None:
        """Enter new queues into the register, and into kombu's table for the exchange that Celery gives them."""
        new = [queue for queue in self._queues if queue not in self._said]
        if new:
            bindings = [binding_of(queue) for queue in new]
            bound = [("SADD", key, self._keys.bound(one)) for one in bindings for key in self._keys.binding(one.exchange)]
            # A server whose memory is full refuses; the queues can be worked off all the same.
            line.tries([("SADD", self._keys.queues, *new), *bound])
            self._said.update(new)

    # ---- settling

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Carry out all settlements in one call; what this consumer no longer holds is passed over."""
        if not settlements:
            return
        with self._reaching("Settling messages") as line:
            self._fetch(line, settlements)
            # The last one first: each goes to the front of its list.
            back = [part for settlement in reversed(settlements) for part in self._returning(settlement)]
            done = [one.delivery.tag for one in settlements if one.disposition in {Disposition.ACK, Disposition.DEAD}]
            script("settle").call(line, self._holding, "", len(done), *done, *back)
        if back:
            # What is delayed may be due before the next look.
            self._look_at = _AT_ONCE
        for settlement in settlements:
            self._held.pop(settlement.delivery.tag, None)

    def _fetch(self, line: Line, settlements: Sequence[Settlement]) -> None:
        goes_back = {Disposition.REQUEUE, Disposition.DELAY}
        tags = [one.delivery.tag for one in settlements if one.disposition in goes_back and one.delivery.tag not in self._held]
        if tags:
            for tag, entry in zip(tags, line.call("HMGET", self._keys.unacked, *tags), strict=True):
                if entry is not None:
                    self._held[tag] = _Held(*wire.taken_out(entry))

    def _returning(self, settlement: Settlement) -> tuple[Any, ...]:
        tag = settlement.delivery.tag
        held = self._held.get(tag)
        if held is None or settlement.disposition in {Disposition.ACK, Disposition.DEAD}:
            return ()
        payload = wire.recounted(held.payload) if settlement.counted else held.payload
        if settlement.disposition is Disposition.DELAY and settlement.until is not None:
            member = label_of(tag).encode() + b"\n" + payload
            return tag, self._keys.delayed(held.queue), settlement.until.timestamp(), member, ""
        return tag, self._keys.list_of(held.queue, label_of(tag)), "", payload, self._keys.bell(held.queue)

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Renew the leases of these deliveries."""
        if deliveries:
            with self._reaching("Renewing leases") as line:
                script("extend").call(line, self._holding, self.lease, *(delivery.tag for delivery in deliveries))

    def kept(self, deliveries: Sequence[Delivery]) -> set[str]:
        """Renew these leases, and return the tags of those that are this consumer's still: others claim under tags of their own."""
        self.extend(deliveries)
        with self._reaching("Looking for one's own messages") as line:
            return {delivery.tag for delivery in deliveries} & self._tags_of(line, self._holder)

    # ---- the dead

    def inherit(self, consumer_id: str, started: Collection[str]) -> list[Delivery]:
        """Take over what a dead consumer had started; the rest of what it held goes back, uncounted."""
        with self._reaching("Taking over messages") as line:
            return self._take_over(line, self._tags_of(line, holder(consumer_id)), started)

    def _take_over(self, line: Line, tags: Collection[str], kept: Collection[str]) -> list[Delivery]:
        tags = sorted(tags)
        # Renewed before they are read: nobody else recovers them meanwhile.
        script("extend").call(line, self._holding, self.lease, *tags)
        found: list[Delivery] = []
        back: list[tuple[Any, ...]] = []
        for tag in tags:
            # One by one, since together they may be more than memory takes.
            entry = line.call("HGET", self._keys.unacked, tag)
            if entry is None:
                back.append((tag, "", "", "", ""))
                continue
            payload, queue = wire.taken_out(entry)
            if tag in kept:
                found.append(self._hold(tag, payload, queue))
            else:
                back.append((tag, self._keys.list_of(queue, label_of(tag)), "", payload, self._keys.bell(queue)))
        script("settle").call(line, self._holding, "", 0, *(part for one in reversed(back) for part in one))
        return found

    def _tags_of(self, line: Line, who: str) -> set[str]:
        cursor: Any = 0
        tags: set[str] = set()
        while True:
            cursor, found = line.call("ZSCAN", self._keys.leases, cursor, "MATCH", f"{who}:*", "COUNT", _SCANNED)
            tags.update(tag.decode() for tag in found[::2])
            if int(cursor) == 0:
                return tags

    # ---- connections

    @contextmanager
    def _reaching(self, doing: str) -> Iterator[Line]:
        """Give the line; after an error both lines are opened anew, as it may then be another server."""
        try:
            with self._server.reaching(doing):
                if self._line is None:
                    self._line = Line(self._server)
                yield self._line
        except OperationalError:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        self._ear.hang_up()
        self._look_at = _AT_ONCE
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def wake(self) -> None:
        """End a waiting ``receive`` now."""
        self._ear.wake()

    def close(self) -> None:
        """Let go of the connections. What is still held is given back when its lease lapses."""
        self._hang_up()
        self._ear.close()


def _number_of(tag: str) -> int:
    return int(tag.split(":", 2)[1])
