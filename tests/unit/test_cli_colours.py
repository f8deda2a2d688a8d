"""Colours of states and levels: on a terminal only, and not where they are not wanted."""

import logging

import pytest

from django_tasks.cli.colours import ColouredLevels, wanted
from django_tasks.cli.tables import table


@pytest.mark.parametrize(
    ("is_terminal", "options", "environment", "expected"),
    [
        (True, {}, {}, True),
        (False, {}, {}, False),
        (True, {"no_color": True}, {}, False),
        (True, {}, {"NO_COLOR": "1"}, False),
        (True, {}, {"NO_COLOR": ""}, True),
        (True, {}, {"TERM": "dumb"}, False),
        (False, {"force_color": True}, {"NO_COLOR": "1"}, True),
    ],
)
def test_when_colours_are_used(monkeypatch, is_terminal, options, environment, expected):
    """--no-color and NO_COLOR (not empty, as its definition says) switch them off, --force-color on."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wanted(is_terminal, options) is expected


def test_states_and_levels_are_coloured_and_columns_stay_straight():
    """Only the word has a colour, and a record is left as it was for other handlers."""
    rows = [{"state": "FAILURE", "id": "a"}, {"state": "OWN", "id": "b"}]
    plain, coloured = table(rows, ["state", "id"]), table(rows, ["state", "id"], colours=True)
    assert "\x1b[31mFAILURE\x1b[0m  a" in coloured
    assert coloured.replace("\x1b[31m", "").replace("\x1b[0m", "") == plain
    record = logging.LogRecord("x", logging.ERROR, "", 1, "text", (), None)
    assert ColouredLevels("%(levelname)s %(message)s").format(record) == "\x1b[31mERROR\x1b[0m text"
    assert record.levelname == "ERROR"
