"""What a worker says of its tasks to whoever monitors it: Celery's task events, with Celery's fields."""

import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec

from django_tasks import states
from django_tasks.context import Request
from django_tasks.events import Event, current, event
from django_tasks.events.buffer import PATIENCE, EventBuffer, install, uninstall
from django_tasks.exceptions import Reject
from django_tasks.executor import saferepr
from django_tasks.messages import Disposition
from django_tasks.outcomes import Outcome

logger = logging.getLogger("django_tasks.events")

P = ParamSpec("P")

#: Most characters of arguments that came without their text.
_REPR: Final = 1024
#: Most characters of a result whose task says nothing.
_RESULT: Final = 1024


def _harmless(say: "Callable[Concatenate[Announcer, P], None]", /) -> "Callable[Concatenate[Announcer, P], None]":
    """Keep what goes wrong with an event from the work that it is about: a slot that raised would never run a task again."""

    @wraps(say)
    def guarded(self: "Announcer", /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            say(self, *args, **kwargs)
        except Exception:
            logger.exception("An event could not be made; work goes on without it")

    return guarded


class Announcer:
    """One process's events of its tasks, in their order: nothing is said, and nothing costs, unless it is on.

    A task is received when it was admitted, started when a slot has it, and has ended when its result is stored and its message
    settled: who hears that it succeeded finds the result. Whatever is said goes through a buffer, so no task waits for it.
    """

    def __init__(self, hostname: str, *, on: bool, buffer: EventBuffer | None = None) -> None:
        self.on = on
        self._hostname = hostname
        self._buffer = buffer or EventBuffer(current)
        #: What will be said of runs that have ended, once these outcomes are in effect; by the identity of their requests.
        self._ended: dict[int, tuple[Outcome, list[Event]]] = {}

    def speak_for_process(self) -> None:
        """Let all else that this process says go the same way, ``Task.send_event`` behind what was said before it."""
        install(self._buffer)

    @property
    def at_start(self) -> Callable[[Request], None] | None:
        """What a pool is to call when a task gets its slot; None when nobody is to hear it."""
        return self.started if self.on else None

    @_harmless
    def received(self, requests: Iterable[Request]) -> None:
        """Say that these will run here."""
        said = [self._event("task-received", request, _received(request)) for request in requests if _speaks(request)]
        if said:
            self._buffer.add(said)

    @_harmless
    def started(self, request: Request) -> None:
        """Say that this one runs now; called in its slot."""
        if _speaks(request):
            self._buffer.add([self._event("task-started", request)])

    @_harmless
    def ending(self, outcome: Outcome) -> None:
        """Note what is to be said of a run; called in its slot, as the text of a result is made by the project's code."""
        if _speaks(outcome.request):
            self._ended[id(outcome.request)] = (outcome, self._events(outcome))

    @_harmless
    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Say what became of these, now that it is stored and settled."""
        said: list[Event] = []
        for outcome in outcomes:
            noted, events = self._ended.pop(id(outcome.request), (None, []))
            # Another one stands in the place of what could not be applied.
            if noted is not outcome:
                events = self._events(outcome) if _speaks(outcome.request) else []
            said += events
        if said:
            self._buffer.add(said)

    def forget(self) -> None:
        """Drop what was noted of runs that will never be in effect."""
        self._ended.clear()

    def close(self, patience: float = PATIENCE) -> None:
        """Send what is left, for ``patience`` seconds at most."""
        uninstall(self._buffer)
        self._buffer.close(patience)

    def _events(self, outcome: Outcome) -> list[Event]:
        return [self._event(type_, outcome.request, fields) for type_, fields in what_to_say(outcome)]

    def _event(self, type_: str, request: Request, fields: Mapping[str, Any] | None = None) -> Event:
        return event(type_, self._hostname, uuid=request.message.id, **(fields or {}))


def what_to_say(outcome: Outcome) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the types and fields of the events of an outcome; none of one that changes nothing, as Ignore, or a wait."""
    settlement = outcome.settlement
    match outcome.state:
        case states.SUCCESS:
            length = getattr(outcome.request.definition, "resultrepr_maxsize", _RESULT)
            yield "task-succeeded", {"result": saferepr(outcome.value, length), "runtime": outcome.runtime}
        case states.FAILURE:
            if settlement is not None and settlement.reason == "failed":
                # acks_on_failure=False: the message is not acknowledged, but put away.
                yield "task-rejected", {"requeue": False}
            yield "task-failed", _error(outcome)
            if isinstance(outcome.value, Reject):
                yield "task-rejected", {"requeue": False}
        case states.RETRY:
            yield "task-retried", _error(outcome)
        case states.REVOKED:
            yield "task-revoked", _revoked(outcome)
        case states.REJECTED:
            yield "task-rejected", {"requeue": settlement is not None and settlement.disposition is Disposition.REQUEUE}
        case states.RECEIVED if settlement is not None and settlement.disposition is Disposition.REQUEUE and settlement.counted:
            # Its process died, and it will run again.
            yield "task-rejected", {"requeue": True}


def _error(outcome: Outcome) -> dict[str, Any]:
    return {"exception": saferepr(outcome.value, _REPR), "traceback": outcome.traceback}


def _revoked(outcome: Outcome) -> dict[str, Any]:
    reason = str(outcome.value)
    terminated = reason == "terminated"
    signum = outcome.request.terminated_by if terminated else None
    # The start of a run whose process was killed is not known; a coroutine is cancelled without a signal.
    if terminated and outcome.started_at is None:
        signum = signal.SIGKILL
    return {"terminated": terminated, "signum": None if signum is None else int(signum), "expired": reason == "expired"}


def _received(request: Request) -> dict[str, Any]:
    message = request.message
    return {
        "name": message.shadow or message.task,
        "args": saferepr(message.args, _REPR) if message.argsrepr is None else message.argsrepr,
        "kwargs": saferepr(message.kwargs, _REPR) if message.kwargsrepr is None else message.kwargsrepr,
        "root_id": message.root_id,
        "parent_id": message.parent_id,
        "retries": message.retries,
        "eta": request.eta,
        "expires": request.expires,
    }


def _speaks(request: Request) -> bool:
    # A task that nobody knows here has no say in it.
    return bool(getattr(request.definition, "send_events", True))
