"""Celery's command lines, in whatever file they stand: finding them, and writing ours."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from django_tasks.operations.migrating.commandnames import COMMANDS, GLOBAL, GLOBAL_TAKES, GREEN, POOLS, Command

#: A program that is Celery: by its name, its path, a variable, or as a module of Python.
_PROGRAM: Final = re.compile(r"(?:\S*/)?celery|\$\{?CELERY_BIN\}?|celery\.__main__\.main|\$\(\w*CELERY\w*\)")
_OLD: Final = {"celeryd": "worker", "celerybeat": "beat", "celeryd-multi": "multi"}
#: What ends a command in a shell's line.
_ENDS: Final = re.compile(r"&&|\|\|?|;|&|\d?>{1,2}&?\d?.*|<")


@dataclass(slots=True)
class Line:
    """Our form of one of Celery's command lines, and what was left out of it, with the reason."""

    command: str
    ours: str = ""
    notes: list[str] = field(default_factory=list)
    #: It works here as it stands.
    counts: bool = False

    @property
    def instead(self) -> str:
        """What to say of it in one line."""
        return "; ".join([*([self.ours] if self.ours else []), *self.notes])


def words(text: str) -> list[str]:
    """Split a line into words: a shell's line, or a list of texts as JSON and YAML write it. Never raises."""
    text = text.strip().rstrip("\\")
    if re.match(r"""[\[\s]*["']""", text):
        text = re.sub(r"""(["'])\s*,""", r"\1 ", text).replace("[", " ").replace("]", " ")
    try:
        found = shlex.split(text, comments=False)
    except ValueError:
        found = text.replace('"', " ").replace("'", " ").split()
    # `sh -c "exec celery …"` is one word so far.
    # And so is what watchfiles is told: --args "-A proj worker".
    return [word for one in found for word in (one.split() if " " in one and (one.startswith("-") or _mentions(one)) else [one])]


def _mentions(text: str) -> bool:
    return any(_PROGRAM.fullmatch(word) or word in _OLD for word in text.replace("'", " ").replace('"', " ").split())


def translate(text: str) -> Iterator[Line]:
    """Find Celery's commands in a line of text and yield ours for each."""
    parts = words(text)
    for position, word in enumerate(parts):
        name = word.rpartition("/")[2]
        # Services are called so as well: `docker compose up celerybeat`.
        if name in _OLD and (position == 0 or name != word or "".join(parts[position + 1 : position + 2]).startswith("-")):
            yield _translate(_OLD[name], _until_end(parts[position + 1 :]))
        elif (
            name == "flower"
            and not any(map(_PROGRAM.fullmatch, parts[:position]))
            and "".join(parts[position + 1 : position + 2]).startswith("-")
        ):
            yield _flower(_until_end(parts[position + 1 :]))
        elif _PROGRAM.fullmatch(word):
            rest = _until_end(parts[position + 1 :])
            rest = [one for one in rest if one != "--args"]
            command = command_in(rest)
            # «the celery worker that …» is a sentence: an option, or the beginning of the line, makes it a command.
            if command is not None and (position == 0 or any(one.startswith("-") for one in rest) or command == rest[-1]):
                rest.remove(command)
                yield _flower(rest) if command == "flower" else _translate(command, rest)


def _until_end(parts: list[str]) -> list[str]:
    kept = []
    for word in parts:
        if _ENDS.fullmatch(word):
            break
        kept.append(word.rstrip(";"))
        if word.endswith(";"):
            break
    return [word for word in kept if word]


def command_in(parts: list[str]) -> str | None:
    """Return the name of Celery's command among the words behind the program, or None."""
    position = 0
    while position < len(parts):
        word = parts[position]
        if not word.startswith("-"):
            return word if word in COMMANDS else None
        position += 2 if word in GLOBAL_TAKES else 1
    return None


def _translate(name: str, parts: list[str]) -> Line:
    command = COMMANDS[name]
    line = Line(name)
    if not command.instead:
        line.notes.append(command.note)
        return line
    written = ["python manage.py", command.instead]
    position = 0
    while position < len(parts):
        option, value, used = _option(parts, position, command)
        position += used
        written += _write(option, value, command, line)
    line.ours = " ".join(written)
    if command.note:
        line.notes.append(command.note)
    return line


def _flower(parts: list[str]) -> Line:
    """Flower stays; without Celery's app it has to be told the broker."""
    line, broker, kept, position = Line("flower"), [], [], 0
    while position < len(parts):
        option, value, used = _option(parts, position, COMMANDS["flower"])
        if option in {"-b", "--broker"}:
            broker = [option, "$BROKER_URL" if value is None or "://" in value else value]
        elif option not in {"-A", "--app"}:
            kept += parts[position : position + used]
        line.counts |= option in {"-A", "--app"}
        position += used
    line.counts = not line.counts
    if not line.counts:
        line.ours = " ".join(["celery", *(broker or ["--broker", "$BROKER_URL"]), "flower", *kept])
    line.notes.append(COMMANDS["flower"].note)
    return line


def _option(parts: list[str], position: int, command: Command) -> tuple[str, str | None, int]:
    """Return the option at a position, its value, and how many words they take: ``-c 4``, ``-c4``, ``--concurrency=4``."""
    word = parts[position]
    if word.startswith("--") and "=" in word:
        option, _, value = word.partition("=")
        return option, value, 1
    takes = GLOBAL_TAKES | command.takes
    if word in takes and position + 1 < len(parts):
        return word, parts[position + 1], 2
    # -Ofair is written together more often than not.
    if re.match(r"-[A-Za-z].", word) and word not in command.dropped and word[:2] in takes:
        return word[:2], word[2:].removeprefix("="), 1
    return word, None, 1


def _write(option: str, value: str | None, command: Command, line: Line) -> list[str]:
    if not option.startswith("-"):
        return [option]
    if option in {"-l", "--loglevel"} and value and value.upper() == "FATAL":
        value = "CRITICAL"
    if option in {"-P", "--pool"} and value is not None and command.instead == "runworker":
        return _pool(option, value, line)
    if option in command.kept:
        return [command.kept[option], *([] if value is None else [_quoted(value)])]
    why = command.dropped.get(option, GLOBAL.get(option))
    if why is None:
        why = "not known; look it up in `--help`"
    if why:
        line.notes.append(f"{option}{'' if value is None else ' ' + _unquoted(value)}: {why}")
    return []


def _quoted(value: str) -> str:
    # Variables, and the %h of a node's name, stay as they are.
    return value if re.fullmatch(r"[\w@%$.,:/{}+=-]+", value) else shlex.quote(value)


def _unquoted(value: str) -> str:
    # An address may hold a password.
    return "…" if "://" in value else value


def _pool(option: str, value: str, line: Line) -> list[str]:
    if value in POOLS:
        return [option, POOLS[value]]
    if "$" in value:
        line.notes.append(f"{value} must be prefork, threads, asyncio or solo")
        return [option, _quoted(value)]
    line.notes.append(GREEN.format(value))
    return [option, "threads"]
