"""What the commands print: a table for people, or one JSON document with ``--json``."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils.timezone import is_aware, localtime

from django_tasks.cli.colours import coloured
from django_tasks.exceptions import TaskError
from django_tasks.operations.texts import encodable

#: Widest a column of a table gets.
WIDEST = 80


class Failure(TaskError):
    """The command could not do what it was asked; ``status`` is its exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class Screen:
    """Where a command's answer goes. With ``as_json`` people's sentences are left out, so that what remains is one document."""

    def __init__(
        self,
        write: Callable[..., Any],
        *,
        as_json: bool = False,
        flush: Callable[[], Any] | None = None,
        columns: int = 0,
        colours: bool = False,
    ) -> None:
        self._colours = colours
        self._written = write
        self._flush = flush
        #: Width of the terminal; 0 for a file or a pipe.
        self._columns = columns
        self._redrawn = ""
        self.as_json = as_json

    def _write(self, text: str, **how: Any) -> None:
        self._written(encodable(text), **how)

    def say(self, sentence: str) -> None:
        """Print a sentence for people."""
        if not self.as_json:
            self._write(sentence)

    def redraw(self, sentence: str, last: bool = False) -> None:
        """Print a sentence for people over the one before, on a terminal; elsewhere below it, and not twice."""
        if self.as_json or (not self._columns and sentence == self._redrawn):
            return
        self._redrawn = sentence
        if not self._columns:
            self.stream(sentence)
            return
        self._write(f"\r\x1b[K{sentence[: self._columns - 1]}", ending="\n" if last else "")
        if self._flush is not None:
            self._flush()

    def stream(self, line: str) -> None:
        """Print a line of something that goes on, so that whoever reads sees it at once: text, or a JSON document of its own."""
        self._write(line)
        if self._flush is not None:
            self._flush()

    def rows(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str = "") -> None:
        """Print records: chosen columns as a table, all of it as JSON. ``empty`` is said where there are none."""
        listed = list(rows)
        if self.as_json:
            self._write(_document(listed))
        elif listed:
            self._write(table(listed, columns, colours=self._colours))
        elif empty:
            self._write(empty)

    def record(self, record: Mapping[str, Any]) -> None:
        """Print one record: a line a field, fields without a value left out; texts of several lines below their name."""
        if self.as_json:
            self._write(_document(record))
            return
        shown = {name: cell(value) for name, value in record.items() if value not in (None, "", [], {})}
        if self._colours and "state" in shown:
            shown["state"] = coloured(shown["state"])
        width = max((len(name) for name in shown), default=0) + 1
        for name, text in shown.items():
            self._write(f"{name}:\n{_indented(text)}" if "\n" in text else f"{name + ':':<{width}} {text}")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, colours: bool = False) -> str:
    """Lay records out in columns; numbers are aligned to the right."""
    lines = [[_one_line(row.get(column)) for column in columns] for row in rows]
    titles = [column.replace("_", " ").upper() for column in columns]
    widths = [max(map(_width, cells)) for cells in zip(titles, *lines, strict=True)]
    right = [all(_is_number(row.get(column)) for row in rows) for column in columns]
    padded = [list(map(_pad, line, widths, right)) for line in [titles, *lines]]
    if colours and "state" in columns:
        at = columns.index("state")
        for line, row in zip(padded[1:], rows, strict=True):
            line[at] = coloured(str(row.get("state")), line[at])
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    # Wide characters take two cells of a terminal, combining ones none.
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def _one_line(value: Any) -> str:
    text = " ".join(cell(value).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def cell(value: Any) -> str:
    """Write a value for people: times in the project's zone, lists with commas, - for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{localtime(value) if is_aware(value) else value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple) and all(isinstance(item, str | int) for item in value):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return value if isinstance(value, str) else json.dumps(value, default=_plain, ensure_ascii=False)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip("\n").split("\n"))


def _document(value: Any) -> str:
    return json.dumps(value, default=_plain, indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
