"""Python files of any version, made into trees that this Python can build: a project may be newer than what reads it."""

import ast
import re
import sys
import warnings
from dataclasses import dataclass, field
from typing import Final

#: Written so since Python 3.14 (exceptions) and 3.12 (type parameters), and how every Python reads it, on lines of the same numbers.
_NEWER: Final = (
    (re.compile(r"^(\s*except\*?\s+)(?!\()([\w.]+(?:\s*,\s*[\w.]+)+)\s*:", re.MULTILINE), r"\1(\2):"),
    (re.compile(r"^(\s*(?:async\s+def|def|class)\s+\w+)\[[^\[\]\n]*(?:\[[^\[\]\n]*\][^\[\]\n]*)*\]", re.MULTILINE), r"\1"),
    (re.compile(r"^(\s*)type\s+(\w+)(?:\[[^\]\n]*\])?(\s*=)", re.MULTILINE), r"\1\2\3"),
)
_IMPORT: Final = re.compile(r"^[ \t]*((?:from[ \t]+[\w.]+[ \t]+import[ \t]+(?:\([^)]*\)|[^\n(]+)|import[ \t]+[^\n]+))", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A module's tree and, where only its imports could be read, why: ``problem`` and its line. Without a tree nothing was read."""

    tree: ast.Module | None = field(default=None, repr=False)
    problem: str = ""
    problem_line: int = 1


def parse(content: bytes, text: str) -> Parsed:
    """Build the tree of a module. What this Python doesn't know yet is written in the old way; else the imports alone are read."""
    try:
        return Parsed(_tree(content))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        problem = getattr(error, "msg", None) or str(error) or type(error).__name__
    for pattern, older in _NEWER:
        text = pattern.sub(older, text)
    try:
        return Parsed(_tree(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return Parsed(_imports(text), f"Python {version} can't parse it: {problem}", line)


def _tree(code: bytes | str) -> ast.Module:
    with warnings.catch_warnings():
        # A project's doubtful escapes are no matter of ours.
        warnings.simplefilter("ignore")
        return ast.parse(code)


def _imports(text: str) -> ast.Module:
    """Build a module of the import statements that can be made out, each on its line."""
    body: list[ast.stmt] = []
    for found in _IMPORT.finditer(text):
        try:
            statements = _tree(found.group(1).split("#")[0] if "(" not in found.group(1) else found.group(1)).body
        except (SyntaxError, ValueError):
            continue
        offset = text.count("\n", 0, found.start(1))
        body += [ast.increment_lineno(statement, offset) for statement in statements]
    return ast.Module(body=body, type_ignores=[])


__all__ = ["Parsed", "parse"]
