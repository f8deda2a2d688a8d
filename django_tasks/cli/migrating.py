"""``tasks migrate_from_celery``: what a project that uses Celery has to change."""

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings

from django_tasks.cli.tables import Failure, Screen
from django_tasks.operations.migrating import Finding, Report, Severity, check_project
from django_tasks.operations.migrating.reading import lines_of

#: What says that a folder is where a project begins.
_TOPS = (".git", "manage.py", "pyproject.toml")


def migrate_from_celery(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print what to change, file by file; 1 if something must change. With ``--diff`` the lines of imports as a patch."""
    paths = [Path(path) for path in options["paths"]] or project_folders()
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise Failure(f"there is no {', no '.join(missing)}", status=2)
    report = check_project(paths)
    if options.get("diff") and not screen.as_json:
        empty = True
        for line in _diff(report):
            screen.say(line)
            empty = False
        if empty:
            sys.stderr.write("No line of imports is to be changed: there is no patch.\n")
    else:
        _print(screen, report)
    return 1 if report.count(Severity.CHANGE) else 0


def project_folders() -> list[Path]:
    """Where the project lies: the current folder if it is the top of a project around BASE_DIR, else BASE_DIR; and apps beside it."""
    here = Path.cwd()
    configured = getattr(django_settings, "BASE_DIR", None)
    base = Path(configured).resolve() if configured and Path(configured).is_dir() else here
    around = base.is_relative_to(here) and any((here / name).exists() for name in _TOPS)
    tops = [here if around else base]
    for config in apps.get_app_configs():
        path = Path(config.path).resolve()
        beside = path.is_relative_to(here) and not any(path.is_relative_to(top) for top in tops)
        if beside and not {"site-packages", "dist-packages"} & set(path.parts):
            tops.append(path)
    return tops


def _print(screen: Screen, report: Report) -> None:
    if screen.as_json:
        screen.rows([_record(finding) for finding in report.findings], ["path"])
        return
    path = ""
    for finding, others in _alike(report.findings):
        if finding.path != path:
            path = finding.path
            screen.say(f"\n{path}")
        also = f" (and in lines {', '.join(map(str, others))})" if len(others) > 1 else f" (and in line {others[0]})" if others else ""
        screen.say(f"  {path}:{finding.line}: {finding.severity.value}: {finding.what}{also}\n      {finding.instead}")
    counts = [f"{report.count(severity)} {severity.value}" for severity in Severity]
    screen.say(f"\n{report.files} files read: {', '.join(counts)}. Nothing was written.")


def _alike(findings: Iterable[Finding]) -> Iterator[tuple[Finding, list[int]]]:
    """Yield each thing to say of a file once, where it is found first, with the lines where the same is to be said again."""
    lines: dict[Finding, list[int]] = {}
    for finding in findings:
        lines.setdefault(replace(finding, line=0, edit=None), []).append(finding.line)
    for finding, (first, *others) in lines.items():
        yield replace(finding, line=first), [line for line in dict.fromkeys(others) if line != first]


def _record(finding: Finding) -> dict[str, Any]:
    return {
        "path": finding.path,
        "line": finding.line,
        "what": finding.what,
        "instead": finding.instead,
        "severity": finding.severity.value,
    }


def _diff(report: Report) -> Iterator[str]:
    """Yield a patch of the lines that could be written by themselves."""
    for path, text in report.texts.items():
        edits = {finding.edit.first: finding.edit for finding in report.findings if finding.path == path and finding.edit}
        if edits:
            before = [f"{line}\n" for line in lines_of(text)]
            if not text.endswith(("\n", "\r")):
                before[-1] = before[-1].removesuffix("\n")
            after = list(before)
            for _, edit in sorted(edits.items(), reverse=True):
                # As the lines of this file end; the last one as that of the file may.
                *others, last = edit.lines
                ending = "\r\n" if "\r\n" in text else "\n"
                after[edit.first - 1 : edit.last] = [*(line + ending for line in others), last + _ending(before[edit.last - 1])]
            yield from _lines(difflib.unified_diff(before, after, f"a/{path}", f"b/{path}"))


def _ending(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def _lines(patch: Iterable[str]) -> Iterator[str]:
    for line in patch:
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"
