"""Options of a call that hold what they can't: the caller hears of it, and nothing is sent."""

import math
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from django_tasks.canvas.calls import amend_message, build_message

SOON = datetime(2030, 1, 1, tzinfo=UTC)

WRONG = [
    ("task_id", 5, "text"),
    ("task_id", "x" * 256, "255"),
    ("task_id", "half \ud800", "printable"),
    ("task_id", "nul \0", "printable"),
    ("countdown", "soon", "a number of seconds"),
    ("countdown", math.nan, "a number of seconds"),
    ("countdown", math.inf, "a number of seconds"),
    ("countdown", 1e18, "a number of seconds"),
    ("countdown", timedelta.max, "a number of seconds"),
    ("eta", 5, "countdown"),
    ("eta", "tomorrow", "ISO 8601"),
    ("eta", date(2030, 1, 1), "a datetime"),
    ("expires", "x", "a number of seconds"),
    ("expires", [], "a number of seconds"),
    ("time_limit", "10", "0 or more"),
    ("time_limit", -1, "0 or more"),
    ("soft_time_limit", [], "0 or more"),
    ("link", 3, "a signature"),
    ("link", "shop.tasks.pack", "a signature"),
    ("link", [3], "a signature"),
    ("link", {}, "a signature"),
    ("link_error", {"task": 3}, "a signature"),
    ("headers", 3, "a dictionary"),
    ("headers", {1: 2}, "keys are text"),
    ("shadow", 3, "text"),
    ("reply_to", 3, "text"),
    ("exchange", 3, "name"),
    ("routing_key", 3, "text"),
    ("serializer", 3, "'json'"),
    ("compression", 3, "'gzip'"),
    ("shadow", "half \ud800", "text"),
    ("routing_key", "half \ud800", "text"),
    ("retries", "x", "whole number"),
    ("retries", -1, "whole number"),
    ("stamped_headers", 3, "a list"),
    ("stamped_headers", "tenant", "a list"),
    ("stamps", 3, "a dictionary"),
    ("origin", 3, "text"),
    ("chain", "x", "a list of signatures"),
    ("chain", [3], "a list of signatures"),
    ("chord", 3, "the signature of a chord's body"),
    ("retry_policy", 3, "a dictionary"),
    ("retry_policy", {"max_retrys": 3}, "did you mean 'max_retries'"),
    ("retry_policy", {"max_retries": "x"}, "numbers"),
    ("delivery_mode", 3, "1 or 'transient', 2 or 'persistent'"),
    ("delivery_mode", True, "1 or 'transient', 2 or 'persistent'"),
    ("message_id", 17, "text of at most 255 bytes"),
    ("app_id", "é" * 128, "text of at most 255 bytes"),
    ("timestamp", 1.5, "a whole number"),
]

RIGHT = [
    ("countdown", timedelta(seconds=1)),
    ("countdown", 0),
    ("countdown", -1.5),
    ("eta", datetime(2030, 1, 1)),  # noqa: DTZ001  naive is UTC
    ("eta", "2030-01-01T00:00:00Z"),
    ("expires", SOON),
    ("expires", -1),
    ("time_limit", 0),
    ("link", []),
    ("link", {"task": "shop.tasks.pack"}),
    ("headers", {}),
    ("retry_policy", {"max_retries": None, "interval_start": 0, "retry_errors": (OSError,)}),
    ("delivery_mode", "persistent"),
    ("timestamp", 0),
]


@pytest.mark.parametrize(("option", "value", "words"), WRONG)
def test_a_wrong_value_is_refused_at_the_call(option, value, words):
    """TypeError names the task, the option, and what it takes."""
    with pytest.raises(TypeError) as raised:
        build_message("shop.tasks.add", (), {}, {option: value})
    said = str(raised.value)
    assert said.startswith(f"shop.tasks.add: {option} takes ")
    assert words in said
    assert said.endswith("nothing was sent")


@pytest.mark.parametrize(("option", "value"), [*RIGHT, *((option, None) for option, _, _ in WRONG)])
def test_what_an_option_may_hold(option, value):
    """All forms that Celery takes, and None for nothing, make a message."""
    assert build_message("shop.tasks.add", (), {}, {option: value}).task == "shop.tasks.add"


def test_an_id_may_be_a_uuid():
    """A UUID, as Django's URLs and models have them, travels as its text; an empty id is none."""
    one = UUID(int=7)
    assert build_message("a.b", (), {}, {"task_id": one}).id == str(one)
    assert len(build_message("a.b", (), {}, {"task_id": ""}).id) == 36


def test_a_retry_is_checked_too():
    """What a retry changes is held to the same."""
    message = build_message("shop.tasks.add", (), {}, {})
    with pytest.raises(TypeError, match="expires takes"):
        amend_message(message, {"expires": "x"})
