"""A real worker, started, fed, stopped and killed as users and machines do it."""

import os
import signal
import time
from importlib.util import find_spec
from typing import Any

import pytest
from django.core.management import call_command

from django_tasks import brokers, states
from django_tasks.exceptions import NotRegistered, SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from django_tasks.models import DeadLetter, Message, TaskResult, Worker
from tests.places import Place, on_databases, on_one_of_each, on_servers
from tests.processes import StartWorker, alive, state_of, wait_until
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo"])
def test_every_pool_runs_functions_and_coroutines(start_worker: StartWorker, place: Place, pool: str) -> None:
    """It says that it is ready, results of both kinds come back, and a warm shutdown ends with status 0.

    On PostgreSQL its connections are of a pool (where psycopg_pool is installed), which no two processes may share.
    """
    with_pool = place.name == "postgres" and find_spec("psycopg_pool") is not None
    worker = start_worker("-P", pool, "-c", "2", **({"POSTGRES_POOL": '{"min_size": 2, "max_size": 6}'} if with_pool else {}))
    worker.says(" ready.")
    sums = [tasks.add.delay(number, 1) for number in range(20)]
    naps = [tasks.nap_async.delay(0.01) for _ in range(5)]
    assert [result.get(timeout=50) for result in sums] == list(range(1, 21))
    assert [result.get(timeout=50) for result in naps] == [0.01] * 5
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output


@on_one_of_each
def test_a_failure_comes_back_as_its_own_class_with_its_traceback(start_worker: StartWorker, place: Place) -> None:
    """The caller's get() raises what the task raised; the traceback names the task's line."""
    start_worker("-c", "1")
    result = tasks.fail.delay("on purpose")
    with pytest.raises(ValueError, match="on purpose"):
        result.get(timeout=50)
    assert result.state == states.FAILURE
    assert "raise ValueError(text)" in result.traceback


def test_a_task_of_an_unknown_name_is_kept(start_worker: StartWorker, place: Place) -> None:
    """Its result is FAILURE NotRegistered, and its message lies in the dead letters, ready to be replayed."""
    from django_tasks import app

    worker = start_worker("-c", "1", TEST_UNKNOWN_TASK_GRACE="2")
    result = app.send_task("nowhere.to.be.found", args=[1])
    with pytest.raises(NotRegistered):
        result.get(timeout=50)
    # Outside of a database results come first, and messages are settled after them.
    wait_until(DeadLetter.objects.exists, "the dead letter")
    dead = DeadLetter.objects.get()
    assert (dead.task, dead.task_id, dead.reason) == ("nowhere.to.be.found", result.id, "unknown task")
    worker.says("tasks dead replay")
    wait_until(lambda: place.left() == 0, "the queue to be empty")


def test_warm_shutdown_finishes_what_runs_and_gives_back_the_rest(start_worker: StartWorker, place: Place) -> None:
    """The running task's result is there, the waiting ones are back in the queue uncounted, and the status is 0."""
    worker = start_worker("-c", "1")
    running = tasks.nap.delay(1.0)
    wait_until(lambda: state_of(running.id) == states.STARTED, "the first task to start")
    waiting = [tasks.add.delay(1, number) for number in range(5)]
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output
    assert state_of(running.id) == states.SUCCESS
    assert place.left() == len(waiting)
    if place.alias:
        left = Message.objects.using(place.alias).filter(task_id__in=[result.id for result in waiting])
        assert sorted(left.values_list("deliveries", "claimed_by")) == [(0, None)] * 5
    assert Worker.objects.get().stopped_at is not None


def test_cold_shutdown_stops_at_once_and_loses_nothing(start_worker: StartWorker, place: Place) -> None:
    """A signal that comes again a second later ends the worker although a task never returns; its message is back in the queue."""
    worker = start_worker("-c", "1")
    result = tasks.stuck.delay()
    wait_until(lambda: state_of(result.id) == states.STARTED, "the task to start")
    worker.signal(signal.SIGTERM)
    worker.says("Warm shutdown")

    def ended() -> bool:
        worker.signal(signal.SIGTERM)
        return worker.process.poll() is not None

    wait_until(ended, "its end")
    assert worker.ends() == 1
    assert brokers.current().size(place.queue) == 1
    if place.alias:
        assert Message.objects.using(place.alias).get().claimed_by is None


