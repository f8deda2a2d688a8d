"""Rate limits and their spelling."""

import pytest

from django_tasks.messages import TaskMessage
from django_tasks.worker.ratelimits import RateLimits, parse_rate
from django_tasks.worker.revoked import RevokedTasks


@pytest.mark.parametrize(("text", "rate"), [("10/s", 10.0), ("30/m", 0.5), ("36/h", 0.01), (5, 5.0), ("2.5", 2.5), (None, 0.0), ("", 0.0)])
def test_rates_are_read_as_celery_writes_them(text: object, rate: float) -> None:
    """Every form that Celery documents gives tasks a second."""
    assert parse_rate(text) == pytest.approx(rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["ten/s", "10/d", "/", "1/2/3"])
def test_a_rate_that_cannot_be_read_is_named(text: str) -> None:
    """The error shows the value and the forms that are allowed."""
    with pytest.raises(ValueError, match="10/s, 10/m or 10/h") as caught:
        parse_rate(text)
    assert repr(text) in str(caught.value)


def test_a_bucket_spreads_tasks_evenly() -> None:
    """One token at once, the next only when it is due."""
    limits = RateLimits(["slow"])
    assert limits.wait_for("slow", 2.0, 100.0) == 0.0
    assert limits.wait_for("slow", 2.0, 100.0) == pytest.approx(0.5)
    assert limits.wait_for("slow", 2.0, 100.4) == pytest.approx(0.1)
    assert limits.wait_for("slow", 2.0, 100.5) == 0.0


def test_time_without_tasks_saves_up_no_burst() -> None:
    """After a long pause one task may go at once, not many."""
    limits = RateLimits(["slow"])
    limits.wait_for("slow", 1.0, 0.5)
    assert limits.wait_for("slow", 1.0, 1000.0) == 0.0
    assert limits.wait_for("slow", 1.0, 1000.0) == pytest.approx(1.0)


def test_a_task_without_a_bucket_has_no_limit() -> None:
    """Names that came after the start are let through."""
    assert RateLimits([]).wait_for("new", 1.0, 1.0) == 0.0


def test_the_oldest_revocations_are_forgotten_first() -> None:
    """The memory is bounded, and an id that is revoked again counts as new."""
    revoked = RevokedTasks(limit=3)
    revoked.add({"a": 1, "b": 2, "c": 3})
    revoked.add({"a": 4, "d": 5})
    assert [revoked.forbids(TaskMessage(id=task, task="t")) for task in "abcd"] == [True, False, True, True]
    assert len(revoked) == 3
