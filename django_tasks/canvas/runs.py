"""A frozen workflow that is sent again: the same tasks once more, in a run of its own."""

from typing import Any

from django_tasks.messages import new_id


class Runs:
    """Whether a chord that was frozen here has been sent from here. Copies of it share this; what comes out of a message has none."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False

    def is_another(self) -> bool:
        """Note that a run begins now, and say whether there was one before."""
        before, self.begun = self.begun, True
        return before


def begin(sig: Any) -> None:
    """Begin a run of all chords in a copy that is about to travel in a message.

    Parts are counted by the id of the chord's header. In a second run that is another one: the first chord is complete, or
    still counts. A message that is delivered twice opens the same chord twice, because it holds no ``Runs``.
    """
    kind = sig.subtask_type
    if kind in {"group", "chain"}:
        for task in sig.kwargs["tasks"]:
            begin(task)
    elif kind == "chord":
        if sig.runs is not None and sig.runs.is_another():
            sig.id = sig.tasks.id = new_id()
        for task in sig.header_tasks():
            begin(task)
        if sig.body is not None:
            begin(sig.body)
