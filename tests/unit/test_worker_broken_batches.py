"""Outcomes that are applied one by one, since one of them broke their batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from django_tasks import chord
from django_tasks.messages import TaskMessage
from django_tasks.outcomes import NO_FOLLOWUPS, Followups
from django_tasks.result_backends.backend import NewChord
from django_tasks.worker import completer as completing
from tests.unit.test_worker_completer import World, body, part, world

__all__ = ["world"]


def test_a_body_is_sent_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chord whose last parts were both in the batch, the body must not be sent with each of them."""
    canvas, group_id = chord([part.s(1), part.s(2)], body.s()), str(uuid4())
    signature = {**canvas.body, "options": {**canvas.body.options, "task_id": canvas.freeze().id}}
    parts = [
        replace(world.done(group=group_id, group_index=place, embed={"chord": signature}), followups=NO_FOLLOWUPS) for place in range(2)
    ]
    bad = replace(world.done(), followups=Followups([TaskMessage(id="bad", task="bad")]))
    sent: list[str] = []

    def publish(messages: Sequence[TaskMessage], **options: Any) -> None:
        if any(message.task == "bad" for message in messages):
            raise ValueError("no such queue")
        sent.extend(message.task for message in messages)

    monkeypatch.setattr(completing, "publish", publish)
    world.completer.add(replace(world.done(), followups=Followups((), (), [NewChord(group_id, 2, signature)])))
    world.flush()
    for outcome in (*parts, bad):
        world.completer.add(outcome)
    assert len(world.flush()) == 3
    assert sent == ["tests.completer.body"]
