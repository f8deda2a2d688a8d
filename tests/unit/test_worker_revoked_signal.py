"""``task_revoked``: sent, as in Celery, when a task is kept from running, and when one that runs is terminated."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks import shared_task, signals
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.executor import Executor
from django_tasks.messages import TaskMessage
from django_tasks.worker.recovery import CRASHED, TERMINATED, outcome_after_death, outcome_of_acknowledged
from tests.unit.worker_rig import delivery, late


@shared_task(name="tests.revoked.stopped")
async def stopped() -> None:
    """Be cancelled."""
    raise asyncio.CancelledError


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    """What receivers of the signal were told."""
    found: list[dict[str, Any]] = []

    def receive(sender: Any, **told: Any) -> None:
        found.append({"sender": sender, **{name: told[name] for name in ("request", "terminated", "signum", "expired")}})

    signals.task_revoked.connect(receive)
    yield found
    signals.task_revoked.disconnect(receive)


def test_a_task_whose_process_was_killed_for_it(heard: list[dict[str, Any]]) -> None:
    """Receivers must hear that it was terminated, and how; not of one whose process died."""
    one = delivery(late)
    outcome_after_death(one, CRASHED, "signal SIGSEGV", "w@h", followups)
    assert heard == []
    outcome_after_death(one, TERMINATED, "signal SIGKILL", "w@h", followups)
    (told,) = heard
    assert (told["sender"], told["request"].id) == (late, one.envelope.headers["id"])
    assert (told["terminated"], told["signum"], told["expired"]) == (True, signal.SIGKILL, False)


def test_a_task_that_was_acknowledged_before(heard: list[dict[str, Any]]) -> None:
    """Only its id is left of it."""
    outcome_of_acknowledged("id-1", "", "signal SIGKILL", "w@h", TERMINATED)
    assert [(told["sender"], told["request"].id, told["terminated"]) for told in heard] == [(None, "id-1", True)]


def test_a_coroutine_that_was_cancelled(heard: list[dict[str, Any]]) -> None:
    """Without a signal, as nobody was killed."""
    request = Request(message=TaskMessage(id="id-1", task=stopped.name), definition=stopped, terminated=True)
    asyncio.run(Executor(follow=followups).aexecute(request))
    assert [(told["sender"], told["terminated"], told["signum"]) for told in heard] == [(stopped, True, None)]