def test_a_child_that_dies_costs_its_task_a_try_and_nothing_else(start_worker: StartWorker, place: Place) -> None:
    """A task that kills its process is tried TASK_MAX_DELIVERIES times, fails, and becomes a dead letter; others run on."""
    start_worker("-c", "2")
    bad = tasks.die.delay("bad")
    good = [tasks.record.delay(f"good {number}") for number in range(50)]
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        bad.get(timeout=50)
    assert Effect.objects.filter(key="bad").count() == 3
    wait_until(DeadLetter.objects.exists, "the dead letter")
    assert DeadLetter.objects.get().reason == "worker lost"
    assert [result.get(timeout=50) for result in good] == [f"good {number}" for number in range(50)]
    wait_until(lambda: place.left() == 0, "the queue to be empty")


def test_a_killed_worker_loses_nothing(start_worker: StartWorker, place: Place) -> None:
    """After kill -9 of the whole worker another one does its work, once the leases have lapsed."""
    environment = {"TEST_WORKER_LEASE": "2"}
    first = start_worker("-c", "2", **environment)
    results = [tasks.nap.delay(0.05, f"nap {number}") for number in range(100)]
    wait_until(lambda: Effect.objects.count() >= 5, "some tasks to run")
    os.killpg(first.pid, signal.SIGKILL)
    first.process.wait()
    start_worker("-c", "2", **environment)
    assert [result.get(timeout=60) for result in results] == [0.05] * 100
    assert set(Effect.objects.values_list("key", flat=True)) == {f"nap {number}" for number in range(100)}
    wait_until(lambda: place.left() == 0, "the queue to be empty")


@on_one_of_each
def test_children_end_when_their_supervisor_is_killed(start_worker: StartWorker, place: Place) -> None:
    """Kill -9 of the supervisor alone leaves no orphan behind that works on for ever."""
    worker = start_worker("-c", "2")
    tasks.add.delay(1, 2).get(timeout=50)
    children = worker.children()
    assert len(children) == 3
    worker.signal(signal.SIGKILL)
    worker.process.wait()
    wait_until(lambda: not any(alive(pid) for pid in children), "the children to end")


def test_a_hard_time_limit_ends_a_task_that_never_returns(start_worker: StartWorker, place: Place) -> None:
    """The task fails with TimeLimitExceeded, is not tried again, and the next one runs; the log has its name and where it was."""
    worker = start_worker("-c", "1")
    bad = tasks.stuck.apply_async(time_limit=0.5)
    with pytest.raises(TimeLimitExceeded):
        bad.get(timeout=50)
    assert tasks.add.delay(1, 1).get(timeout=50) == 2
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    worker.says(f"{tasks.stuck.name}[{bad.id}] failed: its hard time limit of 0.5s has passed")
    assert "in stuck" in worker.output


@on_one_of_each
@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_a_soft_time_limit_is_raised_in_the_task(start_worker: StartWorker, place: Place, pool: str) -> None:
    """Functions and coroutines that wait too long fail with SoftTimeLimitExceeded."""
    start_worker("-P", pool, "-c", "2")
    for late in (tasks.nap_async.apply_async((30,), soft_time_limit=0.3), tasks.busy.apply_async((30,), soft_time_limit=0.3)):
        with pytest.raises(SoftTimeLimitExceeded):
            late.get(timeout=50)


def test_retries_come_back_and_end(start_worker: StartWorker, place: Place) -> None:
    """A flaky task succeeds at its third try; one that never does fails with its own error."""
    start_worker("-c", "1")
    assert tasks.flaky.delay("ok", 2).get(timeout=50) == 2
    assert Effect.objects.filter(key="ok").count() == 3
    with pytest.raises(ConnectionError, match="try 3"):
        tasks.flaky.delay("bad", 10).get(timeout=50)
    assert Effect.objects.filter(key="bad").count() == 4


