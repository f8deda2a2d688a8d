"""What the commands' arguments may be: wrong ones are one sentence and exit status 2, before anything is asked or sent."""

import argparse
import math
from typing import Any

from django_tasks.cli import calls
from django_tasks.result.arguments import LONGEST_ID, is_id
from django_tasks.routing.queues import check_name

#: The largest number of a row.
_LAST_ROW = 2**63 - 1


def number(text: str) -> float:
    """Read a number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds (a task's id goes before this option)")
    return seconds


def wait(text: str) -> float:
    """Read how many seconds to wait."""
    seconds = number(text)
    if seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time to wait: it is a number of seconds, 0 or more")
    return seconds


def limit(text: str) -> int:
    """Read how many to show."""
    if not text.isdecimal() or not 0 < int(text) <= _LAST_ROW:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit: it is a whole number, 1 or more")
    return int(text)


def row(text: str) -> int:
    """Read the number of a row, as a list shows it."""
    if not text.isdecimal() or int(text) > _LAST_ROW:
        raise argparse.ArgumentTypeError(f"{text!r} is no number that the list shows")
    return int(text)


def identifier(text: str) -> str:
    """Read the id of a task or a group."""
    if not text or not is_id(text):
        raise argparse.ArgumentTypeError(f"{text!r:.300} is no id: they are texts of at most {LONGEST_ID} printable characters")
    return text


def queue(text: str) -> str:
    """Read the name of a queue."""
    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def some_queue(text: str) -> str:
    """Read the name of a queue, which sending looks at, too; only nothing would be taken for the default there."""
    return text or queue(text)


def queues(text: str) -> list[str]:
    """Read names of queues with commas between."""
    names = [queue(name.strip()) for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no queue")
    return names


def words(text: str) -> str:
    """Read text that a database can keep."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r:.300} is no text in the terminal's encoding") from None
    return text


def moment(text: str) -> Any:
    """Read a time."""
    try:
        return calls.parse_moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in ISO 8601, as 2026-12-24T18:00:00+01:00 is") from None


def expires(text: str) -> Any:
    """Read a number of seconds or a time."""
    try:
        found = calls.parse_expires(text)
    except ValueError:
        found = math.nan
    if isinstance(found, float) and not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seconds nor a time in ISO 8601")
    return found
