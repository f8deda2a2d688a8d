"""``manage.py tasks``: arguments that can't be are refused before anything is asked or sent."""

import pytest
from django.core.management.base import CommandError

from django_tasks.management.commands.tasks import Command

WRONG = [
    (["call", "x", "-Q", ""], "is no name for a queue"),
    (["call", "x", "--countdown", "nan"], "no number of seconds"),
    (["call", "x", "--countdown", "inf"], "no number of seconds"),
    (["call", "x", "--expires", "nan"], "neither a number of seconds nor a time"),
    (["call", "x", "--eta", "tomorrow"], "no time in ISO 8601"),
    (["call", "x", "--wait", "nan"], "no number of seconds"),
    (["call", "x", "--wait=-1"], "0 or more"),
    (["result", ""], "is no id"),
    (["result", "half \ud800"], "is no id"),
    (["result", "x" * 256], "is no id"),
    (["result", "x", "--watch", "nan"], "no number of seconds"),
    (["rerun", ""], "is no id"),
    (["rerun", "half \ud800"], "is no id"),
    (["chords", "--limit=-1"], "1 or more"),
    (["chords", "--limit", "0"], "1 or more"),
    (["chords", "recount", ""], "is no id"),
    (["chords", "fail", "x", "--reason", "half \ud800"], "is no text"),
    (["dead", "--limit=-1"], "1 or more"),
    (["dead", "--task", "half \ud800"], "is no text"),
    (["dead", "show", "x"], "no number that the list shows"),
    (["dead", "replay", "9" * 30], "no number that the list shows"),
    (["queues", "pause", ""], "is no name for a queue"),
    (["queues", "pause", "x" * 256], "is no name for a queue"),
    (["queues", "pause", "q", "--reason", "half \ud800"], "is no text"),
    (["queues", "resume", ""], "is no name for a queue"),
    (["purge", "-Q", ""], "names no queue"),
    (["purge", "-Q", "half \ud800"], "is no name for a queue"),
    (["events", "--timeout", "nan"], "no number of seconds"),
    (["events", "--limit=-1"], "1 or more"),
]


def parsed(arguments):
    parser = Command().create_parser("manage.py", "tasks")
    return vars(parser.parse_args(arguments))


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_what_an_argument_can_not_be(arguments, words):
    """One sentence says what was wrong and what is allowed."""
    with pytest.raises(CommandError, match=words):
        parsed(arguments)


def test_what_arguments_may_be():
    """Numbers, ids, names and words come through as what they are."""
    found = parsed(["call", "x", "-Q", "slow", "--countdown=-5", "--expires", "0.5", "--wait"])
    assert [found[name] for name in ("queue", "countdown", "expires", "wait")] == ["slow", -5.0, 0.5, None]
    assert parsed(["purge", "-Q", "a, b"])["queues"] == ["a", "b"]
    assert parsed(["dead", "replay", "1", "2", "--task", "shop.tasks.pack"])["ids"] == [1, 2]
    assert parsed(["events", "--limit", "3", "--timeout", "0"])["limit"] == 3
