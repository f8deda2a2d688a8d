"""``app.events.State``: workers and tasks as their events describe them."""

import gc
import random

import pytest

from django_tasks import app, clock, states
from django_tasks.events.channel import event


def seen(state, type_, hostname="w1@host", **fields):
    """Feed an event as a receiver would hand it on."""
    said = event(type_, hostname, **fields)
    state.event({**said, "local_received": fields.get("local_received", clock.timestamp())})
    return state


@pytest.fixture
def state():
    return app.events.State()


@pytest.fixture
def run(state):
    """A task that went well."""
    seen(state, "task-received", uuid="1", name="shop.add", args="(2, 3)", kwargs="{}", root_id="1", parent_id=None, retries=0)
    seen(state, "task-started", uuid="1")
    seen(state, "task-succeeded", uuid="1", result="5", runtime=0.5)
    return state.tasks["1"]


class TestTasks:
    def test_a_run(self, run, state):
        """Name and arguments come with the first event, the result with the last; each leaves its time."""
        assert (run.name, run.state, run.result, run.runtime, run.ready) == ("shop.add", states.SUCCESS, "5", 0.5, True)
        assert run.received <= run.started <= run.succeeded == run.timestamp
        assert (run.worker.hostname, run.failed, run.exception) == ("w1@host", None, None)
        assert run.info() == {"args": "(2, 3)", "kwargs": "{}", "retries": 0, "result": "5", "runtime": 0.5, "root_id": "1"}
        assert run.info(["state"], extra=["name"]) == {"state": states.SUCCESS, "name": "shop.add"}
        assert (state.event_count, state.task_count, state.task_types()) == (3, 1, ["shop.add"])

    def test_events_in_any_order_end_alike(self, state):
        """What comes late adds what it knows, and takes nothing back."""
        said = [
            event("task-sent", "gen1@host", uuid="1", name="shop.add", queue="default"),
            event("task-received", "w1@host", uuid="1", name="shop.add", args="(1,)", kwargs="{}", eta=None),
            event("task-started", "w1@host", uuid="1"),
            event("task-failed", "w1@host", uuid="1", exception="ValueError('x')", traceback="..."),
        ]
        for seed in range(20):
            shuffled = app.events.State()
            for one in random.Random(seed).sample(said, len(said)):
                shuffled.event({**one, "local_received": clock.timestamp()})
            task = shuffled.tasks["1"]
            assert (task.state, task.exception, task.args, task.name) == (states.FAILURE, "ValueError('x')", "(1,)", "shop.add")
            assert (task.client, task.worker.hostname, task.timestamp) == ("gen1@host", "w1@host", said[-1]["timestamp"])
            assert all(getattr(task, name) is not None for name in ("sent", "received", "started", "failed"))

    def test_a_retry_begins_anew(self, state):
        """After a retry an earlier state is news, not history."""
        for subject in ("received", "started", "retried", "received"):
            seen(state, f"task-{subject}", uuid="1")
        assert state.tasks["1"].state == states.RECEIVED

    def test_custom_events_are_custom_states(self, state):
        """``task-halfway`` makes HALFWAY, until the task ends."""
        seen(state, "task-started", uuid="1")
        seen(state, "task-halfway", uuid="1", percent=50)
        assert (state.tasks["1"].state, state.tasks["1"].percent) == ("HALFWAY", 50)
        seen(state, "task-succeeded", uuid="1")
        assert state.tasks["1"].state == states.SUCCESS

    def test_what_nobody_told_is_none_and_what_nobody_tells_is_an_error(self, run):
        """Known fields are None until an event tells them; a typing mistake is no None."""
        assert run.eta is None
        with pytest.raises(AttributeError, match="exeption"):
            run.exeption  # noqa: B018

    def test_families(self, state):
        """Parents know their children, whoever was heard of first."""
        seen(state, "task-received", uuid="child", parent_id="parent", root_id="root")
        assert (state.tasks["child"].parent, state.tasks["child"].root) == (None, None)
        seen(state, "task-received", uuid="parent", parent_id="root", root_id="root")
        seen(state, "task-received", uuid="root")
        child, parent, root = (state.tasks[name] for name in ("child", "parent", "root"))
        assert (child.parent, child.root, set(root.children), set(parent.children)) == (parent, root, {parent}, {child})
        assert parent.as_dict()["children"] == ["child"]

    def test_indexes(self, run, state):
        """By type and by worker: a set, or ids and tasks by time when called."""
        seen(state, "task-received", "w2@host", uuid="2", name="shop.add")
        seen(state, "task-received", "w2@host", uuid="3", name="shop.mail")
        assert {task.uuid for task in state.tasks_by_type["shop.add"]} == {"1", "2"}
        assert [uuid for uuid, _ in state.tasks_by_type("shop.add")] == ["2", "1"]
        assert [uuid for uuid, _ in state.tasks_by_type("shop.add", limit=1, reverse=False)] == ["1"]
        assert {uuid for uuid, _ in state.tasks_by_worker("w2@host")} == {"2", "3"}
        assert [uuid for uuid, _ in state.tasks_by_time(limit=2)] == ["3", "2"]
        assert [uuid for uuid, _ in state.itertasks(limit=1)] == ["1"]
        assert list(state.tasks_by_type("unknown")) == []

    def test_memory_is_bounded(self):
        """What was told of first is forgotten first, in the indexes as well."""
        state = app.events.State(max_tasks_in_memory=10, max_workers_in_memory=3)
        for number in range(30):
            seen(state, "task-received", f"w{number}@host", uuid=str(number), name="shop.add")
        gc.collect()
        assert (list(state.tasks), len(state.workers)) == ([str(number) for number in range(20, 30)], 3)
        assert len(state.tasks_by_type["shop.add"]) == 10
        assert state.task_count == 30

    def test_clearing(self, run, state):
        """Tasks that are done go, those under way stay, unless all are to go."""
        seen(state, "task-started", uuid="2")
        state.clear_tasks()
        assert (list(state.tasks), state.event_count) == (["2"], 4)
        assert state.freeze_while(lambda: len(state.workers), clear_after=True) == 1
        assert (list(state.tasks), len(state.workers), state.event_count) == (["2"], 0, 0)
        state.clear(ready=False)
        assert not state.tasks


