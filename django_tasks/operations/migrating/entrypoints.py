"""Which settings the site starts with, and which Celery's workers: ours are started by manage.py, as the site is."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from django_tasks.operations.migrating.celeryapps import Apps, dotted, made, nodes
from django_tasks.operations.migrating.findings import Finding, Severity
from django_tasks.operations.migrating.reading import Source

_NAME = "DJANGO_SETTINGS_MODULE"


def check_entry_points(sources: Sequence[Source], apps: Apps) -> Iterator[Finding]:
    """Report a module that makes a Celery app with other settings than manage.py has."""
    sites = {module for source in sources if PurePath(source.shown).name == "manage.py" for _, module in _settings_modules(source)}
    if not sites:
        return
    for source in sources:
        if not made(source, apps).calls:
            continue
        for line, module in _settings_modules(source):
            if module not in sites:
                theirs = ", ".join(sorted(sites))
                instead = (
                    f"workers are started by manage.py here, with {theirs}: move what only {module} has, its broker above all, or start"
                    f" them with --settings {module}. Else site and workers would be on different brokers"
                )
                what = f"{_NAME} is {module}, and {theirs} in manage.py"
                yield Finding(path=source.shown, line=line, what=what, instead=instead, severity=Severity.CHANGE)


def _settings_modules(source: Source) -> Iterator[tuple[int, str]]:
    for node in nodes(source):
        if isinstance(node, ast.Call) and dotted(node.func).endswith("environ.setdefault") and len(node.args) > 1:
            name, value = node.args[:2]
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Subscript)
            and dotted(node.targets[0].value).endswith("environ")
        ):
            name, value = node.targets[0].slice, node.value
        else:
            continue
        if isinstance(name, ast.Constant) and name.value == _NAME and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield node.lineno, value.value
