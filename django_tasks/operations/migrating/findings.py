"""What is found in a project: a place, what stands there, what to write instead, and how pressing it is."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

_LOGIN: Final = re.compile(r"(\w+://)[^\s/@]*@")


class Severity(Enum):
    """How pressing a finding is."""

    #: It does not work here, or it goes on using Celery.
    CHANGE = "must change"
    #: It works, has no effect, or depends on what only people know.
    LOOK = "look at it"
    #: It works here as it did there.
    COUNTS = "counts as it is"


def masked(text: str) -> str:
    """Leave user and password out of the addresses in a text: reports are sent around."""
    return _LOGIN.sub(r"\1…@", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Lines of a file, counted from 1, both ends included, and what replaces them."""

    first: int
    last: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know about a project. ``edit`` is there where a program could write ``instead`` by itself."""

    path: str
    line: int
    what: str
    instead: str
    severity: Severity
    edit: Edit | None = None