def test_a_delayed_task_waits_and_then_runs_soon(start_worker: StartWorker, place: Place) -> None:
    """It starts no earlier than its time, and soon after it; others pass it, and what is due in an hour."""
    start_worker("-c", "1")
    begun = time.time()
    late, far = tasks.moment.apply_async(countdown=1.5), tasks.moment.apply_async(countdown=3600)
    assert tasks.add.delay(1, 1).get(timeout=50) == 2
    assert late.get(timeout=50) >= begun + 1.5
    assert far.state == states.PENDING
    wait_until(lambda: place.left() == 1, "only the one that is due in an hour to be left")


@on_databases
def test_larger_priorities_run_sooner(start_worker: StartWorker, place: Place) -> None:
    """What waits is taken in the order of its priority, whatever the order in which it was sent."""
    for key, priority in (("low", -5), ("none", None), ("high", 9)):
        tasks.record.apply_async((key,), priority=priority)
    worker = start_worker("-c", "1", "--drain")
    assert worker.ends() == 0, worker.output
    assert list(Effect.objects.order_by("id").values_list("key", flat=True)) == ["high", "none", "low"]


@on_servers
def test_larger_priorities_run_sooner_on_servers_too(
    start_worker: StartWorker, place: Place, settings: Any, child_environment: dict[str, str]
) -> None:
    """The same scale and the same order as in a database; RabbitMQ has priorities where its queues are declared with them."""
    place.options["TASK_QUEUE_MAX_PRIORITY"] = 9
    place.use(settings, child_environment)
    for key, priority in (("none", None), ("low", 1), ("high", 9), ("middle", 5)):
        tasks.record.apply_async((key,), priority=priority)
    worker = start_worker("-c", "1", "--drain")
    assert worker.ends() == 0, worker.output
    assert list(Effect.objects.order_by("id").values_list("key", flat=True)) == ["high", "middle", "low", "none"]


@on_one_of_each
def test_links_follow_success_and_failure(start_worker: StartWorker, place: Place) -> None:
    """Link gets the result, link_error the failed task's id."""
    start_worker("-c", "1")
    tasks.add.apply_async((2, 3), link=tasks.record.s())
    failed = tasks.fail.apply_async(link_error=tasks.record.s())
    wait_until(lambda: Effect.objects.count() == 2, "both callbacks")
    assert set(Effect.objects.values_list("key", flat=True)) == {"5", failed.id}


def test_drain_ends_when_nothing_is_left_to_run(start_worker: StartWorker, place: Place) -> None:
    """Tasks that a task sends are run, too; what is due tomorrow stays."""
    tasks.add.apply_async((1, 1), countdown=86400)
    for number in range(100):
        tasks.add.apply_async((number, 1), link=tasks.record.s())
    worker = start_worker("-c", "2", "--drain")
    assert worker.ends() == 0, worker.output
    assert Effect.objects.count() == 100
    assert place.left() == 1
    assert "ERROR" not in worker.output


def test_queues_are_chosen_and_excluded(start_worker: StartWorker, place: Place) -> None:
    """-Q takes only these queues, whatever characters their names have."""
    odd, other = place.named('größe "1"; drop % table'), place.named("other")
    tasks.record.apply_async(("odd",), queue=odd)
    tasks.record.apply_async(("other",), queue=other)
    worker = start_worker("-c", "1", "-Q", f"{odd},{other}", "-X", other, "--drain")
    assert worker.ends() == 0, worker.output
    assert list(Effect.objects.values_list("key", flat=True)) == ["odd"]
    assert (brokers.current().size(odd), brokers.current().size(other)) == (0, 1)


@on_one_of_each
def test_processes_are_replaced_after_their_share_of_tasks(start_worker: StartWorker, place: Place) -> None:
    """With --max-tasks-per-child 5, twenty tasks need at least four processes."""
    results = [tasks.whoami.delay() for _ in range(20)]
    worker = start_worker("-c", "1", "--max-tasks-per-child", "5", "--drain")
    assert worker.ends() == 0, worker.output
    assert len({result.get(timeout=50) for result in results}) == 4


