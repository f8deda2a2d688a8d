"""Names and the tasks behind them."""

import sys
from types import SimpleNamespace

import pytest

from django_tasks.exceptions import AlreadyRegistered, NotRegistered
from django_tasks.registry import TaskRegistry, import_task_modules


def one():
    """A task's function."""


def other():
    """Another task's function."""


def task(function, name="a.one"):
    return SimpleNamespace(name=name, run=function, __module__=function.__module__)


def test_a_registered_task_is_found_by_its_name():
    """Mapping access, find and iteration agree."""
    registry, mine = TaskRegistry(), task(one)
    assert registry.register(mine) is mine
    assert registry["a.one"] is mine
    assert registry.find("a.one") is mine
    assert list(registry) == ["a.one"]
    assert len(registry) == 1


def test_an_unknown_name_is_not_registered():
    """Reading raises NotRegistered with the name, find returns None."""
    registry = TaskRegistry()
    assert registry.find("a.one") is None
    assert "a.one" not in registry
    with pytest.raises(NotRegistered, match=r"a\.one"):
        registry["a.one"]
    with pytest.raises(NotRegistered, match=r"a\.one"):
        registry.unregister("a.one")


def test_a_module_that_is_imported_twice_keeps_its_first_task():
    """The same function under the same name is the same task."""
    registry, first = TaskRegistry(), task(one)
    registry.register(first)
    assert registry.register(task(one)) is first


def test_a_taken_name_is_refused():
    """Another function under a taken name raises, naming both."""
    registry = TaskRegistry()
    registry.register(task(one))
    with pytest.raises(AlreadyRegistered, match=r"taken by .*\.one; give .*\.other another"):
        registry.register(task(other))


def test_unregistering_frees_the_name():
    """After unregister another task may have the name."""
    registry = TaskRegistry()
    registry.register(task(one))
    registry.unregister("a.one")
    assert registry.register(task(other)).run is other


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "somepackage"
    root.mkdir()
    (root / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield root
    for name in [name for name in sys.modules if name.partition(".")[0] == "somepackage"]:
        del sys.modules[name]


def test_task_modules_are_imported_where_they_are(package):
    """A package with a tasks module is imported, one without is passed over."""
    (package / "tasks.py").write_text("loaded = True")
    assert import_task_modules(["somepackage", "json"]) == ["somepackage.tasks"]
    assert sys.modules["somepackage.tasks"].loaded


def test_a_tasks_package_counts_as_a_module(package):
    """tasks/__init__.py is as good as tasks.py."""
    (package / "tasks").mkdir()
    (package / "tasks" / "__init__.py").write_text("")
    assert import_task_modules(["somepackage"]) == ["somepackage.tasks"]


def test_an_error_in_a_task_module_is_raised_as_it_is(package):
    """An import that fails inside tasks.py is never taken for a missing tasks.py."""
    (package / "tasks.py").write_text("import no_such_module_anywhere")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        import_task_modules(["somepackage"])
