"""Projects to look at, written for one test, and what is found in them."""

import io

from django.core.management import call_command

from django_tasks.operations.migrating import Severity, check_project

CHANGE, LOOK, COUNTS = Severity.CHANGE, Severity.LOOK, Severity.COUNTS


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def run(*arguments):
    """Run the command; return its exit status and what it printed."""
    out = io.StringIO()
    try:
        call_command("tasks", "migrate_from_celery", *arguments, stdout=out)
    except SystemExit as stop:
        return stop.code, out.getvalue()
    return 0, out.getvalue()


def findings(folder, files):
    """What is found in these files: (line, severity, what, instead)."""
    report = check_project([write(folder, files)])
    return [(found.line, found.severity, found.what, found.instead) for found in report.findings]


def said(folder, text, name="shop/some.py"):
    """What is found in one file: (severity, instead)."""
    return [(severity, instead) for _, severity, _, instead in findings(folder, {name: text})]
