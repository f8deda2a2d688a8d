"""A queue in memory: what was published, and running it by hand."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest

from django_tasks import app, chain, chord, clock, group, shared_task
from django_tasks.exceptions import Reject
from django_tasks.testing import TasksMixin, assert_not_published, assert_published, in_memory, published, run_pending
from tests.sampleapp.tasks import add, fail, nap_async, total

seen = []


@shared_task
def note(value):
    """Remember the value."""
    seen.append(value)
    return value


@shared_task(bind=True, max_retries=2, default_retry_delay=60)
def stubborn(self, failures):
    """Fail this often; a minute between tries."""
    seen.append(self.request.retries)
    if self.request.retries < failures:
        raise self.retry(exc=ConnectionError("busy"))
    return self.request.retries


@shared_task
def rejected():
    """Refuse the message."""
    raise Reject("no")


@shared_task
def endless():
    """Publish itself again."""
    endless.delay()


@pytest.fixture(autouse=True)
def _forget():
    seen.clear()


@pytest.fixture
def queue():
    with in_memory() as queue:
        yield queue


def test_what_is_published_waits_until_it_is_run(queue):
    """A call is pending, then run; its result can be read and it stays among what was published."""
    result = add.delay(1, y=2)
    assert [(one.task, one.args, one.kwargs, one.queue) for one in queue.pending()] == [(add.name, [1], {"y": 2}, "default")]
    assert queue.messages == queue.pending(add)
    assert result.state == "PENDING"
    (outcome,) = queue.run_pending()
    assert (outcome.state, outcome.value, result.get(timeout=0)) == ("SUCCESS", 3, 3)
    assert queue.pending() == []
    assert [one.id for one in queue.published(add)] == [result.id]


def test_the_same_by_plain_functions(queue):
    """published, assert_published and run_pending speak of the innermost block."""
    with in_memory():
        add.delay(1, 2)
        assert len(published()) == 1
        assert_published(add, args=(1, 2))
        assert [outcome.value for outcome in run_pending()] == [3]
    assert published() == []
    assert_not_published(add)


def test_outside_of_a_block_they_say_what_to_open():
    """Without a queue in memory, what was published is not known."""
    with pytest.raises(RuntimeError, match=r"in_memory\(\), or use the pytest fixture `tasks`"):
        published()


def test_links_chains_and_chords_run_as_in_a_worker(queue):
    """What a task sets off runs in the same call."""
    add.apply_async((1, 1), link=note.s())
    steps = chain(add.s(1, 1), add.s(10), note.s()).delay()
    body = chord(group(add.s(number, 1) for number in range(3)), total.s())()
    queue.run_pending()
    assert (sorted(seen), steps.get(timeout=0), body.get(timeout=0)) == ([2, 12], 12, 6)


def test_mocks_of_run_are_called(queue):
    """A test's mock of a task's function stands for it in eager mode and in run_pending(), too, as long as the block lasts."""
    assert add.apply((1, 2)).get() == 3
    with mock.patch.object(add, "run", return_value=7) as run:
        result = add.delay(1, 2)
        queue.run_pending()
        assert (add(1, 2), add.apply((1, 2)).get(), result.get(timeout=0)) == (7, 7, 7)
    assert run.call_args_list == [mock.call(1, 2)] * 3
    assert add.apply((1, 2)).get() == 3


def test_one_generation_at_a_time(queue):
    """until_empty=False leaves what the run itself has published, limit what is beyond it."""
    chain(note.s(1), note.si(2)).delay()
    note.delay(3)
    assert len(queue.run_pending(until_empty=False)) == 2
    assert sorted(seen) == [1, 3]
    note.delay(4)
    assert len(queue.run_pending(limit=1)) == 1
    assert len(queue) == 1
    assert len(queue.run_pending(limit=1, until_empty=False)) == 1
    assert sorted(seen) == [1, 2, 3, 4]


def test_an_error_is_an_outcome_or_is_raised(queue):
    """A failure ends as a result and calls its errbacks; with raise_errors it is raised after that, and the rest waits."""
    result = fail.apply_async(("oh",), link_error=note.si("failed"))
    outcomes = queue.run_pending()
    assert [outcome.state for outcome in outcomes] == ["FAILURE", "SUCCESS"]
    assert (result.state, seen) == ("FAILURE", ["failed"])
    fail.delay("again")
    add.delay(1, 1)
    with pytest.raises(ValueError, match="again"):
        queue.run_pending(raise_errors=True, until_empty=False)
    assert [one.task for one in queue.pending()] == [add.name]


def test_raising_can_be_the_queues_habit():
    """in_memory(raise_errors=True) is the default of run_pending."""
    with in_memory(raise_errors=True) as queue:
        fail.delay()
        with pytest.raises(ValueError, match="broken"):
            queue.run_pending()
        fail.delay()
        assert len(queue.run_pending(raise_errors=False)) == 1


def test_a_delay_runs_when_its_time_has_come(queue):
    """A countdown waits; another now runs it, and so does travelling."""
    note.apply_async((1,), countdown=3600)
    note.apply_async((2,), countdown=7200)
    assert queue.run_pending() == []
    assert [round(one.countdown) for one in queue.pending()] == [3600, 7200]
    queue.run_pending(now=timedelta(hours=1, seconds=1))
    assert seen == [1]
    queue.travel(hours=2, seconds=1)
    queue.run_pending()
    assert seen == [1, 2]


def test_the_present_returns_with_the_end_of_the_block():
    """A queue's travels end with it."""
    with in_memory() as queue:
        queue.travel(days=400)
        queue.travel(to=datetime(2050, 1, 1, tzinfo=UTC))
        queue.travel(hours=1)
        assert abs(clock.now() - datetime(2050, 1, 1, 1, tzinfo=UTC)) < timedelta(minutes=1)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_retries_wait_for_their_time(queue):
    """A retry is delayed as in production, and is no publication of its own."""
    result = stubborn.delay(2)
    assert [outcome.state for outcome in queue.run_pending()] == ["RETRY"]
    for _ in range(2):
        queue.travel(minutes=1, seconds=1)
        queue.run_pending()
    assert (seen, result.get(timeout=0)) == ([0, 1, 2], 2)
    queue.assert_published(stubborn, times=1)


