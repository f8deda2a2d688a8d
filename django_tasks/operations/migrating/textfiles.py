"""What stands in files that are no Python: command lines, requirements, pytest's options."""

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

from django_tasks.operations.migrating.commandlines import command_in, translate, words
from django_tasks.operations.migrating.findings import Finding, Severity, masked
from django_tasks.operations.migrating.pins import pin_fault
from django_tasks.operations.migrating.reading import Source, lines_of

#: Lines that one command is looked for over, where it doesn't stand on one.
_LONGEST: Final = 30
_PROSE: Final = frozenset({".md", ".rst"})
_HINT: Final = re.compile(r"celery|CELERY")
_REQUIREMENT: Final = re.compile(
    r"""^\s*["']?(celery|django[-_.]celery[-_.]results|flower|pytest[-_.]celery|opentelemetry[-_.]instrumentation[-_.]celery"""
    r"""|celery[-_.](?:redbeat|once|singleton|progress|batches|types))"""
    r"""(\[[\w,\s-]*\])?["']?\s*($|[=<>!~;#,@"'])""",
    re.IGNORECASE,
)
_SERVICES: Final = frozenset({"celery", "celeryd", "celerybeat"})
#: sentry-sdk[celery], django-structlog[celery]
_EXTRA: Final = re.compile(r"""^\s*["']?([\w.-]+)\[[\w,\s-]*\bcelery\b[\w,\s-]*\]""", re.IGNORECASE)
_REQUIREMENTS: Final = re.compile(r"requirements|constraints|pyproject\.toml|pipfile|setup\.cfg|environment\.ya?ml", re.IGNORECASE)
#: Keys of YAML and the like whose values are titles.
_TITLE: Final = re.compile(r"^\s*(-\s+)?\W?(name|container_name|description|title|label|id)\W*[:=]", re.IGNORECASE)
_PACKAGES: Final = {
    "celery": "django-tasks-engine, with the extras you need: redis, postgres, mysql, sqs; Celery itself comes with django-celery-beat",
    "django-celery-results": "not needed: results are rows of django_tasks' TaskResult",
    "flower": "works with Redis and RabbitMQ: it shows workers and tasks that send events (-E), but can't command workers yet",
    "opentelemetry-instrumentation-celery": "instruments Celery, and not these workers; write the spans in a MIDDLEWARE",
    "celery-types": "not needed: this package has its types with it",
    "pytest-celery": "remove it: our pytest plugin has the fixtures of celery.contrib.pytest, and leaves them to this one where it is",
}


def check_text(source: Source) -> Iterator[Finding]:
    """Report the command lines and requirements of Celery in a file that is no Python."""
    is_requirements = _REQUIREMENTS.search(source.shown) is not None
    if not is_requirements and not _HINT.search(source.text) and "flower" not in source.text:
        return
    severity = Severity.LOOK if PurePath(source.shown).suffix in _PROSE else Severity.CHANGE
    lines = [line.removesuffix("\r") for line in lines_of(source.text)]
    for number, (shown, command) in _commands(lines):
        for ours in translate(command):
            if severity is Severity.LOOK and shown in _SERVICES:
                # In a text for people this is the name of a service.
                continue
            pressing = Severity.COUNTS if ours.counts else severity
            yield Finding(path=source.shown, line=number, what=shown, instead=ours.instead, severity=pressing)
    for number, line in enumerate(lines, 1):
        told = _required(line) if is_requirements else None
        if told is not None:
            yield Finding(path=source.shown, line=number, what=line.strip().rstrip(","), instead=told[1], severity=told[0])
        if "celery.contrib.pytest" in line:
            instead = "remove it: our pytest plugin is loaded by itself and has the same fixtures"
            yield Finding(path=source.shown, line=number, what=line.strip(), instead=instead, severity=Severity.CHANGE)


def _required(line: str) -> tuple[Severity, str] | None:
    """Say what becomes of a line of requirements, if it names Celery, a package around it, or what can't be installed beside ours."""
    pinned = pin_fault(line)
    if pinned:
        return Severity.CHANGE, pinned
    found = _REQUIREMENT.match(line)
    if found:
        name = re.sub(r"[-_.]+", "-", found.group(1)).lower()
        default = "made for Celery; see the page «Moving from Celery» for what takes its place"
        return Severity.LOOK, _PACKAGES.get(name, default)
    if _EXTRA.match(line):
        watches = "its extra celery watches Celery, and not these workers; see the page «Moving from Celery» for what takes its place"
        return Severity.LOOK, watches
    return None


def _commands(lines: list[str]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield lines that may hold a command, each with what follows it where it goes on over several lines."""
    end = 0
    for index, line in enumerate(lines):
        if (
            index < end
            or (not _HINT.search(line) and "flower" not in line)
            or line.lstrip().startswith(("#", "//", ";"))
            or _TITLE.match(line)
        ):
            continue
        text, end = _whole(lines, index)
        yield index + 1, (_short(text), text)


def _whole(lines: list[str], index: int) -> tuple[str, int]:
    """Join a command that goes on: behind a backslash, as a list of YAML or JSON, or as a folded text."""
    first = _stripped(lines[index])
    if re.match(r"""-\s+["']?\S*celery["']?\s*$""", lines[index].strip()):
        return _sequence(lines, index)
    parts, end = [first.rstrip("\\")], index + 1
    goes_on = first.endswith("\\") or _is_open(first)
    while end < min(len(lines), index + _LONGEST) and (goes_on or _lacks_command(parts, lines[end])):
        following = _stripped(lines[end])
        parts.append(following.rstrip("\\"))
        end += 1
        goes_on = following.endswith("\\") or (_is_open(parts[0]) and "]" not in following) or _is_option(lines, end)
    return " ".join(parts), end


def _sequence(lines: list[str], index: int) -> tuple[str, int]:
    parts, end = [], index
    while end < min(len(lines), index + _LONGEST) and lines[end].strip().startswith("- "):
        parts.append(lines[end].strip().removeprefix("- ").strip().strip("\"'"))
        end += 1
    return " ".join(parts), end


def _is_open(line: str) -> bool:
    return line.count("[") > line.count("]")


def _is_option(lines: list[str], index: int) -> bool:
    return index < len(lines) and re.match(r"\s+-{1,2}[A-Za-z]", lines[index]) is not None


def _lacks_command(parts: list[str], following: str) -> bool:
    """Whether the line ends before Celery's command is named, and the next one may name it: ``command: >`` in YAML."""
    found = words(" ".join(parts))
    program = next((position for position, word in enumerate(found) if re.fullmatch(r"(?:\S*/)?celery", word)), None)
    if program is None or not found[program + 1 :] or command_in(found[program + 1 :]) is not None:
        return False
    return bool(re.match(r"""\s+["']?(-{1,2}[A-Za-z]|\w+["',\s]*($|-|\\|["']))""", following))


def _stripped(line: str) -> str:
    """Take away what stands before a command: a key of YAML, of an ini file, of a Procfile, an instruction of Docker."""
    line = line.replace("`", " ").strip()
    line = re.sub(r"^-\s+", "", line)
    # "command": "celery …", of JSON
    line = re.sub(r'^"[\w.-]+"\s*:\s*"(.*)",?$', r"\1", line)
    line = re.sub(r"^[\w.-]+\s*:\s+(?:[>|]-?\s*)?", "", line)
    return re.sub(r"^(?:[A-Za-z]+=(?=[/$\w\"'])|command\s*=\s*|CMD\s+|ENTRYPOINT\s+)", "", line)


def _short(text: str) -> str:
    text = masked(" ".join(text.split()))
    return text if len(text) <= 120 else text[:119] + "…"