class TestWorkers:
    def test_who_has_gone_stays_known(self, state):
        """As OFFLINE, unless somebody is told that it goes; who was never heard of before isn't worth it."""
        seen(state, "worker-online")
        seen(state, "worker-offline")
        seen(state, "worker-offline", "stranger@host")
        assert [(worker.hostname, worker.status_string) for worker in state.workers.values()] == [("w1@host", "OFFLINE")]
        assert list(state.alive_workers()) == []

    def test_a_life(self, state):
        """Alive by heartbeats, dead two of them later, gone when it says so."""
        came, left = [], []
        state.on_node_join, state.on_node_leave = came.append, left.append
        seen(state, "worker-online", freq=2.0, sw_ident="django-tasks")
        seen(state, "worker-heartbeat", freq=2.0, active=3, processed=10)
        worker = state.workers["w1@host"]
        assert (worker.alive, worker.status_string, worker.active, worker.processed) == (True, "ONLINE", 3, 10)
        assert worker.id == f"w1@host.{worker.pid}"
        assert list(state.alive_workers()) == [worker]
        seen(state, "worker-offline")
        assert (worker.alive, "w1@host" in state.workers, came, left) == (False, False, [worker], [worker])

    def test_silence_is_death(self, state):
        """A worker that was last heard of longer than two heartbeats ago isn't alive; one that works is."""
        long_ago = clock.timestamp() - 5
        seen(state, "worker-heartbeat", "old@host", freq=2.0, local_received=long_ago)
        seen(state, "worker-heartbeat", "busy@host", freq=2.0, local_received=long_ago)
        seen(state, "task-started", "busy@host", uuid="1")
        assert [worker.hostname for worker in state.alive_workers()] == ["busy@host"]

    def test_a_clock_that_is_wrong_kills_nobody(self, state):
        """What counts is when an event came, not when its sender says that it was."""
        seen(state, "worker-heartbeat", freq=2.0, timestamp=0.0)
        assert state.workers["w1@host"].alive


def test_the_callback_sees_every_event(state):
    """Also of kinds that the state has no use for."""
    said = []
    state.event_callback = lambda _, one: said.append(one["type"])
    seen(state, "shop-sold", item="tea")
    seen(state, "task-mine")
    seen(state, "worker-online")
    assert (said, state.event_count, len(state.tasks)) == (["shop-sold", "task-mine", "worker-online"], 3, 0)
