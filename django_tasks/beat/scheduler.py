"""Sends what is due. Each run is on record before or with its message, once, whoever else tries."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from django.db import DatabaseError, DataError, IntegrityError, transaction

from django_tasks import brokers, client, clock
from django_tasks.beat import rows, runs
from django_tasks.beat.agenda import Agenda, Slot
from django_tasks.beat.changes import Reader
from django_tasks.beat.entries import BrokenEntryError, Entry, schedule_zone
from django_tasks.beat.occurrences import Crontab
from django_tasks.beat.reports import Reports
from django_tasks.conf import settings
from django_tasks.exceptions import OperationalError
from django_tasks.messages import TaskMessage

logger = logging.getLogger("django_tasks.beat")

#: Runs in one transaction: large enough to cost little each, small enough to let others write in between.
BATCH: Final = 1000
_PRUNE_EVERY: Final = timedelta(minutes=10)
#: How long another beat has for sending what it recorded.
_RECALL_AFTER: Final = timedelta(seconds=10)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """One run that is due."""

    slot: Slot
    due_at: datetime
    message: TaskMessage

    @property
    def entry(self) -> Entry:
        """The entry that is due."""
        return self.slot.entry

    @property
    def key(self) -> runs.Key:
        """What makes the run unique."""
        return self.entry.name, self.due_at


class Scheduler:
    """Sends the runs of all periodic tasks, each once; ``tick`` is called again and again.

    ``may_send`` is asked before every batch, so that a beat that leads no longer stops. ``since`` is when someone was
    last seen to schedule: declared entries that never ran are due from then on.
    """

    def __init__(
        self, *, max_interval: float | None = None, since: datetime | None = None, may_send: Callable[[], bool] = lambda: True
    ) -> None:
        seconds = settings.BEAT_MAX_LOOP_INTERVAL if max_interval is None else max_interval
        self._max_interval = timedelta(seconds=seconds)
        deadline = settings.BEAT_CRON_STARTING_DEADLINE
        self._deadline = None if deadline is None else timedelta(seconds=deadline)
        self._since = since
        self._may_send = may_send
        self._reports = Reports()
        self._agenda = Agenda()
        self._reader = Reader(self._agenda, self._reports, interval=max(timedelta(seconds=1), self._max_interval))
        self._loaded = False
        #: Runs that are on record and not known to be with the broker; only for brokers that can't join the transaction.
        self._outgoing: dict[runs.Key, Entry] = {}
        # A beat before this one may have recorded runs that it could not hand over any more.
        self._recall_at: datetime | None = clock.EPOCH
        self._prune_at = clock.EPOCH

    def __len__(self) -> int:
        return len(self._agenda)

    def tick(self, now: datetime) -> float:
        """Send what is due and take in what has changed; return the seconds until there is something to do.

        Raises a DatabaseError or OperationalError when the database or the broker can't be used; calling again goes
        on where it stopped.
        """
        if not self._loaded:
            self._reader.load(now, since=min(now, self._since or now))
            self._loaded = True
            logger.info("Scheduling %d periodic task(s)", len(self._agenda))
        self._send_due(now)
        self._reader.look(now)
        self._send_due(now)
        self._recall(now)
        self._hand_over(now)
        self._prune(now)
        next_at = self._agenda.next_at()
        pause = self._max_interval if next_at is None else min(self._max_interval, next_at - now)
        return max(0.0, pause.total_seconds())

    # -- what is due

    def _send_due(self, now: datetime) -> None:
        while self._may_send() and (slots := self._agenda.due(now, BATCH)):
            try:
                self._send([run for slot in slots if (run := self._run(slot, now)) is not None], now)
            except BaseException:
                self._agenda.put_back(slots)
                raise

    def _run(self, slot: Slot, now: datetime) -> Run | None:
        entry, first = slot.entry, slot.at
        if first is None or (entry.expires is not None and now >= entry.expires):
            self._retire(entry)
            return None
        due_at = entry.last_run(first, now)
        if self._is_too_late(entry, due_at, now):
            logger.info(
                "Periodic task %r was due at %s, before BEAT_CRON_STARTING_DEADLINE: it waits for its next time", entry.name, due_at
            )
            self._advance(slot, due_at)
            return None
        if due_at != first:
            logger.info("Periodic task %r was due at %s and since: it runs once", entry.name, first)
        try:
            return Run(slot, due_at, entry.message(due_at))
        except Exception as error:  # noqa: BLE001  whatever the options of one entry are, the others go on
            self._reports.unsent(entry.name, f"{type(error).__name__}: {error}")
            self._advance(slot, due_at)
            return None

    def _is_too_late(self, entry: Entry, due_at: datetime, now: datetime) -> bool:
        return self._deadline is not None and isinstance(entry.occurrences, Crontab) and now - due_at > self._deadline

    def _retire(self, entry: Entry) -> None:
        logger.info("Periodic task %r has expired (%s); it is switched off", entry.name, entry.expires)
        if entry.pk is not None:
            rows.disable([entry.pk])
        self._agenda.remove(entry.name)

    def _send(self, batch: Sequence[Run], now: datetime) -> None:
        def send(part: Sequence[Run]) -> None:
            for run in self._record_and_publish(part, now):
                self._reports.forget(run.entry.name)
                logger.info("Sent periodic task %r (%s[%s])", run.entry.name, run.message.task, run.message.id)

        def fail(run: Run, error: Exception) -> None:
            self._reports.unsent(run.entry.name, f"{type(error).__name__}: {error}")

        _isolating(batch, send, fail)
        for run in batch:
            if run.slot.ticket:
                self._advance(run.slot, run.due_at)

    def _advance(self, slot: Slot, due_at: datetime) -> None:
        entry = slot.entry
        following = entry.next_run(due_at)
        self._agenda.move(slot, following or (entry.expires if entry.pk is not None else None))

    # -- one batch, one transaction

    def _record_and_publish(self, batch: Sequence[Run], now: datetime) -> Sequence[Run]:
        """Record the runs and hand their messages over; return those that nobody had recorded before."""
        while batch:
            try:
                return self._attempt(batch, now)
            except IntegrityError:
                # Another beat has sent some of them, or is about to: its record stands.
                known = runs.recorded(run.key for run in batch)
                if not known:
                    raise
                for run in batch:
                    if run.key in known:
                        self._leave_to_other(run, now)
                batch = [run for run in batch if run.key not in known]
        return batch

    def _leave_to_other(self, run: Run, now: datetime) -> None:
        logger.info("Periodic task %r, due at %s, was recorded by another beat", run.entry.name, run.due_at)
        # Should that beat die before it has sent it, it falls to this one.
        self._recall_at = self._recall_at or now + _RECALL_AFTER
        if run.entry.one_off:
            self._reader.lost(run.entry)

    def _attempt(self, batch: Sequence[Run], now: datetime) -> Sequence[Run]:
        joins = _joins()
        together = rows.installed() and rows.alias() == runs.alias()
        with transaction.atomic(using=runs.alias()):
            wanted = self._still_wanted(batch)
            runs.insert([(run.key, run.message.id, run.message.task) for run in wanted], sent_at=now if joins else None)
            if joins:
                client.publish([run.message for run in wanted], on_commit=False)
            if together:
                _mark(wanted)
        if not joins:
            self._outgoing.update((run.key, run.entry) for run in wanted)
        if not together:
            _mark(wanted)
        return wanted

    def _still_wanted(self, batch: Sequence[Run]) -> Sequence[Run]:
        """Leave out what was switched off or deleted since it was read, and hold the rest so that it stays."""
        keys = {run.entry.pk for run in batch if run.entry.pk is not None}
        if not keys:
            return batch
        enabled = rows.lock_enabled(keys)
        if enabled == keys:
            return batch
        gone = keys - enabled
        for run in batch:
            if run.entry.pk in gone:
                self._reader.lost(run.entry)
        return [run for run in batch if run.entry.pk not in gone]

    # -- runs that are on record and not with the broker

    def _recall(self, now: datetime) -> None:
        """Take up what other beats recorded and did not send."""
        if self._recall_at is None or now < self._recall_at or not self._may_send():
            return
        keys = runs.unsent(now, limit=BATCH)
        found = self._entries({name for name, _ in keys})
        for key in keys:
            if key[0] in found:
                self._outgoing.setdefault(key, found[key[0]])
            else:
                logger.warning("The run of periodic task %r due at %s is dropped: the task was deleted before it was sent", *key)
                runs.forget([key])
        self._recall_at = now if len(keys) == BATCH else None

    def _hand_over(self, now: datetime) -> None:
        """Publish what is on record. Until that succeeds it is tried again, always with the same task ids."""

        def send(part: Sequence[tuple[runs.Key, Entry]]) -> None:
            keys = [key for key, _ in part]
            with transaction.atomic(using=runs.alias()) if _joins() else nullcontext():
                client.publish([entry.message(due_at) for (_, due_at), entry in part], on_commit=False)
                runs.mark_sent(keys, now)
            for key in keys:
                del self._outgoing[key]

        def fail(item: tuple[runs.Key, Entry], error: Exception) -> None:
            key, _ = item
            self._reports.unsent(key[0], f"{type(error).__name__}: {error}")
            runs.forget([key])
            del self._outgoing[key]

        for batch in rows.chunks(list(self._outgoing.items()), BATCH):
            if self._may_send():
                _isolating(batch, send, fail)

    def _entries(self, names: set[str]) -> dict[str, Entry]:
        found = {name: entry for name in names if (entry := self._agenda.find(name)) is not None}
        # One-offs are switched off with their run, and still have to be sent.
        if rows.installed() and (rest := names - found.keys()):
            zone = schedule_zone()
            for columns, _ in rows.named(rest):
                try:
                    found[columns[1]] = rows.read(columns, zone=zone)
                except BrokenEntryError as error:
                    self._reports.broken(columns[1], str(error))
        return found

    def _prune(self, now: datetime) -> None:
        if now >= self._prune_at:
            more = runs.prune(now, self._reader.declared_names)
            self._prune_at = now + (timedelta(seconds=1) if more else _PRUNE_EVERY)


def _joins() -> bool:
    """Whether publishing is part of the transaction that records the runs."""
    broker = brokers.current()
    return broker.joins_transaction and getattr(broker, "alias", None) == runs.alias()


def _mark(done: Sequence[Run]) -> None:
    rows.mark_runs((run.entry.pk, run.due_at) for run in done if run.entry.pk is not None)
    if over := [run.entry.pk for run in done if run.entry.one_off and run.entry.pk is not None]:
        rows.disable(over)


def _isolating(batch: Sequence[T], send: Callable[[Sequence[T]], Any], fail: Callable[[T, Exception], None]) -> None:
    """Send a batch; if one of them is at fault, find it by halving, and send the others without it."""
    if not batch:
        return
    try:
        send(batch)
    except (OperationalError, DatabaseError) as error:
        if not isinstance(error, DataError | IntegrityError):
            raise
        failure: Exception = error
    except Exception as error:  # noqa: BLE001  one entry's arguments or queue must not stop the others
        failure = error
    else:
        return
    if len(batch) == 1:
        fail(batch[0], failure)
        return
    middle = len(batch) // 2
    _isolating(batch[:middle], send, fail)
    _isolating(batch[middle:], send, fail)
