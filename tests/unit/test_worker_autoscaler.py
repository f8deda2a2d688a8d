"""The autoscaler: slow to add, slower to remove, never out of bounds."""

from django_tasks.worker.autoscaler import BUSY_FOR, IDLE_FOR, Autoscaler


def test_one_process_is_added_when_all_have_been_busy_for_a_while() -> None:
    """A short peak adds nothing, a lasting one adds one process at a time."""
    scaler = Autoscaler(most=3, least=1)
    assert scaler.wanted(1, 1, 0.0) == 1
    assert scaler.wanted(1, 1, BUSY_FOR) == 2
    assert scaler.wanted(2, 2, BUSY_FOR + 0.1) == 2
    assert scaler.wanted(2, 2, 2 * BUSY_FOR + 0.2) == 3
    assert scaler.wanted(3, 3, 10 * BUSY_FOR) == 3


def test_one_process_is_removed_after_a_long_idle_time() -> None:
    """Any busy moment starts the count again, and the lower bound holds."""
    scaler = Autoscaler(most=3, least=1)
    assert scaler.wanted(2, 1, 0.0) == 2
    assert scaler.wanted(2, 2, 1.0) == 2
    assert scaler.wanted(2, 1, 2.0) == 2
    assert scaler.wanted(2, 1, 2.0 + IDLE_FOR) == 1
    assert scaler.wanted(1, 0, 100 * IDLE_FOR) == 1
