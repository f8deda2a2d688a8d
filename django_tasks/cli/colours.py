"""Colours of states and levels in a terminal."""

import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from django.utils.termcolors import colorize

#: How a state of a task or a worker, or a level, is shown.
_COLOURS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("SUCCESS", "alive", "INFO"), "green"),
    **dict.fromkeys(("STARTED", "PROGRESS"), "cyan"),
    **dict.fromkeys(("RETRY", "REVOKED", "REJECTED", "stale", "WARNING"), "yellow"),
    **dict.fromkeys(("FAILURE", "ERROR", "CRITICAL"), "red"),
}


def wanted(is_terminal: bool, options: Mapping[str, Any]) -> bool:
    """Whether to use colours: on a terminal, unless ``--no-color`` or NO_COLOR says otherwise; anywhere with ``--force-color``."""
    if options.get("no_color"):
        return False
    if options.get("force_color"):
        return True
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and is_terminal


def coloured(word: str, text: str | None = None) -> str:
    """Return the text (the word itself, if left out) in the colour of this state or level."""
    text = word if text is None else text
    chosen = _COLOURS.get(word)
    return text if chosen is None else str(colorize(text, fg=chosen))


class ColouredLevels(logging.Formatter):
    """Writes the names of levels in their colours."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """Format the line; other handlers get the record as it was."""
        name, record.levelname = record.levelname, coloured(record.levelname)
        try:
            return super().formatMessage(record)
        finally:
            record.levelname = name
