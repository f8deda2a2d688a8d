"""Turns outcomes into effects, in batches: results, chord parts, follow-up messages, dead letters, settlements."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from django.db import InterfaceError, transaction
from django.db import OperationalError as DjangoOperationalError

from django_tasks import clock, deadletters, states
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.canvas.chords import resolve
from django_tasks.client import publish
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.exceptions import OperationalError
from django_tasks.messages import DeadMessage, Disposition, Settlement, TaskMessage
from django_tasks.outcomes import Outcome, failure
from django_tasks.result_backends.backend import ResultBackend, ResultMeta
from django_tasks.serializers import dumps_json

logger = logging.getLogger("django_tasks.worker")

#: Outcomes after which a batch leaves at once.
BATCH: Final = 200
#: Seconds that the first outcome of a batch waits for others while the pool has more to do.
PATIENCE: Final = 0.02


class Completer:
    """Outcomes gather here from any thread; one thread flushes them.

    A batch is applied in this order, so that a crash in between repeats work and never loses it: results, chord
    parts, follow-up messages, dead letters, settlements. Where broker and results share a database, all of it
    is one transaction, so that nothing is even repeated.
    """

    def __init__(self, *, broker: Broker, backend: ResultBackend, hostname: str, wake: Callable[[], None]) -> None:
        self._broker = broker
        self._backend = backend
        self._hostname = hostname
        self._wake = wake
        self._outcomes: deque[Outcome] = deque()
        self._since: float | None = None
        self._marks: list[Request] = []
        self._one_transaction = broker.joins_transaction and backend.alias is not None and backend.alias == getattr(broker, "alias", None)
        self.finished = 0

    def add(self, outcome: Outcome, *, urgent: bool = False) -> None:
        """Take an outcome, from any thread; ``urgent`` when the pool has nothing else to do."""
        self._outcomes.append(outcome)
        if self._since is None:
            self._since = clock.monotonic()
            self._wake()
        elif urgent or len(self._outcomes) == BATCH:
            self._wake()

    def mark_started(self, requests: Iterable[Request]) -> None:
        """Record STARTED for these with the next flush."""
        self._marks.extend(requests)

    def pending(self) -> int:
        """How many outcomes wait to be applied."""
        return len(self._outcomes)

    def due_in(self, *, idle: bool) -> float | None:
        """Seconds until the next flush; 0 for now, None if there is nothing to flush."""
        if self._marks or (self._outcomes and (idle or len(self._outcomes) >= BATCH)):
            return 0.0
        if self._since is None:
            return None
        return max(0.0, self._since + PATIENCE - clock.monotonic())

    def flush(self, consumer: Consumer) -> list[Outcome]:
        """Apply all that has gathered; return it. Raises OperationalError and keeps it when a server is away."""
        batch, marks = self._take()
        if not batch and not marks:
            return []
        try:
            self._apply(batch, marks, consumer)
        except OperationalError:
            self._put_back(batch, marks)
            raise
        except Exception:
            logger.exception("A batch of %d outcomes could not be applied; trying them one by one", len(batch))
            self._one_by_one(batch, consumer)
        self.finished += len(batch)
        return batch

    def forget(self) -> None:
        """Drop what has gathered; its messages will be delivered again."""
        self._outcomes.clear()
        self._marks.clear()
        self._since = None

    # ---- the batch

    def _take(self) -> tuple[list[Outcome], list[Request]]:
        self._since = None
        batch = []
        while self._outcomes:
            batch.append(self._outcomes.popleft())
        marks, self._marks = self._marks, []
        return batch, marks

    def _put_back(self, batch: Sequence[Outcome], marks: Sequence[Request]) -> None:
        self._outcomes.extendleft(reversed(batch))
        self._marks[:0] = marks
        self._since = clock.monotonic()

    def _apply(self, batch: Sequence[Outcome], marks: Sequence[Request], consumer: Consumer) -> None:
        with self._transaction():
            metas = [self.started_meta(request) for request in marks]
            finished = [self.meta(outcome) for outcome in batch if outcome.store]
            metas += finished
            messages: list[TaskMessage] = []
            for outcome in batch:
                messages.extend(outcome.followups.messages)
                metas.extend(outcome.followups.metas)
            if metas:
                self._backend.store(metas)
            # What followed may be the end of a chain that is a part of a chord.
            self._count_chords([*finished, *(meta for outcome in batch for meta in outcome.followups.metas)], messages)
            if messages:
                publish(messages, on_commit=False)
            self._settle(batch, consumer)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._one_transaction:
            yield
            return
        try:
            with transaction.atomic(using=self._backend.alias):
                yield
        except (DjangoOperationalError, InterfaceError) as error:
            # BEGIN and COMMIT fail here, outside of what broker and backend translate.
            raise OperationalError(f"the database {self._backend.alias!r} does not take the results: {error}") from error

    def _count_chords(self, finished: Sequence[ResultMeta], messages: list[TaskMessage]) -> None:
        parts = [meta for meta in finished if meta.chord is not None and meta.status in states.READY_STATES]
        if not parts:
            return
        failed: list[ResultMeta] = []
        for ready in self._backend.count_chord_parts(parts):
            resolution = resolve(ready)
            messages.extend(resolution.messages)
            failed.extend(resolution.metas)
        if failed:
            self._backend.store(failed)
            # The body of a chord may be a part of another one.
            self._count_chords(failed, messages)

    def _settle(self, batch: Sequence[Outcome], consumer: Consumer) -> None:
        settlements = []
        dead = []
        for outcome in batch:
            delivery = outcome.request.delivery
            if delivery is None:
                continue
            settlement = outcome.settlement or Settlement(delivery, Disposition.ACK)
            settlements.append(settlement)
            if settlement.disposition is Disposition.DEAD:
                dead.append(self.dead(settlement, str(outcome.value or "")))
        if dead:
            deadletters.record(dead)
        if settlements:
            consumer.settle(settlements)

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

    def _one_by_one(self, batch: Sequence[Outcome], consumer: Consumer) -> None:
        for outcome in batch:
            try:
                self._apply([outcome], [], consumer)
            except OperationalError:
                self._put_back([outcome], [])
            except Exception as error:
                logger.exception("The outcome of %s[%s] could not be applied", outcome.request.message.task, outcome.request.message.id)
                self._bury(outcome, error, consumer)

    def _bury(self, outcome: Outcome, error: Exception, consumer: Consumer) -> None:
        # What can't be applied must not be tried for ever: the task fails, and its message can be looked at and replayed.
        lost = failure(outcome.request, error, None)
        delivery = outcome.request.delivery
        try:
            with self._transaction():
                self._backend.store([self.meta(lost)])
                if delivery is not None:
                    settlement = Settlement(delivery, Disposition.DEAD, reason="outcome not applicable")
                    deadletters.record([self.dead(settlement, repr(error))])
                    consumer.settle([settlement])
        except Exception:
            logger.exception("%s[%s] is left to its lease", outcome.request.message.task, outcome.request.message.id)

    # ---- what is stored

    def meta(self, outcome: Outcome) -> ResultMeta:
        """Build what is stored of an outcome."""
        request = outcome.request
        message = request.message
        ready = outcome.state in states.READY_STATES
        extended = settings.RESULT_EXTENDED
        return ResultMeta(
            task_id=message.id,
            status=outcome.state,
            result=outcome.result,
            content_type=outcome.content_type,
            content_encoding=outcome.content_encoding,
            traceback=outcome.traceback,
            children=request.children,
            date_done=clock.now() if ready else None,
            date_started=datetime.fromtimestamp(outcome.started_at, UTC) if outcome.started_at else None,
            name=message.task,
            args=_json(message.args) if extended else None,
            kwargs=_json(message.kwargs) if extended else None,
            worker=self._hostname if extended else None,
            queue=message.queue if extended else None,
            retries=message.retries,
            runtime=outcome.runtime,
            group_id=message.group,
            group_index=message.group_index,
            root_id=message.root_id,
            parent_id=message.parent_id,
            periodic_task_name=message.headers.get("periodic_task_name"),
            chord=message.embed.get("chord"),
        )

    def started_meta(self, request: Request) -> ResultMeta:
        """Build what is stored of a task that runs for a while already."""
        running = Outcome(
            request=request,
            state=states.STARTED,
            started_at=request.time_start,
            result=dumps_json({"pid": request.worker_pid, "hostname": request.hostname}),
        )
        return self.meta(running)


def _json(value: Any) -> str:
    try:
        return dumps_json(value if isinstance(value, list | dict) else list(value) if isinstance(value, Sequence) else dict(value))
    except Exception:  # noqa: BLE001  pickled arguments need not be JSON; what is shown is then their text
        return dumps_json(repr(value))
