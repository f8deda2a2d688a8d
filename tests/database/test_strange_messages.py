"""Messages that no client of ours sends: whatever they hold, each must run, fail or become a dead letter, and hold up no other."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from django_tasks import result_backends, shared_task
from django_tasks.messages import Delivery
from django_tasks.protocol import _PROTOCOL
from django_tasks.worker.revoked import RevokedStamps
from tests.unit.worker_rig import Pushing, Rig, delivery, late

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])

#: Values of every kind that JSON has.
ODD: list[Any] = [
    *(5, 0, -1, 10**30, True, 1.5, 1e400, -1e400, float("nan"), 9.3e9, "x", "", "y" * 300, "\ud800", "\0"),
    *([], [1], ["a"], [["a"]], [{"a": 1}], {}, {"a": 1}, {"a": {"b": []}}, None),
]
#: Half a pair in an id of usual length, and times that no timer can be set to.
ODD += ["0\ud800" * 18, [9.3e9, 9.3e9], [-1, -1], [None, 1e300], [float("nan"), None]]
HEADERS = [*sorted(_PROTOCOL), "compression", "x-hidden-arguments", "x-lifted-revocation", "x-unknown-since", "periodic_task_name"]
#: What may stand where a signature belongs.
SIGNATURES: list[Any] = [
    {"subtask_type": "chord"},
    {"subtask_type": "chord", "kwargs": {"body": 5}},
    {"subtask_type": "chord", "kwargs": 5},
    {"subtask_type": []},
    {"subtask_type": "group", "kwargs": {"tasks": 5}},
    {"subtask_type": "chain", "kwargs": {"tasks": [5]}},
    {"options": 5},
    {"options": {"chord": 5, "task_id": []}},
    {"task": 5},
    {"task": "t", "args": 5},
    {"task": "t", "kwargs": [5], "options": {"task_id": {}}},
    {"task": "t", "args": [], "kwargs": {}, "options": {"task_id": "a", "group_id": [], "chord": {}}},
]


@shared_task(name="tests.strange.early", acks_late=False)
def early() -> None:
    """Do nothing."""


def strange(task: Any) -> Iterator[tuple[str, Delivery]]:
    """Yield messages, each wrong in one place, and what is wrong with them."""
    for name, value in product(HEADERS, ODD):
        yield f"{name}={value!r}", with_headers(task, {name: value})
    for value in ODD:
        yield f"stamps={value!r}", with_headers(task, {"stamped_headers": ["a"], "stamps": value})
        yield f"stamped_headers={value!r}", with_headers(task, {"stamped_headers": value, "stamps": {"a": 1}})
    for name in ("callbacks", "errbacks", "chain", "chord"):
        for value in [*ODD, *(signature if name == "chord" else [signature] for signature in SIGNATURES)]:
            yield f"{name}={value!r}", with_embedded(task, name, value)


def with_headers(task: Any, headers: dict[str, Any]) -> Delivery:
    usual = delivery(task)
    return replace(usual, envelope=replace(usual.envelope, headers={**usual.envelope.headers, **headers}))


def with_embedded(task: Any, name: str, value: Any) -> Delivery:
    usual = delivery(task)
    args, kwargs, embed = json.loads(usual.envelope.body)
    return replace(usual, envelope=replace(usual.envelope, body=json.dumps([args, kwargs, {**embed, name: value}]).encode()))


@pytest.mark.parametrize("task", [late, early])
@pytest.mark.parametrize(
    "backend",
    [
        "memory://strange",
        "db://default",
        pytest.param("db://postgres", marks=pytest.mark.postgres),
        pytest.param("db://mysql", marks=pytest.mark.mysql),
    ],
)
def test_no_message_is_stuck_or_ends_a_process(settings: Any, task: Any, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is received, run where it can be, and settled; nothing of it raises in the threads of a worker, and its outcome is stored."""
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://strange", "RESULT_BACKEND": backend}
    rig = Rig(Pushing("strange"))
    rig.pool._done = rig.thread.done
    rig.thread._revoked.stamps = RevokedStamps([("a", "2")])
    wrong: list[str] = []
    for what, one in strange(task):
        before = len(rig.consumer.settled)
        caplog.clear()
        try:
            rig.thread._take([one])
            for request in rig.pool.unstarted():
                rig.pool._perform(0, request)
            rig.thread._completer.flush(rig.consumer)  # type: ignore[arg-type]
        except Exception as error:
            wrong.append(f"{what}: {error!r}")
            rig.thread._completer.forget()
        else:
            wrong += [f"{what}: {text}" for text in caplog.messages if "could not be applied, either" in text]
            if len(rig.consumer.settled) == before:
                wrong.append(f"{what}: not settled")
        rig.thread._held.clear()
    result_backends.reset()
    assert wrong == []
