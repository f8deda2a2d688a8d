"""The states of a task, by Celery's names, and what they imply."""

from typing import Final

PENDING: Final = "PENDING"
RECEIVED: Final = "RECEIVED"
STARTED: Final = "STARTED"
SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
REVOKED: Final = "REVOKED"
REJECTED: Final = "REJECTED"
RETRY: Final = "RETRY"
IGNORED: Final = "IGNORED"
#: Ours: what ``Task.progress`` stores. Counts as a custom state, as in Celery's own examples.
PROGRESS: Final = "PROGRESS"

#: The task will not run any more and its result is final.
READY_STATES: Final = frozenset({SUCCESS, FAILURE, REVOKED})
#: The task may still run.
UNREADY_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
#: The stored result is an exception.
EXCEPTION_STATES: Final = frozenset({RETRY, FAILURE, REVOKED})
#: The stored exception is raised by ``AsyncResult.get()``.
PROPAGATE_STATES: Final = frozenset({FAILURE, REVOKED})
ALL_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED})

#: From the state that tells most to the one that tells least; None stands for every custom state.
PRECEDENCE: Final = (SUCCESS, FAILURE, None, REVOKED, STARTED, RECEIVED, REJECTED, RETRY, PENDING)
_RANK: Final = {state: rank for rank, state in enumerate(PRECEDENCE)}
_CUSTOM_RANK: Final = PRECEDENCE.index(None)


def precedence(state: str) -> int:
    """Rank a state: 0 for SUCCESS, larger for states that a later one may replace."""
    return _RANK.get(state, _CUSTOM_RANK)


class state(str):
    """A state that compares by precedence, as in Celery: ``state(STARTED) < state(SUCCESS)``."""

    __slots__ = ()

    def __gt__(self, other: str) -> bool:
        return precedence(self) < precedence(other)

    def __ge__(self, other: str) -> bool:
        return precedence(self) <= precedence(other)

    def __lt__(self, other: str) -> bool:
        return precedence(self) > precedence(other)

    def __le__(self, other: str) -> bool:
        return precedence(self) >= precedence(other)