def test_what_has_expired_is_revoked(queue):
    """Expired messages don't run."""
    result = note.apply_async((1,), expires=60)
    queue.travel(minutes=2)
    assert [outcome.state for outcome in queue.run_pending()] == ["REVOKED"]
    assert (result.state, seen) == ("REVOKED", [])


def test_dead_letters_are_kept_without_a_database(queue):
    """What is rejected or unknown is in queue.dead."""
    rejected.delay()
    app.send_task("shop.tasks.unknown")
    queue.run_pending()
    assert [(one.envelope.headers["task"], one.reason) for one in queue.dead] == [
        (rejected.name, "rejected: no"),
        ("shop.tasks.unknown", "unknown task"),
    ]


def test_a_circle_is_noticed(queue, monkeypatch):
    """Tasks that publish tasks without end are named a circle."""
    monkeypatch.setattr("django_tasks.testing.draining.MOST_RUNS", 50)
    endless.delay()
    with pytest.raises(RuntimeError, match="gave up after 50 runs"):
        queue.run_pending()


def test_coroutines_run_in_the_tests_thread(queue):
    """An async def task is run, from a test that is a function and from one that is a coroutine."""
    result = nap_async.delay(0)
    queue.run_pending()
    assert result.get(timeout=0) == 0

    async def test():
        await nap_async.adelay(0)
        return await queue.arun_pending()

    assert [outcome.state for outcome in asyncio.run(test())] == ["SUCCESS"]


