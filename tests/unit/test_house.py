"""Rules of the house that no other tool checks."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "django_tasks"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)
TESTS = sorted(path for path in (ROOT / "tests").rglob("test_*.py"))
FORBIDDEN = {"utils", "helpers", "common", "base", "manager", "managers", "core", "misc"}


@cache
def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def name_of(path):
    return str(path.relative_to(ROOT))


def test_a_module_can_be_read_in_one_sitting():
    """No module has more than 450 lines, and none has a name that says nothing."""
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > 450} == {}
    assert [name_of(path) for path in MODULES if path.stem in FORBIDDEN] == []


def test_a_module_of_tests_has_one_subject():
    """None has more than 450 lines: what is more is two subjects."""
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS}
    assert {name: count for name, count in lines.items() if count > 450} == {}


def test_a_function_fits_on_a_screen():
    """No function has more than 60 lines."""
    lengths = {f"{name_of(path)}: {node.name}": node.end_lineno - node.lineno + 1 for path in MODULES for node in functions(path)}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_every_test_says_what_must_hold():
    """Every test function has a docstring."""
    tests = [(path, node) for path in TESTS for node in functions(path) if node.name.startswith("test_")]
    assert [f"{name_of(path)}: {node.name}" for path, node in tests if not ast.get_docstring(node)] == []


def test_a_package_never_exports_the_name_of_one_of_its_modules():
    """Otherwise ``from package import name`` means one thing before the module is imported, and another after."""
    taken = []
    for path in MODULES:
        if path.name == "__init__.py":
            modules = {other.stem for other in path.parent.glob("*.py")} | {other.name for other in path.parent.iterdir() if other.is_dir()}
            taken += [f"{name_of(path)}: {name}" for name in exported(path) & modules]
    assert taken == []


def exported(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    packages = {"django_tasks", ".".join(path.parent.relative_to(ROOT).parts)}
    # What is imported from a package is a module of it, or was looked at where the package defines it.
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module not in packages]
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    return {alias.asname or alias.name for node in froms for alias in node.names} | defined


def test_importing_the_package_loads_no_model_and_no_celery():
    """``import django_tasks`` works without settings, and loads neither models nor Celery."""
    code = (
        "import sys, django_tasks; django_tasks.app, django_tasks.shared_task; loaded = set(sys.modules); "
        "print(sorted(m for m in loaded if m.split('.')[0] in ('celery', 'django_celery_beat') or m.startswith('django_tasks.models')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_wheel_ships_what_the_package_needs():
    """Everything in the package's folder is a kind of file that the wheel is known to need."""
    kinds = {path.suffix or path.name for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert kinds <= {".py", ".typed", ".html", ".css", ".js", ".txt", ".svg", ".lua", ".po", ".mo", "py.typed"}
