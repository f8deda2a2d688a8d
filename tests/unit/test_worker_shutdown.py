"""What signals ask of a worker."""

from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM

import pytest

from django_tasks import clock
from django_tasks.worker.shutdown import Request, Shutdown


@pytest.mark.parametrize(
    ("signals", "shutdown", "restart"),
    [
        ([(0, SIGTERM)], Shutdown.WARM, False),
        ([(0, SIGTERM), (0.001, SIGTERM)], Shutdown.WARM, False),
        ([(0, SIGINT), (0.5, SIGTERM), (1.0, SIGINT)], Shutdown.WARM, False),
        ([(0, SIGTERM), (0.1, SIGTERM), (1.1, SIGTERM)], Shutdown.COLD, False),
        ([(0, SIGINT), (5, SIGINT)], Shutdown.COLD, False),
        ([(0, SIGQUIT)], Shutdown.COLD, False),
        ([(0, SIGTERM), (0.1, SIGQUIT)], Shutdown.COLD, False),
        ([(0, SIGHUP)], Shutdown.WARM, True),
        ([(0, SIGHUP), (0.1, SIGHUP)], Shutdown.WARM, True),
        ([(0, SIGHUP), (0.1, SIGTERM)], Shutdown.WARM, False),
        ([(0, SIGTERM), (0.1, SIGHUP)], Shutdown.WARM, False),
        ([(0, SIGHUP), (2, SIGTERM)], Shutdown.COLD, False),
    ],
)
def test_only_a_signal_that_comes_later_stops_at_once(
    monkeypatch: pytest.MonkeyPatch, signals: list[tuple[float, int]], shutdown: Shutdown, restart: bool
) -> None:
    """Within a second it is the same wish, told twice: programs signal a process, and then its group."""
    asked = Request()
    for moment, number in signals:
        monkeypatch.setattr(clock, "monotonic", lambda moment=moment: 1000.0 + moment)
        asked.signalled(number)
    assert (asked.shutdown, asked.restart) == (shutdown, restart)
