"""Our ``State`` and Celery's are told the same, and know the same."""

import random

import pytest
from celery import Celery

from django_tasks import app, clock
from django_tasks.events.channel import Event, event

pytestmark = pytest.mark.interop

SUBJECTS = {
    "sent": {"name": "shop.add", "args": "(1,)", "kwargs": "{}", "queue": "q", "exchange": "", "routing_key": "q"},
    "received": {"name": "shop.add", "args": "(1,)", "kwargs": "{}", "retries": 0, "eta": None, "expires": None},
    "started": {},
    "retried": {"exception": "Retry()", "traceback": "..."},
    "failed": {"exception": "Oops()", "traceback": "..."},
    "succeeded": {"result": "5", "runtime": 0.5},
    "revoked": {"terminated": True, "signum": "15", "expired": False},
    "rejected": {"requeue": False},
    "halfway": {"percent": 50},
}
FIELDS = (
    "name",
    "state",
    "args",
    "kwargs",
    "retries",
    "exception",
    "result",
    "runtime",
    "exchange",
    "routing_key",
    "root_id",
    "parent_id",
    "client",
)


def story(seed: int) -> list[Event]:
    """Some hundred events of some tasks and workers, in any order."""
    chance, said = random.Random(seed), []
    now = clock.timestamp()
    for number in range(200):
        moment = {"timestamp": now + number / 1000, "local_received": now + number / 1000, "clock": number + 1}
        hostname = f"w{chance.randrange(3)}@h"
        if chance.random() < 0.1:
            kind = chance.choice(["worker-online", "worker-heartbeat", "worker-offline"])
            said.append({**event(kind, hostname, freq=2.0, active=number, processed=number), **moment})
            continue
        subject, task = chance.choice(list(SUBJECTS)), chance.randrange(20)
        family = {"root_id": "0", "parent_id": str(task - 1) if task else None} if subject in {"sent", "received"} else {}
        said.append({**event(f"task-{subject}", hostname, uuid=str(task), **SUBJECTS[subject], **family), **moment})
    return said


@pytest.fixture(scope="module")
def theirs():
    with Celery("theirs", set_as_current=False) as theirs:
        yield theirs


@pytest.mark.parametrize("seed", range(30))
def test_both_know_the_same(theirs, seed):
    """After any events in any order: states, fields, families, workers and counts."""
    ours, reference = app.events.State(), theirs.events.State()
    for one in story(seed):
        ours.event(dict(one))
        reference.event(dict(one))
    assert (ours.event_count, ours.task_count, ours.task_types()) == (reference.event_count, reference.task_count, reference.task_types())
    assert set(ours.tasks) == set(reference.tasks)
    for uuid, task in ours.tasks.items():
        other = reference.tasks[uuid]
        assert {name: getattr(task, name) for name in FIELDS} == {name: getattr(other, name) for name in FIELDS}
        assert {name: getattr(task, name) for name in SUBJECTS if name != "halfway"} == {
            name: getattr(other, name) for name in SUBJECTS if name != "halfway"
        }
        # Not the timestamp: ours is that of the event that made the state, Celery's often that of the last one, however late.
        assert (task.ready, task.info()) == (other.ready, other.info())
        assert {child.uuid for child in task.children} == {child.uuid for child in other.children}
        assert (task.worker and task.worker.hostname) == (other.worker and other.worker.hostname)
    assert {worker.hostname for worker in ours.alive_workers()} == {worker.hostname for worker in reference.alive_workers()}
    assert {name: (worker.active, worker.processed, worker.freq) for name, worker in ours.workers.items()} == {
        name: (worker.active, worker.processed, worker.freq) for name, worker in reference.workers.items()
    }
