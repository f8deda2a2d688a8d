"""Moving from Celery: reads a project and says what to change, without running any of its code."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django_tasks.operations.migrating.appuses import check_app
from django_tasks.operations.migrating.celeryapps import find_apps
from django_tasks.operations.migrating.entrypoints import check_entry_points
from django_tasks.operations.migrating.findings import Edit, Finding, Severity
from django_tasks.operations.migrating.imports import check_imports
from django_tasks.operations.migrating.installed import check_installed
from django_tasks.operations.migrating.reading import Source, sources
from django_tasks.operations.migrating.taskcode import check_task_code
from django_tasks.operations.migrating.taskoptions import check_options
from django_tasks.operations.migrating.textfiles import check_text
from django_tasks.operations.migrating.writtensettings import check_settings, find_namespaces


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, by file and line; how many files were read; and their texts, by path, for edits."""

    findings: tuple[Finding, ...]
    files: int
    texts: dict[str, str]

    def count(self, severity: Severity) -> int:
        """How many findings are so pressing."""
        return sum(finding.severity is severity for finding in self.findings)


def check_project(roots: Iterable[Path]) -> Report:
    """Read these folders and files, and say what a project has to change. Nothing is imported, run or written."""
    read = list(sources(roots))
    found = dict.fromkeys(_check(read))
    order = {source.shown: position for position, source in enumerate(read)}
    ordered = sorted(found, key=lambda finding: (order[finding.path], finding.line))
    return Report(tuple(ordered), len(read), {source.shown: source.text for source in read})


def _check(read: list[Source]) -> Iterator[Finding]:
    apps, namespaces = find_apps(read), find_namespaces(read)
    for source in read:
        if source.problem and (source.tree is None or "celery" in source.text.lower()):
            yield _unreadable(source)
        if source.is_python:
            yield from check_imports(source, apps)
            yield from check_app(source, apps)
            yield from check_settings(source, namespaces)
            yield from check_task_code(source)
            yield from check_options(source)
        else:
            yield from check_text(source)
    yield from check_installed(read)
    yield from check_entry_points(read, apps)


def _unreadable(source: Source) -> Finding:
    instead = "look at it by hand; nothing in it was checked"
    if source.tree is not None:
        instead = "only its imports were looked at: look at it by hand, or run this with the Python that the project runs on"
    return Finding(path=source.shown, line=source.problem_line, what=source.problem, instead=instead, severity=Severity.LOOK)


__all__ = ["Edit", "Finding", "Report", "Severity", "check_project"]