@on_one_of_each
def test_a_revoked_task_does_not_run(start_worker: StartWorker, place: Place) -> None:
    """A task revoked before a worker has it ends REVOKED; one that runs is stopped with terminate=True."""
    early = tasks.record.delay("never")
    early.revoke()
    worker = start_worker("-c", "1")
    wait_until(lambda: state_of(early.id) == states.REVOKED, "the first task to be revoked")
    running = tasks.stuck.delay()
    wait_until(lambda: state_of(running.id) == states.STARTED, "the second task to start")
    running.revoke(terminate=True)
    wait_until(lambda: state_of(running.id) == states.REVOKED, f"the second task to be terminated; the worker said\n{worker.output}")
    assert not Effect.objects.exists()


def test_a_paused_queue_rests_until_it_is_resumed(start_worker: StartWorker, place: Place) -> None:
    """Messages wait in a paused queue, and run once it is resumed."""
    worker = start_worker("-c", "1")
    tasks.add.delay(1, 1).get(timeout=50)
    call_command("tasks", "queues", "pause", place.queue, "--reason", "test")
    worker.says(f"(paused: {place.queue})")
    waiting = tasks.record.delay("paused")
    assert tasks.record.AsyncResult(waiting.id).state == states.PENDING
    call_command("tasks", "queues", "resume", place.queue)
    assert waiting.get(timeout=50) == "paused"


@on_one_of_each
def test_two_workers_of_one_name_share_the_work(start_worker: StartWorker, place: Place) -> None:
    """Both run, one warns, and every task runs exactly once."""
    first = start_worker("-c", "1", "-n", "twin@here")
    tasks.add.delay(1, 1).get(timeout=50)
    second = start_worker("-c", "1", "-n", "twin@here")
    second.says("Another worker is named 'twin@here'")
    results = [tasks.record.delay(f"task {number}") for number in range(100)]
    assert len([result.get(timeout=50) for result in results]) == 100
    assert Effect.objects.count() == 100
    assert Worker.objects.filter(name="twin@here").count() == 2
    first.signal(signal.SIGINT)
    assert first.ends() == 0


@on_databases
def test_an_unserializable_result_is_a_failure_that_says_so(start_worker: StartWorker, place: Place) -> None:
    """The task has run, and its caller learns why there is no result."""
    start_worker("-c", "1")
    result = tasks.unserializable.delay()
    with pytest.raises(Exception, match="object"):
        result.get(timeout=50)
    row = TaskResult.objects.using(result.backend.alias).get(task_id=result.id)
    assert row.status == states.FAILURE
    assert '"EncodeError"' in row.result


def test_acks_early_runs_at_most_once(start_worker: StartWorker, place: Place) -> None:
    """With acks_late=False a task whose process dies fails at once and is not tried again."""
    start_worker("-c", "1")
    result = tasks.die_early.delay("early")
    with pytest.raises(WorkerLostError):
        result.get(timeout=50)
    assert Effect.objects.filter(key="early").count() == 1
    wait_until(lambda: place.left() == 0, "the queue to be empty")


@on_one_of_each
def test_a_task_that_was_acknowledged_early_ends_as_what_ended_it_says(start_worker: StartWorker, place: Place) -> None:
    """Revoked and stopped it is REVOKED, over its hard limit it fails with TimeLimitExceeded; neither runs again."""
    worker = start_worker("-c", "2")
    stopped = tasks.stuck_early.delay("stopped")
    wait_until(lambda: Effect.objects.filter(key="stopped").exists(), f"the task to run; the worker said\n{worker.output}")
    overdue = tasks.stuck_early.apply_async(["overdue"], time_limit=0.5)
    stopped.revoke(terminate=True)
    wait_until(lambda: state_of(stopped.id) == states.REVOKED, f"the task to be revoked; the worker said\n{worker.output}")
    with pytest.raises(TimeLimitExceeded):
        overdue.get(timeout=50)
    assert sorted(Effect.objects.values_list("key", flat=True)) == ["overdue", "stopped"]
    wait_until(lambda: place.left() == 0, "the queue to be empty")
