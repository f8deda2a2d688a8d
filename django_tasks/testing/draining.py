"""Running what is due in the test's own thread, through a worker's own admission, executor and completer."""

import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks import client, deadletters, result_backends, signals, states
from django_tasks.brokers.broker import Broker, Consumer
from django_tasks.canvas.links import followups
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.executor import Executor
from django_tasks.messages import DeadMessage, Delivery, Disposition, Settlement
from django_tasks.models import Revocation
from django_tasks.outcomes import Outcome
from django_tasks.registry import registry
from django_tasks.testing.publications import COMMIT_HINT, Publication, UncommittedWarning
from django_tasks.testing.receiving import Intake
from django_tasks.testing.timetravel import Target, travel
from django_tasks.worker.admission import Admission
from django_tasks.worker.completer import Completer
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.revocations import learn_revocations
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.verdicts import outcome_of

#: Runs after which a test is taken to go round in circles.
MOST_RUNS: Final = 10_000
HOSTNAME: Final = "tests@localhost"


class Drain:
    """Runs messages of a broker here, one after the other. ``dead``: where dead letters go instead of the database."""

    def __init__(self, broker: Broker, dead: list[DeadMessage] | None) -> None:
        self._broker = broker
        self._dead = dead
        self._executor = Executor(follow=followups, middleware=client.middleware())
        self._revoked = RevokedTasks()
        self._admission = Admission(
            find=registry.find,
            accept=settings.ACCEPT_CONTENT,
            hostname=HOSTNAME,
            pid=os.getpid(),
            max_deliveries=settings.TASK_MAX_DELIVERIES,
            unknown_grace=0,
            revoked=self._revoked,
            # Without names there is no limit: what a rate limit holds back would only be missing here.
            rates=RateLimits(()),
        )
        self._completer = Completer(broker=broker, backend=result_backends.current(), hostname=HOSTNAME, wake=lambda: None)

    def run(self, limit: int | None, *, until_empty: bool, raise_errors: bool) -> list[Outcome]:
        """Run up to ``limit`` messages that are due; return what became of them, in order."""
        done: list[Outcome] = []
        intake = Intake(self._broker, f"{HOSTNAME}/{secrets.token_hex(6)}", self._bury)
        try:
            intake.begin()
            for delivery in self._deliveries(intake, limit, until_empty):
                outcome = self._run_one(delivery, intake.consumer)
                if outcome is None:
                    continue
                done.append(outcome)
                if raise_errors and outcome.state == states.FAILURE:
                    raise outcome.value
        finally:
            intake.close()
        return done

    def _deliveries(self, intake: Intake, limit: int | None, until_empty: bool) -> Iterator[Delivery]:
        if not until_empty:
            yield from self._present(intake, MOST_RUNS if limit is None else limit)
            return
        count = 0
        while limit is None or count < limit:
            if count >= MOST_RUNS:
                raise RuntimeError(f"gave up after {MOST_RUNS} runs: tasks publish tasks without end. Pass a limit, or until_empty=False.")
            if not (found := intake.take(1)):
                return
            count += 1
            yield found[0]

    def _present(self, intake: Intake, limit: int) -> Iterator[Delivery]:
        claimed = intake.take_present(limit)
        try:
            while claimed:
                yield claimed.pop(0)
        finally:
            # The test ends early, or a task's error is raised: what was not started waits as before.
            intake.consumer.settle([Settlement(delivery, Disposition.REQUEUE, counted=False) for delivery in claimed])

    def _bury(self, letters: Sequence[DeadMessage]) -> None:
        if self._dead is None:
            deadletters.record(letters)
        else:
            self._dead.extend(letters)

    def _run_one(self, delivery: Delivery, consumer: Consumer) -> Outcome | None:
        self._learn_revocation(delivery)
        requests, verdicts = self._admission.admit([delivery])
        outcome = self._execute(requests[0]) if requests else outcome_of(verdicts[0], HOSTNAME)
        self._completer.add(self._without_dead_letter(outcome))
        self._completer.flush(consumer)
        if isinstance(outcome.value, KeyboardInterrupt):
            raise outcome.value
        return None if outcome.state == states.RECEIVED else outcome

    def _learn_revocation(self, delivery: Delivery) -> None:
        task_id = str(delivery.envelope.headers.get("id") or "")
        backend = result_backends.current()
        if task_id and backend.reads and (meta := backend.fetch([task_id]).get(task_id)) is not None and meta.status == states.REVOKED:
            number = Revocation.objects.filter(task_id=task_id).values_list("id", flat=True).first()
            self._revoked.add({task_id: number or 0})
        if delivery.envelope.headers.get("stamped_headers"):
            # Again for each, as tasks may revoke. A test that may not touch the database has revoked nothing: it is refused.
            self._revoked.complete = False
            with suppress(Exception):
                learn_revocations(self._revoked)

    def _execute(self, request: Request) -> Outcome:
        if signals.task_received.receivers:
            signals.task_received.send(HOSTNAME, request=request)
        with as_in_autocommit() as seen:
            if self._executor.plan(request.definition).is_async:
                # On a loop around this thread, so that a coroutine's queries are made here, in the test's transaction.
                outcome = async_to_sync(self._executor.aexecute)(request)
            else:
                outcome = self._executor.execute(request)
            seen.append(outcome.value)
        return outcome

    def _without_dead_letter(self, outcome: Outcome) -> Outcome:
        settlement = outcome.settlement
        if self._dead is None or settlement is None or settlement.disposition is not Disposition.DEAD:
            return outcome
        self._dead.append(self._completer.dead(settlement, str(outcome.value or "")))
        return replace(outcome, settlement=Settlement(settlement.delivery, Disposition.ACK))


@contextmanager
def as_in_autocommit() -> Iterator[list[Any]]:
    """Let a task inside the test's transaction behave as in a worker, which has none around it.

    Its commit hooks are called when it has ended, and a query that failed doesn't spoil the test's transaction. Append the
    task's value or exception to the list.
    """
    seen: list[Any] = []
    inside = [connection for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    marks = [(connection, connection.savepoint(), len(connection.run_on_commit)) for connection in inside if not connection.needs_rollback]
    yield seen
    hooks = []
    for connection, savepoint, before in marks:
        hooks += connection.run_on_commit[before:]
        del connection.run_on_commit[before:]
        _close_savepoint(connection, savepoint, spoilt=any(isinstance(value, DatabaseError) for value in seen))
    for _, hook, *_ in hooks:
        hook()


def _close_savepoint(connection: BaseDatabaseWrapper, savepoint: str | None, *, spoilt: bool) -> None:
    if savepoint is None:
        return
    if connection.needs_rollback or spoilt:
        connection.needs_rollback = False
        connection.savepoint_rollback(savepoint)
    else:
        connection.savepoint_commit(savepoint)


def drain(
    broker: Broker,
    *,
    limit: int | None,
    until_empty: bool,
    now: Target | None,
    raise_errors: bool,
    dead: list[DeadMessage] | None,
    waiting: Callable[[], list[Publication]],
) -> list[Outcome]:
    """Run what is due in this thread; warn if there is nothing because everything waits for a commit."""
    with nullcontext() if now is None else travel(to=now):
        done = Drain(broker, dead).run(limit, until_empty=until_empty, raise_errors=raise_errors)
    if not done and limit != 0 and (held_back := waiting()):
        names = ", ".join(sorted({one.task for one in held_back}))
        warnings.warn(f"{len(held_back)} message(s) wait for a commit ({names}). {COMMIT_HINT}", UncommittedWarning, stacklevel=4)
    return done
