"""Outcomes on their way into effect."""

from dataclasses import dataclass, field

from django_tasks.context import Request
from django_tasks.messages import Settlement, TaskMessage
from django_tasks.outcomes import Outcome
from django_tasks.result_backends.backend import NewChord, ReadyChord, ResultMeta


@dataclass(slots=True, eq=False)
class Batch:
    """Outcomes on their way into effect, and how far they have come."""

    outcomes: list[Outcome]
    marks: list[Request] = field(default_factory=list)
    #: Steps that are done.
    done: int = 0
    #: What is stored of the outcomes, and of tasks that will never run because of them.
    metas: list[ResultMeta] = field(default_factory=list)
    #: What is to be sent: what follows the tasks, and the bodies of chords.
    messages: list[TaskMessage] = field(default_factory=list)
    #: Chords to be opened before that.
    new_chords: list[NewChord] = field(default_factory=list)
    #: Chords that are ours to send, by group.
    chords: dict[str, ReadyChord] = field(default_factory=dict)
    claimed_at: float | None = None
    #: Chords whose bodies are among ``messages``.
    sent: list[str] = field(default_factory=list)
    #: What becomes of the deliveries.
    settlements: list[Settlement] = field(default_factory=list)

    def let_chords_go(self) -> None:
        """Forget what was claimed: it has lapsed, or was rolled back."""
        self.chords.clear()
        self.claimed_at = None


def is_suspect(outcome: Outcome) -> bool:
    """Whether this message was handed out before, and may have ended a process when its result was stored."""
    delivery = outcome.request.delivery
    return delivery is not None and delivery.deliveries > 1


def tags_of(batch: Batch) -> list[str]:
    """Return the tags of a batch's deliveries."""
    return [outcome.request.delivery.tag for outcome in batch.outcomes if outcome.request.delivery is not None]
