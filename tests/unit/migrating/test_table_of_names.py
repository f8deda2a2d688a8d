"""The table of Celery's public names says of each where it is here, or why it is not."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

TABLE = Path(__file__).resolve().parents[3] / "docs" / "migrating" / "celerys-names.md"
#: What Celery's reference documents; ``celery.Celery`` is a class, ``celery.bin`` holds a module for each command.
MODULES = [
    *("celery", "celery.canvas", "celery.exceptions", "celery.result", "celery.schedules", "celery.signals", "celery.states"),
    *(f"celery.app.{name}" for name in ("amqp", "annotations", "autoretry", "backends", "base", "builtins", "control", "defaults")),
    *(f"celery.app.{name}" for name in ("events", "log", "registry", "routes", "task", "trace", "utils")),
    *(f"celery.contrib.testing.{name}" for name in ("app", "manager", "mocks", "tasks", "worker")),
    *("celery.app", "celery.bin", "celery.contrib.abortable", "celery.contrib.pytest", "celery.utils.log", "celery.Celery"),
]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::celery.exceptions.CPendingDeprecationWarning")


def rows():
    """Yield module, name and what is said of it."""
    module = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"## `(.+)`", line):
            module = found[1]
        elif found := re.fullmatch(r"\| `(.+?)` \| (.+) \|", line):
            yield module, found[1], found[2]


SAID = {(module, name): text for module, name, text in rows()}


def public_names(module):
    if module == "celery.Celery":
        return [name for name in dir(import_module("celery").Celery) if not name.startswith("_")]
    home = import_module(module)
    if module == "celery.bin":
        return [found.name for found in pkgutil.iter_modules(home.__path__)]
    listed = getattr(home, "__all__", None)
    if listed is None:
        listed = [name for name, value in vars(home).items() if getattr(value, "__module__", None) == module]
    return [name for name in listed if not name.startswith("_")]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_table(module):
    """A name that Celery has and the table has not would be one that nobody thought of."""
    assert [name for name in public_names(module) if (module, name) not in SAID] == []


def found(path):
    """Return what a dotted path leads to: a module, or something in one. Raises if there is no such thing."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            thing = getattr(thing, name)
        return thing
    raise ModuleNotFoundError(path)


def test_what_is_said_to_be_here_is_here():
    """Each path can be imported; every other row gives a reason."""
    for (module, name), text in SAID.items():
        paths = re.findall(r"`(django_tasks[\w.]*)`", text)
        for path in paths:
            found(path)
        assert paths or text.startswith(("not here", "comes later", "`manage.py ")), f"{module}.{name}"
