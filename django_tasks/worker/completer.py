"""Turns outcomes into effects, in batches: results, chord parts, follow-up messages, dead letters, settlements."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from django.db import InterfaceError
from django.db import OperationalError as DjangoOperationalError

from django_tasks import clock, deadletters, states
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.canvas.completion import resolve
from django_tasks.canvas.links import followups
from django_tasks.client import forward, publish
from django_tasks.context import Request
from django_tasks.dbaccess import in_transaction
from django_tasks.exceptions import OperationalError, ServerFullError
from django_tasks.messages import NOTHING, DeadMessage, Delivery, Disposition, Settlement
from django_tasks.outcomes import Outcome, failure
from django_tasks.result_backends.backend import ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.chordparts import claim_patience, ended
from django_tasks.resultmetas import meta_of, started_meta
from django_tasks.worker.batch import Batch, is_suspect, tags_of
from django_tasks.worker.forwarding import substitute
from django_tasks.worker.putoff import MOST, PAUSE, PutOff
from django_tasks.worker.scoreboard import Block, Hand

logger = logging.getLogger("django_tasks.worker")

#: Outcomes after which a batch leaves at once.
BATCH: Final = 200
#: Seconds that the first outcome of a batch waits for others while the pool has more to do.
PATIENCE: Final = 0.02
#: Chords that a completer may hold for so much of a claim's time, and must then ask for again.
SAFE: Final = 0.7
#: How many steps of a batch are done when its chord parts have been counted, and nothing has been sent.
_UNSENT: Final = (2, 3)


class Completer:
    """Outcomes gather here from any thread; one thread flushes them.

    Where broker and results share a database, all steps of a batch are one transaction, so that nothing is lost or repeated.
    Otherwise their order sees to it that a crash repeats work and never loses it:

    1. Results. After a crash here the message comes again, the task runs again, and a SUCCESS that is kept stays.
    2. Chord parts. A crash after them leaves a chord claimed by a dead process: its part's message comes again and is counted
       again (or maintenance looks for it), and when the claim has lapsed that returns the chord.
    3. The chords that begin here are opened. A crash after it opens them again, which changes nothing.
    4. What follows is published, bodies of chords among it. A crash after it sends it twice, with the same ids.
    5. Chords are closed: nobody sends their bodies from now on. Not before 4, or a crash in between would lose them.
    6. Messages that go in the place of others are sent. A crash after it leaves both.
    7. Dead letters. A crash after them writes a second letter.
    8. Settlements, last: until then all of the above happens again if this process dies.

    A server that is away interrupts a batch, which later goes on from the step that failed, so an outage repeats nothing.

    A server that is full, and has the messages as well as the results, gets the settlements first, of the tasks after which nothing
    is sent: only that frees memory. Their results are put off; STARTED is left out.
    """

    def __init__(self, *, broker: Broker, backend: ResultBackend, hostname: str, wake: Callable[[], None]) -> None:
        self._broker = broker
        self._backend = backend
        self._hostname = hostname
        self._wake = wake
        self._outcomes: deque[Outcome] = deque()
        self._since: float | None = None
        self._marks: list[Request] = []
        #: The batch that a server held up.
        self._interrupted: Batch | None = None
        self._one_transaction = broker.joins_transaction and backend.alias is not None and backend.alias == getattr(broker, "alias", None)
        self._steps = (self._store, self._count, self._open, self._publish, self._close, self._forward, self._bury, self._settle)
        self._of_results = (self._store, self._count, self._open, self._close)
        memory = getattr(broker, "memory", None)
        self._shares_memory = memory is not None and memory == backend.memory
        self._late = PutOff(backend)
        #: When a batch that a full server did not take may be tried again.
        self._full_until: float | None = None
        #: Deliveries that others have been given meanwhile, by their ``id()``: a message may come here again under the same tag.
        self._lost: dict[int, Delivery] = {}
        self.finished = 0
        #: Where it is noted what is being stored: should the process die of it, that must be counted.
        self.block: Block | None = None

    def add(self, outcome: Outcome, *, urgent: bool = False) -> None:
        """Take an outcome, from any thread; ``urgent`` when the pool has nothing else to do."""
        self._outcomes.append(outcome)
        if self._since is None:
            self._since = clock.monotonic()
            self._wake()
        elif urgent or len(self._outcomes) == BATCH:
            self._wake()

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """Let nothing come of these deliveries, now or later: others have them."""
        self._lost.update((id(delivery), delivery) for delivery in deliveries)
        batch = self._interrupted
        if batch is not None and (self._one_transaction or not batch.done):
            # What has been stored in part goes on.
            batch.outcomes = self._not_lost(batch.outcomes)

    def _not_lost(self, outcomes: list[Outcome]) -> list[Outcome]:
        return [outcome for outcome in outcomes if self._lost.pop(id(outcome.request.delivery), None) is None]

    def mark_started(self, requests: Iterable[Request]) -> None:
        """Record STARTED for these with the next flush."""
        self._marks.extend(requests)

    def pending(self) -> int:
        """How many outcomes wait to be applied."""
        return len(self._outcomes) + (len(self._interrupted.outcomes) if self._interrupted is not None else 0) + self._late.hopeful

    @property
    def waits_for_results(self) -> bool:
        """Whether the last flush failed at the result backend, and not at the broker."""
        batch = self._interrupted
        return batch is not None and not self._one_transaction and self._steps[batch.done] in self._of_results

    def due_in(self, *, idle: bool) -> float | None:
        """Seconds until the next flush; 0 for now, None if there is nothing to flush."""
        late = self._late.due_in() if self._late else None
        due = self._full_until - clock.monotonic() if self._full_until is not None else self._due_in(idle=idle)
        return late if due is None else max(0.0, due if late is None else min(due, late))

    def _due_in(self, *, idle: bool) -> float | None:
        if self._marks or self._interrupted is not None or (self._outcomes and (idle or len(self._outcomes) >= BATCH)):
            return 0.0
        if self._since is None:
            return None
        return max(0.0, self._since + PATIENCE - clock.monotonic())

    def flush(self, consumer: Consumer) -> list[Outcome]:
        """Apply all that has gathered; return what came of it. Raises OperationalError and keeps it when a server is away.

        In the place of an outcome that can't be applied stands the failure that was.
        """
        if self._late:
            self._late.store()
        batch = self._interrupted or self._take()
        if self._full_until is not None:
            batch = self._with_what_came(batch)
        if not batch.outcomes and not batch.marks:
            return []
        applied = batch.outcomes
        self._interrupted = batch
        try:
            self._apply(batch, consumer)
        except ServerFullError as error:
            applied = self._settle_first(batch, consumer, error)
        except OperationalError:
            raise
        except Exception:
            logger.exception("A batch of %d outcomes could not be applied; trying them one by one", len(batch.outcomes))
            applied = self._one_by_one(batch, consumer)
        else:
            self._interrupted = None
        self.finished += len(applied)
        return applied

    # ---- where memory is full

    def _with_what_came(self, batch: Batch) -> Batch:
        self._full_until = None
        if batch is self._interrupted and batch.done == 0:
            # What can be settled may be among it.
            batch.outcomes += self._take().outcomes
        return batch

    def _settle_first(self, batch: Batch, consumer: Consumer, error: ServerFullError) -> list[Outcome]:
        """Settle what nothing follows, and put off its results; return that. The rest of the batch waits."""
        if not self._shares_memory or batch.done > 0 or not self._late.takes_more or len(batch.outcomes) >= MOST:
            raise error
        plain = [outcome for outcome in batch.outcomes if _nothing_follows(outcome)]
        alone = Batch(plain)
        for step in (self._forward, self._bury, self._settle):
            step(alone, consumer)
        self._late.add([meta_of(outcome, self._hostname) for outcome in plain if outcome.store], error)
        settled = set(map(id, plain))
        rest = [outcome for outcome in batch.outcomes if id(outcome) not in settled]
        self._interrupted = Batch(rest) if rest else None
        self._full_until = clock.monotonic() + PAUSE if rest else None
        return plain

    def end(self) -> None:
        """Let go of results that could not be stored in time, and say so."""
        self._late.give_up()

    def forget(self) -> None:
        """Drop what has gathered; its messages will be delivered again."""
        self._outcomes.clear()
        self._marks.clear()
        self._interrupted = self._since = self._full_until = None

    def send_bodies(self, chords: Sequence[ReadyChord]) -> None:
        """Send the bodies of chords that a dead process had claimed, and close them. Raises OperationalError when a server is away."""
        # What these complete in their turn, and what is not sent yet.
        claimed: dict[str, ReadyChord] = {}
        try:
            self._send_bodies(chords, claimed)
        except OperationalError:
            raise
        except Exception:
            logger.exception("The bodies of %d chord(s) can't be sent together; trying them one by one", len(chords))
            for ready in chords:
                self._send_alone(ready, claimed)

    def _send_alone(self, ready: ReadyChord, claimed: dict[str, ReadyChord]) -> None:
        try:
            self._send_bodies([ready], claimed)
        except OperationalError:
            raise
        except Exception as error:
            logger.exception("The body of chord %s can't be sent; it has failed", ready.group_id)
            self._fail_body(ready, error, claimed)

    def _send_bodies(self, chords: Sequence[ReadyChord], claimed: dict[str, ReadyChord]) -> None:
        # Of those that have run the claimant died between sending them and saying so.
        ran = self._ran(chords)
        batch = Batch([], chords=claimed, sent=[ready.group_id for ready in chords if ready.group_id in ran])
        try:
            with self._transaction():
                self._set_off([ready for ready in chords if ready.group_id not in ran], batch)
                for step in (self._open, self._publish, self._close):
                    step(batch)
        except Exception:
            if self._one_transaction:
                batch.let_chords_go()
            raise

    def _fail_body(self, ready: ReadyChord, error: Exception, claimed: dict[str, ReadyChord]) -> None:
        try:
            self._send_bodies([ended(ready.group_id, ready.body, error)], claimed)
        except OperationalError:
            raise
        except Exception:
            logger.exception("Nor can what is to follow the failure of chord %s; it is given up", ready.group_id)
            self._backend.close_chords([ready.group_id])

    def _ran(self, chords: Sequence[ReadyChord]) -> set[str]:
        """Return the groups of those of these chords whose bodies have run."""
        bodies = {ready.group_id: (ready.body.get("options") or {}).get("task_id") for ready in chords}
        kept = self._backend.fetch({body_id for body_id in bodies.values() if body_id})
        done = {task_id for task_id, meta in kept.items() if meta.status == states.SUCCESS}
        return {group_id for group_id, body_id in bodies.items() if body_id in done}

    # ---- the batch

    def _take(self) -> Batch:
        self._since = None
        outcomes: list[Outcome] = []
        while self._outcomes:
            # Alone in its batch: should it end this process, no other message is counted for it.
            alone = self.block is not None and is_suspect(self._outcomes[0])
            if not (alone and outcomes):
                outcomes.append(self._outcomes.popleft())
            if alone:
                break
        if self._outcomes:
            self._since = clock.monotonic() - PATIENCE
        marks, self._marks = self._marks, []
        if self._lost:
            outcomes = self._not_lost(outcomes)
        return Batch(outcomes, marks)

    def _apply(self, batch: Batch, consumer: Consumer) -> None:
        if self._one_transaction:
            # What was done before was rolled back.
            batch.done = 0
            batch.let_chords_go()
        elif batch.done in _UNSENT and batch.claimed_at is not None and clock.monotonic() - batch.claimed_at > SAFE * claim_patience():
            # Others may have been given these chords since: counting again says whose they are.
            batch.let_chords_go()
            batch.done = _UNSENT[0] - 1
        if self.block is not None:
            self.block.hold(Hand.STORE, tags_of(batch))
        try:
            with self._transaction():
                for step in self._steps[batch.done :]:
                    step(batch, consumer)
                    batch.done += 1
        finally:
            if self.block is not None:
                self.block.let_go()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._one_transaction or self._backend.alias is None:
            yield
            return
        try:
            with in_transaction(self._backend.alias):
                yield
        except (DjangoOperationalError, InterfaceError) as error:
            # BEGIN and COMMIT fail here, outside of what broker and backend translate.
            raise OperationalError(f"the database {self._backend.alias!r} does not take the results: {error}") from error

    def _one_by_one(self, batch: Batch, consumer: Consumer) -> list[Outcome]:
        applied = []
        interrupted = []
        for outcome in batch.outcomes:
            # What was claimed together stays claimed: counting a part of it again would return nothing.
            single = Batch([outcome], chords=batch.chords, claimed_at=batch.claimed_at)
            try:
                self._apply(single, consumer)
            except OperationalError:
                interrupted.append(outcome)
                continue
            except Exception as error:
                logger.exception("The outcome of %s[%s] could not be applied", outcome.request.message.task, outcome.request.message.id)
                lost = self._give_up(outcome, error, consumer)
                # A success that is stored stays, whatever comes after it.
                stays = outcome.state == states.SUCCESS and outcome.store and single.done and not self._one_transaction
                applied.append(outcome if stays else lost)
            else:
                applied.append(outcome)
        self._interrupted = Batch(interrupted, chords=batch.chords, claimed_at=batch.claimed_at) if interrupted else None
        return applied

    def _give_up(self, outcome: Outcome, error: Exception, consumer: Consumer) -> Outcome:
        # What can't be applied must not be tried for ever: the task fails, and what waits for it; its message can be replayed.
        request = outcome.request
        settlement = None if request.delivery is None else Settlement(request.delivery, Disposition.DEAD, reason="outcome not applicable")
        lost = replace(failure(request, error, None, runtime=outcome.runtime), settlement=settlement, store=True)
        # Its error callbacks may be what can't be sent.
        for attempt in (replace(lost, followups=followups(request, states.FAILURE, error)), lost):
            try:
                self._apply(Batch([attempt]), consumer)
            except Exception:
                logger.exception("That %s[%s] has failed could not be applied, either", request.message.task, request.message.id)
            else:
                return attempt
        # Nothing has come of it: its message comes again when its lease lapses.
        return replace(lost, state=states.RECEIVED, settlement=None, store=False)

    # ---- its steps

    def _store(self, batch: Batch, consumer: Consumer) -> None:
        batch.metas = [meta_of(outcome, self._hostname) for outcome in batch.outcomes if outcome.store]
        for outcome in batch.outcomes:
            batch.metas.extend(outcome.followups.metas)
        metas = [*(started_meta(request, self._hostname) for request in batch.marks), *batch.metas]
        if metas:
            self._backend.store(metas)

    def _count(self, batch: Batch, consumer: Consumer) -> None:
        batch.messages, batch.new_chords, batch.sent = [], [], []
        for outcome in batch.outcomes:
            batch.messages.extend(outcome.followups.messages)
            batch.new_chords.extend(outcome.followups.chords)
        # What followed may be the end of a chain that is a part of a chord.
        self._count_parts(batch.metas, batch)

    def _count_parts(self, metas: Iterable[ResultMeta], batch: Batch) -> None:
        parts = [meta for meta in metas if meta.chord is not None and meta.status in states.READY_STATES]
        if not parts:
            return
        for ready in self._backend.count_chord_parts(parts):
            batch.chords[ready.group_id] = ready
            batch.claimed_at = batch.claimed_at or clock.monotonic()
        last = {meta.group_id: meta for meta in parts if meta.group_id is not None and meta.group_id in batch.chords}
        self._set_off([batch.chords[group_id] for group_id in last], batch, last)

    def _set_off(self, chords: Sequence[ReadyChord], batch: Batch, last: Mapping[str, ResultMeta] = NOTHING) -> None:
        failed: list[ResultMeta] = []
        for ready in chords:
            resolution = resolve(ready, last.get(ready.group_id))
            batch.messages.extend(resolution.messages)
            batch.new_chords.extend(resolution.chords)
            batch.sent.append(ready.group_id)
            failed.extend(resolution.metas)
        if failed:
            self._backend.store(failed)
            # The body of a chord may be a part of another one.
            self._count_parts(failed, batch)

    def _open(self, batch: Batch, consumer: Consumer | None = None) -> None:
        # Before a part can come back. Here and not where tasks run, so that a server that is away is waited for.
        if batch.new_chords:
            self._backend.open_chords(batch.new_chords)

    def _publish(self, batch: Batch, consumer: Consumer | None = None) -> None:
        if batch.messages:
            # Once: this thread has leases to renew, and tries again by itself.
            publish(batch.messages, on_commit=False, retry=False)

    def _close(self, batch: Batch, consumer: Consumer | None = None) -> None:
        if batch.sent:
            self._backend.close_chords(batch.sent)
        for group_id in batch.sent:
            # The outcomes of a batch that broke have its chords in common.
            batch.chords.pop(group_id, None)

    def _forward(self, batch: Batch, consumer: Consumer) -> None:
        batch.settlements = []
        envelopes = []
        for outcome in batch.outcomes:
            delivery, settlement = outcome.request.delivery, outcome.settlement
            if delivery is None:
                continue
            if settlement is None:
                settlement = Settlement(delivery, Disposition.ACK)
            elif (envelope := substitute(settlement, self._broker)) is not None:
                envelopes.append(envelope)
                settlement = Settlement(delivery, Disposition.ACK)
            batch.settlements.append(settlement)
        if envelopes:
            forward(envelopes)

    def _bury(self, batch: Batch, consumer: Consumer) -> None:
        dead = [
            self.dead(outcome.settlement, str(outcome.value or ""))
            for outcome in batch.outcomes
            if outcome.settlement is not None
            and outcome.settlement.disposition is Disposition.DEAD
            and outcome.request.delivery is not None
        ]
        if dead:
            deadletters.record(dead)

    def _settle(self, batch: Batch, consumer: Consumer) -> None:
        if batch.settlements:
            consumer.settle(batch.settlements)

    def dead(self, settlement: Settlement, detail: str) -> DeadMessage:
        """Build the dead letter of a settlement."""
        delivery = settlement.delivery
        return DeadMessage(
            envelope=delivery.envelope,
            reason=settlement.reason,
            detail=detail,
            deliveries=delivery.deliveries,
            worker=self._hostname,
            died_at=clock.now(),
        )


def _nothing_follows(outcome: Outcome) -> bool:
    """Whether an outcome is a result and nothing else: no message, no chord, no dead letter."""
    follows, settlement = outcome.followups, outcome.settlement
    ends = settlement is None or settlement.disposition is Disposition.ACK
    return ends and not (follows.messages or follows.metas or follows.chords) and not outcome.request.message.embed.get("chord")
