"""``worker()`` and ``run_pending()`` on Redis and RabbitMQ, with results in the database and in Redis."""

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from django_tasks import chain, chord, group, shared_task
from django_tasks.models import TaskResult
from django_tasks.testing import run_pending, travel, worker
from tests.places import RABBITMQ, on_servers, open_place
from tests.processes import wait_until
from tests.sampleapp.models import Effect
from tests.sampleapp.tasks import add, fail, flaky, nap, record, record_async, total

WAIT = 30
RESULTS = ["db://default", pytest.param("db://postgres", marks=pytest.mark.postgres), pytest.param("redis", marks=pytest.mark.redis)]
results_anywhere = pytest.mark.parametrize("results", RESULTS)
ALIASES = ["default", "postgres"]


@shared_task
def count_effects():
    """Return how many rows this task sees."""
    return Effect.objects.count()


@pytest.fixture
def results():
    """Where results are kept, unless a test says otherwise."""
    return "db://default"


@pytest.fixture
def place(request, settings, results):
    """A broker that is a server of its own, with nothing in it."""
    with ExitStack() as stack:
        place = stack.enter_context(open_place(request.param))
        if results == "redis":
            kept = stack.enter_context(open_place("redis"))
            options = {"RESULT_BACKEND_TRANSPORT_OPTIONS": kept.options["RESULT_BACKEND_TRANSPORT_OPTIONS"], **place.options}
            place = replace(place, result_backend=kept.result_backend, options=options)
        else:
            place = replace(place, result_backend=results)
        place.use(settings, {})
        yield place


def workflows():
    """Start one of each kind; give (result, value) pairs."""
    return [
        (add.delay(1, 2), 3),
        (group(add.s(number, 1) for number in range(5)).delay(), [1, 2, 3, 4, 5]),
        (chain(add.s(1, 1), add.s(2), add.s(3)).delay(), 7),
        (chord([add.s(number, number) for number in range(4)], total.s()).delay(), 12),
        (record_async.delay("async"), "async"),
        (flaky.delay("flaky", 2), 2),
    ]


# ---- a worker in a thread


@on_servers
@results_anywhere
@pytest.mark.parametrize("pool", ["solo", "threads"])
@pytest.mark.django_db(transaction=True, databases=ALIASES)
def test_a_worker(place, results, pool):
    """Tasks, workflows, retries and failures come to their ends; nothing is left on the server."""
    with worker(pool=pool, concurrency=3):
        for result, value in workflows():
            assert result.get(timeout=WAIT) == value
        with pytest.raises(ValueError, match="broken"):
            fail.delay().get(timeout=WAIT)
    assert sorted(effect.key for effect in Effect.objects.all()) == ["async", "flaky", "flaky", "flaky"]
    assert place.left() == 0


@on_servers
@pytest.mark.django_db(transaction=True, databases=ALIASES)
def test_a_worker_runs_what_is_delayed(place):
    """A countdown passes without a node, wherever the message waits meanwhile."""
    with worker():
        assert add.apply_async((1, 2), countdown=1.5).get(timeout=WAIT) == 3
    assert place.left() == 0


@pytest.mark.parametrize("place", [RABBITMQ], indirect=True)
@pytest.mark.django_db(transaction=True)
def test_a_worker_takes_part_in_time_travel(place):
    """What waits in the database for RabbitMQ is run when the test has travelled there."""
    with travel() as journey, worker():
        result = add.apply_async((1, 2), countdown=3600)
        journey.by(hours=1, seconds=1)
        assert result.get(timeout=WAIT) == 3


@on_servers
@pytest.mark.parametrize("results", ["redis"])
@pytest.mark.django_db
def test_a_worker_beside_a_transaction(place, django_capture_on_commit_callbacks):
    """In a TestCase a worker runs what commit hooks have sent, and sees none of the test's rows."""
    Effect.objects.create(key="mine", pid=0)
    with worker():
        with django_capture_on_commit_callbacks(execute=True):
            result = count_effects.delay()
        assert result.get(timeout=WAIT) == 0


@on_servers
@pytest.mark.django_db(transaction=True, databases=ALIASES)
def test_a_worker_gives_back_what_it_did_not_start(place):
    """What a worker has fetched and not run waits on the server for the next one."""
    with worker() as running:
        first, *others = [nap.delay(0.5, "first"), *(add.delay(number, 1) for number in range(3))]
        wait_until(running._child.pool.running, "the first task runs")
    assert first.get(timeout=WAIT) == 0.5
    left = [result for result in others if not result.ready()]
    assert place.left() == len(left) > 0
    with worker():
        assert [result.get(timeout=WAIT) for result in others] == [1, 2, 3]


@pytest.mark.parametrize("results", ["redis"])
@on_servers
def test_a_worker_needs_no_database(place, results):
    """With results in Redis, a test that may not touch the database can have a worker."""
    with worker():
        assert group(add.s(number, 1) for number in range(3)).delay().get(timeout=WAIT) == [1, 2, 3]


# ---- by hand, in the test's own thread


@on_servers
@pytest.mark.parametrize("results", [RESULTS[0], RESULTS[2]])
@pytest.mark.django_db
def test_running_by_hand_in_a_transaction(place, results, django_capture_on_commit_callbacks):
    """What the server has is run inside the TestCase's transaction, with all that comes of it; the results can be read."""
    with django_capture_on_commit_callbacks(execute=True):
        started = workflows()
        failed = fail.delay()
    outcomes = run_pending()
    assert [outcome.state for outcome in outcomes].count("FAILURE") == 1
    for result, value in started:
        assert result.get(timeout=0) == value
    assert failed.state == "FAILURE"
    assert Effect.objects.count() == 4
    assert run_pending() == []
    assert place.left() == 0
    if results == "db://default":
        assert TaskResult.objects.filter(status="SUCCESS").count() == len(outcomes) - 1 - 2


@pytest.mark.parametrize("results", ["redis"])
@on_servers
def test_running_by_hand_needs_no_database(place, results):
    """With results in Redis, a test that may not touch the database can run its tasks, too."""
    result = chain(add.s(1, 2), add.s(3)).delay()
    assert [outcome.value for outcome in run_pending()] == [3, 6]
    assert result.get(timeout=0) == 6


@on_servers
@pytest.mark.django_db(transaction=True)
def test_running_some_by_hand(place):
    """``limit`` and ``until_empty=False`` leave the rest on the server; errors are raised if asked for."""
    results = [add.delay(number, 1) for number in range(4)]
    assert len(run_pending(limit=1)) == 1
    assert [result.ready() for result in results].count(True) == 1
    assert place.left() == 3
    chain(add.s(1, 1), add.s(1)).delay()
    assert len(run_pending(until_empty=False)) == 4
    assert len(run_pending()) == 1
    fail.delay()
    record.delay("after")
    with pytest.raises(ValueError, match="broken"):
        run_pending(raise_errors=True)
    assert [outcome.state for outcome in run_pending()] == ["SUCCESS"]
    assert [effect.key for effect in Effect.objects.all()] == ["after"]


@on_servers
@pytest.mark.django_db(transaction=True)
def test_what_is_delayed_is_run_at_its_time(place):
    """A countdown is run when the test has travelled there, not before."""
    result = add.apply_async((1, 2), countdown=3600)
    assert run_pending() == []
    assert not result.ready()
    with travel(minutes=30):
        assert run_pending() == []
    assert [outcome.value for outcome in run_pending(now=timedelta(hours=1, seconds=1))] == [3]
    assert result.get(timeout=0) == 3
    assert place.left() == 0
