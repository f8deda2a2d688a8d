"""The files of a project that are looked at. They are read, never imported or run."""

import ast
import os
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

from django_tasks.operations.migrating.parsing import parse

_ENDS: Final = re.compile(r"\n|\r(?!\n)")
#: Largest file that is read, in bytes: what is larger was not written by hand.
LARGEST: Final = 1_000_000

# fmt: off
_PASSED_OVER: Final = frozenset({
    ".eggs", ".git", ".hg", ".idea", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".svn", ".tox", ".venv", ".vscode",
    "__pycache__", "bower_components", "node_modules", "site-packages", "staticfiles",
})
_TEXTS: Final = frozenset({
    "", ".bash", ".cfg", ".conf", ".env", ".hcl", ".in", ".ini", ".j2", ".json", ".md", ".nix", ".rst", ".service", ".sh", ".template",
    ".tf", ".toml", ".txt", ".yaml", ".yml",
})
_NAMED: Final = ("dockerfile", "docker-compose", "procfile", "makefile", "compose", ".env", "pipfile", "justfile")
_LOCKS: Final = frozenset({"package-lock.json", "package.json", "poetry.lock", "uv.lock", "pipfile.lock", "pdm.lock", "composer.json"})
# fmt: on


_LOOKED_AT: Final = (
    ast.AnnAssign,
    ast.Assign,
    ast.AsyncFunctionDef,
    ast.Attribute,
    ast.AugAssign,
    ast.Call,
    ast.ClassDef,
    ast.Constant,
    ast.Dict,
    ast.FunctionDef,
    ast.Import,
    ast.ImportFrom,
    ast.Name,
    ast.keyword,
)


@dataclass(frozen=True, slots=True)
class Source:
    """One file. ``module`` is its dotted name below the folder that was given, empty for what is no Python.

    ``tree`` is None where the file is no Python. Where it could not be parsed, ``problem`` says why, for ``problem_line``, and the
    tree has its imports only.
    """

    shown: str
    text: str
    module: str = ""
    is_package: bool = False
    tree: ast.Module | None = field(default=None, repr=False)
    nodes: tuple[ast.AST, ...] = field(default=(), repr=False)
    problem: str = ""
    problem_line: int = 1

    @property
    def is_python(self) -> bool:
        """Whether it is a Python file."""
        return bool(self.module)

    def line(self, number: int) -> str:
        """Return a line, counted from 1."""
        lines = lines_of(self.text)
        return lines[number - 1] if 1 <= number <= len(lines) else ""


def lines_of(text: str) -> list[str]:
    """Split a text into the lines that Python and editors count: a form feed is no end of one. A line may end in a carriage return."""
    lines = _ENDS.split(text)
    return lines if lines[-1] else lines[:-1]


def sources(roots: Iterable[Path]) -> Iterator[Source]:
    """Read what lies in these folders, and the files among ``roots``: Python, and texts that may hold commands.

    Virtual environments, installed packages, symbolic links to folders, and migrations without a word of Celery are passed over.
    """
    seen: set[Path] = set()
    for root in roots:
        for path in _files(root):
            real = path.resolve()
            if real not in seen:
                seen.add(real)
                source = _read(path, root if root.is_dir() else root.parent)
                if source is not None:
                    yield source


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_passed_over(Path(folder) / name))
        yield from (Path(folder) / name for name in sorted(names) if _is_read(name))


def _is_passed_over(folder: Path) -> bool:
    return folder.name in _PASSED_OVER or folder.name.endswith(".egg-info") or (folder / "pyvenv.cfg").exists()


def _is_read(name: str) -> bool:
    lower = name.lower()
    return lower not in _LOCKS and (Path(lower).suffix in {".py", *_TEXTS} or lower.startswith(_NAMED))


def _read(path: Path, root: Path) -> Source | None:
    shown = _shown(path)
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        content = path.read_bytes()
    except OSError as error:
        return Source(shown, "", problem=f"it can't be read: {error.strerror}")
    if path.suffix == ".py":
        # Migrations are many, and large; a few send tasks, or have some beside them.
        if "migrations" in path.parent.parts and b"celery" not in content.lower():
            return None
        return _parse(content, shown, path.relative_to(root))
    # Programs without a suffix are no texts.
    return None if b"\0" in content else Source(shown, content.decode("utf-8", "replace"))


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _parse(content: bytes, shown: str, relative: Path) -> Source:
    is_package = relative.name == "__init__.py"
    parts = relative.with_suffix("").parts
    module = ".".join(parts[:-1] if is_package and len(parts) > 1 else parts)
    text = _decode(content)
    parsed = parse(content, text)
    # Walked once: a walk takes longer than everything that is done with what it finds.
    found = tuple(node for node in ast.walk(parsed.tree) if isinstance(node, _LOOKED_AT)) if parsed.tree else ()
    return Source(shown, text, module, is_package, parsed.tree, found, parsed.problem, parsed.problem_line)


def _decode(content: bytes) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(content).readline)
        return content.decode(encoding, "replace")
    except (SyntaxError, LookupError):
        return content.decode("utf-8", "replace")