def test_assertions_pass_for_what_is_there(queue):
    """Arguments compare as they travel; what is left out may be anything."""
    add.apply_async(((1, 2), {"at": datetime(2030, 1, 1, tzinfo=UTC)}), queue="slow", countdown=30, priority=3)
    queue.assert_published(add)
    queue.assert_published(add.name, args=[(1, 2), {"at": datetime(2030, 1, 1, tzinfo=UTC)}], kwargs={})
    queue.assert_published(add, args=([1, 2], mock.ANY), queue="slow", countdown=30, priority=3, times=1)
    (one,) = queue.assert_published(countdown=timedelta(seconds=30), eta=clock.after(30))
    assert one.task == add.name
    queue.assert_not_published(add, args=(1, 2))
    queue.assert_not_published(fail)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"task": fail}, "tests.sampleapp.tasks.fail was not published."),
        ({"task": add, "args": (1, 3)}, "tests.sampleapp.tasks.add with args=(1, 3) was not published."),
        ({"task": add, "queue": "slow"}, "tests.sampleapp.tasks.add with queue='slow' was not published."),
        ({"task": add, "countdown": 90}, "tests.sampleapp.tasks.add with countdown=90 was not published."),
        ({"task": add, "kwargs": {"y": 2}}, "tests.sampleapp.tasks.add with kwargs={'y': 2} was not published."),
        ({"task": add, "eta": datetime(2030, 1, 1, tzinfo=UTC)}, "was not published."),
        ({"task": add, "times": 2}, "tests.sampleapp.tasks.add was published once, not 2 times."),
        ({"task": "shop.tasks.typo"}, "No task is registered as 'shop.tasks.typo'."),
    ],
)
def test_a_failed_assertion_says_what_was_published_instead(queue, wanted, said):
    """The message names what was looked for and lists what there is."""
    add.apply_async((1, 2), countdown=60)
    with pytest.raises(AssertionError) as failed:
        queue.assert_published(**wanted)
    assert said in str(failed.value)
    # What is left of the minute: less than all of it on a busy machine.
    assert re.search(r"^  1\. tests\.sampleapp\.tasks\.add\(1, 2\)  queue='default', countdown=[56]", str(failed.value), re.MULTILINE)


def test_every_way_to_assert_takes_the_same_criteria(queue):
    """The queue, the plain functions and the mixin look for the same things; a misspelt criterion is an error, not a match."""

    class Tests(TasksMixin):
        def runTest(self):
            self.tasks = queue
            for found in (self.assertPublished, queue.assert_published, assert_published):
                assert len(found(add, args=[1, 2], queue="q", priority=5, countdown=60, times=1)) == 1
            for absent in (self.assertNotPublished, queue.assert_not_published, assert_not_published):
                absent(add, queue="other")
                absent(add, priority=6)
                with pytest.raises(AssertionError, match="was published once"):
                    absent(add, countdown=60)
                with pytest.raises(TypeError, match="prority"):
                    absent(add, prority=5)
            chain(add.s(1, 1), add.s(1)).delay()
            assert len(self.run_pending(until_empty=False)) == 1
            assert len(run_pending(1, until_empty=False, now=timedelta(hours=1))) == 1

    add.apply_async((1, 2), queue="q", priority=5, countdown=60)
    Tests().runTest()


def test_an_unwanted_publication_is_shown(queue):
    """assert_not_published lists what it found."""
    queue.assert_not_published()
    add.delay(1, 2)
    with pytest.raises(AssertionError, match=r"add was published once\.\nPublished was:\n  1\. tests\.sampleapp\.tasks\.add\(1, 2\)"):
        queue.assert_not_published(add)
    with pytest.raises(TypeError, match="is no task"):
        queue.assert_published(42)


def test_clear_forgets(queue):
    """After clear() nothing waits and nothing was published."""
    add.delay(1, 2)
    queue.clear()
    assert (queue.published(), queue.pending(), queue.run_pending()) == ([], [], [])


def test_blocks_share_nothing():
    """Each block has messages and results of its own."""
    with in_memory():
        task_id = add.delay(1, 2).id
        run_pending()
    with in_memory() as queue:
        assert (len(queue), app.AsyncResult(task_id).state) == (0, "PENDING")


def test_tasks_of_a_block_end_with_it():
    """A task declared inside a function is forgotten, so that its name is free again."""

    def declared(value):
        @shared_task(name="tests.local")
        def local():
            return value

        return local

    for value in (1, 2):
        with in_memory():
            declared(value).delay()
            assert [outcome.value for outcome in run_pending()] == [value]
    assert "tests.local" not in app.tasks
