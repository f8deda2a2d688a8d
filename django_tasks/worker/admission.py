"""May this delivery run now? Answers for a whole batch, as data; does nothing about it."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from django_tasks import clock
from django_tasks.context import Request
from django_tasks.exceptions import (
    InvalidTaskError,
    NotRegistered,
    SerializationError,
    TaskRevokedError,
    WorkerLostError,
)
from django_tasks.messages import UNKNOWN_SINCE, Delivery, TaskMessage
from django_tasks.protocol import decode
from django_tasks.worker.ratelimits import RateLimits, parse_rate
from django_tasks.worker.revoked import RevokedTasks

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two looks at a message whose task is unknown, by how long it has waited: soon at first, for a worker that knows it
#: may be about to start.
_PAUSES: Final = ((1.0, 1.0), (3.0, 2.0), (float("inf"), 5.0))


class Answer(Enum):
    """Why a delivery may not run now."""

    UNREADABLE = "unreadable"  #: its body or headers can't be read: a dead letter
    UNKNOWN = "unknown task"  #: no task of this name here
    WORN_OUT = "worker lost"  #: handed out too often, its workers died
    EXPIRED = "expired"
    REVOKED = "revoked"
    EARLY = "early"  #: to be kept until ``Verdict.until``
    LIMITED = "rate limit"  #: to be kept until ``Verdict.until``


@dataclass(frozen=True, slots=True)
class Verdict:
    """A delivery that may not run now, and why.

    ``request`` is there when its message could be read; with ``until``, it may be received again from then on. ``since`` is the
    time from which a message of an unknown task has waited, where the message doesn't say so yet.
    """

    delivery: Delivery
    answer: Answer
    error: BaseException | None = None
    request: Request | None = None
    until: datetime | None = None
    since: datetime | None = None


class Admission:
    """The checks every delivery passes, in order of what they cost.

    ``find`` is the registry's look-up. ``limits`` overrides the rate limits of tasks (remote control).
    """

    def __init__(
        self,
        *,
        find: Callable[[str], Any],
        accept: Collection[str],
        hostname: str,
        pid: int,
        max_deliveries: int,
        unknown_grace: float,
        revoked: RevokedTasks,
        rates: RateLimits,
    ) -> None:
        self._find = find
        self._accept = accept
        self._hostname = hostname
        self._pid = pid
        self._max_deliveries = max_deliveries
        self._unknown_grace = timedelta(seconds=unknown_grace)
        self._revoked = revoked
        self._rates = rates
        #: Told before each message is read: one that ends the process must be known.
        self.reading: Callable[[str], None] = lambda tag: None
        self.rate_overrides: dict[str, str | float] = {}

    def admit(self, deliveries: Sequence[Delivery]) -> tuple[list[Request], list[Verdict]]:
        """Split a batch into what may run now, and verdicts on the rest."""
        now = clock.now()
        requests: list[Request] = []
        verdicts: list[Verdict] = []
        for delivery in deliveries:
            self.reading(delivery.tag)
            found = self._judge(delivery, now)
            if isinstance(found, Request):
                requests.append(found)
            else:
                verdicts.append(found)
        return requests, verdicts

    def _judge(self, delivery: Delivery, now: datetime) -> Request | Verdict:
        if delivery.deliveries > self._max_deliveries + 1:
            # Its error callbacks are in the message, but to read it may be what has ended every process that tried.
            return Verdict(delivery, Answer.WORN_OUT, self._worn_out(delivery))
        try:
            message = decode(delivery.envelope, accept=self._accept)
        except (SerializationError, InvalidTaskError) as error:
            return Verdict(delivery, Answer.UNREADABLE, error)
        task = self._find(message.task)
        request = Request(message=message, delivery=delivery, hostname=self._hostname, worker_pid=self._pid, definition=task)
        if task is None:
            return self._unknown(request, delivery, now)
        return self._refusal(request, delivery, message, now) or request

    @staticmethod
    def _worn_out(delivery: Delivery) -> WorkerLostError:
        return WorkerLostError(f"handed out {delivery.deliveries - 1} times: each time it was given back, or its worker was lost")

    def _refusal(self, request: Request, delivery: Delivery, message: TaskMessage, now: datetime) -> Verdict | None:
        if delivery.deliveries > self._max_deliveries:
            return Verdict(delivery, Answer.WORN_OUT, self._worn_out(delivery), request)
        if self._revoked.forbids(message):
            return Verdict(delivery, Answer.REVOKED, TaskRevokedError("revoked"), request)
        if message.expires is not None and message.expires <= now:
            return Verdict(delivery, Answer.EXPIRED, TaskRevokedError("expired"), request)
        if message.eta is not None and message.eta > now:
            return Verdict(delivery, Answer.EARLY, None, request, message.eta)
        return self._over_rate(request, delivery, now)

    def _over_rate(self, request: Request, delivery: Delivery, now: datetime) -> Verdict | None:
        task = request.definition
        rate = self.rate_overrides.get(task.name, task.rate_limit) if self.rate_overrides else task.rate_limit
        if not rate:
            return None
        try:
            wait = self._rates.wait_for(task.name, parse_rate(rate), now.timestamp())
        except ValueError as error:
            # The message has come already: without a verdict it would stay here for ever. A limit nobody can read is none.
            logger.error("Task %s[%s] runs without a limit: %s", task.name, request.message.id, error)  # noqa: TRY400  no crash of ours
            return None
        return Verdict(delivery, Answer.LIMITED, None, request, now + timedelta(seconds=wait)) if wait else None

    def _unknown(self, request: Request, delivery: Delivery, now: datetime) -> Verdict:
        eta = request.message.eta
        if eta is not None and eta > now:
            # By then, somebody may know it.
            return Verdict(delivery, Answer.EARLY, None, request, eta)
        error = NotRegistered(request.message.task)
        if not self._unknown_grace:
            return Verdict(delivery, Answer.UNKNOWN, error, request)
        # Said by the message, since it is seen now by one process and then by another.
        marked = _since(delivery.envelope.headers.get(UNKNOWN_SINCE))
        waited = max(timedelta(0), now - (marked or now))
        left = self._unknown_grace - waited
        if left <= timedelta(0):
            return Verdict(delivery, Answer.UNKNOWN, error, request)
        pause = next(pause for age, pause in _PAUSES if waited.total_seconds() < age)
        until = now + min(timedelta(seconds=pause), left)
        return Verdict(delivery, Answer.UNKNOWN, error, request, until, now if marked is None else None)


def _since(text: Any) -> datetime | None:
    try:
        return clock.parse_iso(text)
    except (TypeError, ValueError):
        return None
