"""Children that are up but no longer consume, and servers that are away."""

import logging
from typing import Any

import pytest

from django_tasks import clock
from django_tasks.worker.outage import Outage, endurance, servers_in_words
from django_tasks.worker.scoreboard import Line
from django_tasks.worker.watchdog import Sign, Watchdog, patience

LONG = Line(0, "long", "1", 5.0, None)
NEXT = Line(0, "next", "2", 50.0, None)


def test_a_child_that_asks_is_fine_whatever_it_runs() -> None:
    """A long task doesn't keep the consumer thread from asking; nor is a child judged before it has begun."""
    watchdog = Watchdog(31.0)
    assert watchdog.look(100.0, 0.0, [LONG]) is Sign.FINE
    assert watchdog.look(100.0, 69.5, [LONG]) is Sign.FINE


def test_a_stuck_child_is_lost_when_its_task_has_ended() -> None:
    """It keeps what it was running when it was found; what it begins later does not count. Then it has a moment for a sign of life."""
    watchdog = Watchdog(31.0)
    signs = [
        watchdog.look(now, 10.0, running)
        for now, running in [(41.5, [LONG]), (60.0, [LONG]), (61.0, [NEXT]), (62.0, [NEXT]), (63.0, [NEXT])]
    ]
    assert signs == [Sign.STUCK, Sign.WAITING, Sign.WAITING, Sign.WAITING, Sign.LOST]


def test_a_child_that_asks_again_is_kept() -> None:
    """A task that had held the interpreter's lock has ended; the next silence is a new one."""
    watchdog = Watchdog(31.0)
    assert watchdog.look(50.0, 10.0, [LONG]) is Sign.STUCK
    assert watchdog.look(50.1, 10.0, []) is Sign.WAITING
    assert watchdog.look(51.0, 50.9, []) is Sign.BACK
    assert watchdog.look(52.0, 51.9, []) is Sign.FINE
    assert watchdog.look(90.0, 52.0, []) is Sign.STUCK


def test_patience_outlasts_the_lease() -> None:
    """Whoever is killed later than that holds nothing that others don't have by then."""
    assert (patience(2.0), patience(60.0)) == (31.0, 61.0)


def test_an_outage_is_logged_once_and_again_with_another_reason(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with every try; after half a minute it is worth a reminder; and its end is told."""
    now = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    outage = Outage()
    delays = []
    with caplog.at_level(logging.WARNING, "django_tasks.worker"):
        for _ in range(10):
            delays.append(outage.failed("The broker redis://:**@h", ConnectionError("refused")))
            now[0] += delays[-1]
        assert len(caplog.messages) == 1
        outage.failed("The broker redis://:**@h", ConnectionError("wrong password"))
        now[0] += 31
        outage.failed("The broker redis://:**@h", ConnectionError("wrong password"))
        outage.succeeded("The broker redis://:**@h")
        outage.succeeded("The broker redis://:**@h")
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert delays[-1] == 3.0
    assert ["refused" in text for text in caplog.messages] == [True, False, False, False]
    assert [text for text in caplog.messages if "wrong password" in text and "for " in text] == caplog.messages[1:3]
    assert "answers again" in caplog.messages[3]


@pytest.mark.parametrize(
    ("options", "starting", "most"),
    [
        ({}, True, None),
        ({"BROKER_CONNECTION_RETRY": False}, True, 0),
        ({"BROKER_CONNECTION_RETRY": False}, False, 0),
        ({"BROKER_CONNECTION_RETRY_ON_STARTUP": False}, True, 0),
        ({"BROKER_CONNECTION_RETRY_ON_STARTUP": False}, False, None),
        ({"BROKER_CONNECTION_RETRY": False, "BROKER_CONNECTION_RETRY_ON_STARTUP": True}, True, None),
        ({"BROKER_CONNECTION_MAX_RETRIES": 3}, False, 3),
    ],
)
def test_how_many_failures_a_worker_endures(settings: Any, options: dict[str, object], starting: bool, most: int | None) -> None:
    """The settings' names and meaning are Celery's."""
    settings.DJANGO_TASKS = options
    assert endurance(starting=starting).most == most


def test_passwords_stay_out_of_the_log(settings: Any) -> None:
    """Servers are named with their URLs, masked."""
    settings.DJANGO_TASKS = {"BROKER_URL": "redis://u:secret@one;redis://u:secret@two", "RESULT_BACKEND": "redis://:secret@three"}
    words = servers_in_words()
    assert "secret" not in words
    assert all(host in words for host in ("@one", "@two", "@three"))
