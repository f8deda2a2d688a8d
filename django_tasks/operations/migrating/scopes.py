"""Where in a module a name means something else: functions that have a parameter or a variable called ``app``, as many have."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from django_tasks.operations.migrating.celeryapps import dotted
from django_tasks.operations.migrating.reading import Source

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Names:
    """Names that are a Celery app in a module, except for the lines of functions that use them for something else."""

    everywhere: frozenset[str]
    others: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def at(self, line: int) -> frozenset[str]:
        """Names that are an app in this line."""
        taken = {name for name, spans in self.others.items() if any(first <= line <= last for first, last in spans)}
        return self.everywhere - taken


@dataclass(frozen=True, slots=True)
class BoundTask:
    """Lines in which a name is a task: ``self`` in a function that is a task with bind=True, or in a class of tasks."""

    name: str
    first: int
    last: int


def bound_tasks(source: Source) -> Iterator[BoundTask]:
    """Find the functions and methods whose first parameter is a task."""
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(_binds(decorator) for decorator in node.decorator_list):
            yield from _bound_task(node)
        elif isinstance(node, ast.ClassDef) and any(dotted(base).rpartition(".")[2] == "Task" for base in node.bases):
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield from _bound_task(method)


def _binds(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and any(
        word.arg == "bind" and isinstance(word.value, ast.Constant) and word.value.value is True for word in decorator.keywords
    )


def _bound_task(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[BoundTask]:
    parameters = [*function.args.posonlyargs, *function.args.args]
    if parameters:
        yield BoundTask(parameters[0].arg, function.lineno, function.end_lineno or function.lineno)


def scoped(source: Source, names: frozenset[str], apps: frozenset[ast.AST]) -> Names:
    """Find the functions that bind one of these names to something else than ``apps``, which are imports and calls that make one."""
    if not names or source.tree is None:
        return Names(names)
    spans: dict[str, list[tuple[int, int]]] = {}
    for function in (node for node in ast.walk(source.tree) if isinstance(node, _FUNCTIONS)):
        for name in names.intersection(_bound(function, apps)):
            spans.setdefault(name, []).append((function.lineno, function.end_lineno or function.lineno))
    return Names(names, {name: tuple(found) for name, found in spans.items()})


def _bound(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, apps: frozenset[ast.AST]) -> frozenset[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    found = {argument.arg for argument in every if argument is not None}
    if not isinstance(function, ast.Lambda):
        for statement in function.body:
            found |= set(_stored(statement, apps))
    return frozenset(found)


def _stored(node: ast.AST, apps: frozenset[ast.AST]) -> Iterator[str]:
    """Yield the names that a statement binds in its function's own scope."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value in apps:
        return
    if isinstance(node, ast.Import | ast.ImportFrom) and node not in apps:
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name:
        yield node.name
    if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        for child in ast.iter_child_nodes(node):
            yield from _stored(child, apps)


__all__ = ["Names", "scoped"]
