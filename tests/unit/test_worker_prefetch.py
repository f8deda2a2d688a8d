"""Prefetch: a window of time, not a count."""

from types import SimpleNamespace
from typing import Any

from django_tasks import clock
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.prefetch import MOST, MOST_FROM_A_BROKER, Prefetch


class FakePool:
    """A pool that holds what the test says."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.waiting_count = 0
        self.since: list[float] = []

    def held(self) -> int:
        """Waiting and running."""
        return self.waiting_count + len(self.since)

    def waiting(self) -> int:
        """What waits."""
        return self.waiting_count

    def running(self) -> list[Any]:
        """What runs, since when."""
        return [SimpleNamespace(since=since) for since in self.since]


def prefetch(pool: FakePool, **options: Any) -> Prefetch:
    """Build one over a fake pool."""
    return Prefetch(pool, WorkerOptions(name="w", queues=("q",), **options))  # type: ignore[arg-type]


def test_the_first_claim_is_one_message_a_slot() -> None:
    """Nothing is known of run times yet, so nothing is hoarded."""
    assert prefetch(FakePool(1)).room() == 1
    assert prefetch(FakePool(4)).room() == 4


def test_short_tasks_are_claimed_by_the_hundred() -> None:
    """What takes a millisecond fills a window of 100 ms with a hundred; what takes nothing stops at the bound."""
    pool = FakePool()
    ahead = prefetch(pool)
    ahead.ran(0.001)
    assert ahead.room() == 100
    tiny = prefetch(pool)
    tiny.ran(0.0)
    assert tiny.room() == MOST


def test_a_bound_of_its_own_is_kept() -> None:
    """A message broker's messages are claimed in smaller portions; fewer are claimed only for longer tasks."""
    ahead = Prefetch(FakePool(2), WorkerOptions(name="w", queues=("q",), prefetch_window=0.1), MOST_FROM_A_BROKER)  # type: ignore[arg-type]
    ahead.ran(0.0)
    assert ahead.room() == 2 * MOST_FROM_A_BROKER
    ahead.ran(0.004)
    assert ahead.room() == 2 * 50


def test_a_claim_waits_until_half_of_the_last_one_is_done() -> None:
    """Large batches cost less than many small ones."""
    pool = FakePool()
    ahead = prefetch(pool)
    ahead.ran(0.001)
    pool.waiting_count = 60
    assert ahead.room() == 0
    pool.waiting_count = 40
    assert ahead.room() == 60


def test_long_tasks_are_claimed_one_by_one() -> None:
    """While the only slot is busy with long tasks nothing is claimed behind it."""
    pool = FakePool()
    ahead = prefetch(pool)
    ahead.ran(3.0)
    assert ahead.room() == 1
    pool.since = [clock.monotonic()]
    assert ahead.room() == 0


def test_one_long_run_makes_careful_at_once_and_short_ones_bold_slowly() -> None:
    """The estimate jumps up and creeps down."""
    ahead = prefetch(FakePool())
    ahead.ran(0.001)
    ahead.ran(1.0)
    assert ahead.room() == 1
    for _ in range(10):
        ahead.ran(0.001)
    assert 1 <= ahead.room() < 10


def test_a_slot_stuck_in_a_long_task_claims_nothing_behind_it() -> None:
    """However short the others are, what would wait behind a long one is left to other workers."""
    pool = FakePool()
    ahead = prefetch(pool)
    ahead.ran(0.0001)
    pool.since = [clock.monotonic() - 5]
    assert ahead.room() == 0
    two = FakePool(2)
    ahead = prefetch(two)
    ahead.ran(0.001)
    two.since = [clock.monotonic() - 5]
    assert ahead.room() == 100


def test_a_multiplier_counts_as_in_celery() -> None:
    """With WORKER_PREFETCH_MULTIPLIER set, run times don't matter."""
    pool = FakePool(2)
    pool.since = [clock.monotonic()]
    ahead = prefetch(pool, prefetch_multiplier=4)
    ahead.ran(0.0001)
    assert ahead.room() == 7


def test_a_process_takes_no_more_than_its_share() -> None:
    """Before its replacement a process claims only what it may still run."""
    ahead = prefetch(FakePool(), max_tasks_per_child=10)
    ahead.ran(0.0)
    ahead.taken(7)
    assert ahead.room() == 3
    ahead.taken(3)
    assert ahead.room() == 0


def test_what_was_claimed_while_tasks_were_shorter_is_too_much() -> None:
    """A hundred tiny tasks waiting are a moment's work; when they turn out to take 50 ms each, they are hoarded."""
    pool = FakePool()
    ahead = prefetch(pool)
    assert not ahead.hoards(1.0)
    ahead.ran(0.001)
    pool.waiting_count = 100
    assert not ahead.hoards(1.0)
    for _ in range(5):
        ahead.ran(0.05)
    assert ahead.hoards(1.0)
    pool.waiting_count = 5
    assert not ahead.hoards(1.0)
    ahead.ran(100.0)
    pool.waiting_count = 1
    assert not ahead.hoards(1.0), "what a free slot takes next is no hoard, however long tasks are"
    counted = prefetch(pool, prefetch_multiplier=200)
    counted.ran(10.0)
    assert not counted.hoards(1.0), "who sets a count gets that count"
