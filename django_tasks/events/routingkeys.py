"""Routing keys of events, by which receivers choose what they hear: an event's type with dots, as AMQP's topics have them."""

import re
from collections.abc import Callable
from typing import Final

#: Hears everything.
EVERYTHING: Final = "#"
_ONE_WORD: Final = r"[^.]*"


def routing_key_of(type_: str) -> str:
    """Return the key of an event: ``task-started`` goes by ``task.started``."""
    return type_.replace("-", ".")


def batch_key_of(type_: str) -> str:
    """Return the key of a list of events of the same group: ``task.multi``."""
    return f"{type_.partition('-')[0]}.multi"


def matching(pattern: str) -> Callable[[str], bool]:
    """Return whether an event's type is meant by ``pattern``: ``*`` stands for one word, ``#`` for any number of them."""
    if pattern == EVERYTHING:
        return lambda type_: True
    expression = re.compile(_expression(pattern))
    return lambda type_: expression.fullmatch(routing_key_of(type_)) is not None


def _expression(pattern: str) -> str:
    found = ""
    for number, word in enumerate(pattern.split(".")):
        if word == "#":
            # None at all takes no dot either.
            found += r"(?:\.[^.]*)*" if number else rf"(?:{_ONE_WORD}(?:\.[^.]*)*)?"
            continue
        found += (r"\." if number else "") + (_ONE_WORD if word == "*" else re.escape(word))
    # «#.failed» means «failed» as well: its dot belongs to the words that may be missing.
    return found.replace(rf"(?:{_ONE_WORD}(?:\.[^.]*)*)?\.", r"(?:[^.]*\.)*", 1)
