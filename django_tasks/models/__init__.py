"""The rows, and nothing else. What happens to them is written in the rooms that own them."""

from django_tasks.models.beat import BeatRun, BeatStart, BeatTerm
from django_tasks.models.events import Event
from django_tasks.models.queues import DeadLetter, Message, MessageState, Queue, Redelivery
from django_tasks.models.reruns import Rerun
from django_tasks.models.results import ChordCounter, ChordPart, GroupResult, TaskResult
from django_tasks.models.workers import Revocation, RevokedStamp, Worker

__all__ = [
    "BeatRun",
    "BeatStart",
    "BeatTerm",
    "ChordCounter",
    "ChordPart",
    "DeadLetter",
    "Event",
    "GroupResult",
    "Message",
    "MessageState",
    "Queue",
    "Redelivery",
    "Rerun",
    "Revocation",
    "RevokedStamp",
    "TaskResult",
    "Worker",
]
