"""Where a project makes its Celery app, and by which names its modules hand it on."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from django_tasks.operations.migrating.reading import Source

#: Dotted module → names that are a Celery app there.
AppNames = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Made:
    """Celery apps that one module makes: each call with the name it is given, and the classes derived from Celery."""

    calls: tuple[tuple[ast.Call, str], ...] = ()
    classes: tuple[ast.ClassDef, ...] = ()


@dataclass(slots=True)
class Apps:
    """The apps of a project: ``names`` are Celery's, ``ours`` that of django_tasks, where modules of the project hand it on."""

    names: dict[str, frozenset[str]] = field(default_factory=dict)
    ours: dict[str, frozenset[str]] = field(default_factory=dict)
    #: Functions that return a Celery app.
    factories: dict[str, frozenset[str]] = field(default_factory=dict)

    def of_module(self, module: str) -> frozenset[str]:
        """Names that are a Celery app in a module, as it is named in an import."""
        return _of(self.names, module)

    def ours_of(self, module: str) -> frozenset[str]:
        """Names that are our app in a module of the project, as it is named in an import."""
        return _of(self.ours, module)


def _of(names: AppNames, module: str) -> frozenset[str]:
    ends = f".{module}"
    return frozenset[str]().union(*(found for known, found in names.items() if known == module or known.endswith(ends)))


def find_apps(sources: Iterable[Source]) -> Apps:
    """Find the modules that make an app, then those that import it from there, and from those in turn."""
    parsed = [source for source in sources if source.tree is not None]
    apps = Apps()
    for source in parsed:
        _enter(apps.factories, source, _factories(source))
    while sum(_enter(apps.factories, source, imported_names(source, apps.factories)) for source in parsed):
        pass
    for source in parsed:
        _enter(apps.names, source, frozenset(name for _, name in made(source, apps).calls if name))
        _enter(apps.ours, source, imported_names(source, {"django_tasks": frozenset({"app"})}, whole=True))
    # An app is handed on through very few modules; each round finds those one import further away.
    while sum(_enter(names, source, imported_names(source, names)) for names in (apps.names, apps.ours) for source in parsed):
        pass
    return apps


def _enter(names: dict[str, frozenset[str]], source: Source, found: frozenset[str]) -> bool:
    known = names.get(source.module, frozenset())
    if found <= known:
        return False
    names[source.module] = known | found
    return True


def _factories(source: Source) -> frozenset[str]:
    """Functions of a module that return an app which they make."""
    found = made(source)
    calls, names = {call for call, _ in found.calls}, {name for _, name in found.calls if name}
    return frozenset(
        function.name
        for function in nodes(source)
        if isinstance(function, ast.FunctionDef)
        for statement in ast.walk(function)
        if isinstance(statement, ast.Return)
        and (statement.value in calls or (isinstance(statement.value, ast.Name) and statement.value.id in names))
    )


def imported_apps(source: Source, apps: Apps) -> frozenset[str]:
    """Names under which a module imports an app that the project makes, or ours from a module of the project."""
    return imported_names(source, apps.names) | imported_names(source, apps.ours)


def imported_names(source: Source, names: AppNames, *, whole: bool = False) -> frozenset[str]:
    """Names under which a module imports one of these; ``whole`` compares whole names of modules."""
    return frozenset(
        alias.asname or alias.name
        for node in nodes(source)
        if isinstance(node, ast.ImportFrom)
        for module in (absolute_module(node, source),)
        for alias in node.names
        if alias.name in (names.get(module, ()) if whole else _of(names, module))
    )


def absolute_module(node: ast.ImportFrom, source: Source) -> str:
    """Return the module that ``from … import`` names, with the dots in front resolved."""
    if not node.level:
        return node.module or ""
    package = source.module.split(".") if source.is_package else source.module.split(".")[:-1]
    kept = package[: len(package) - (node.level - 1)]
    return ".".join([*kept, *([node.module] if node.module else [])])


def made(source: Source, apps: Apps | None = None) -> Made:
    """Find the calls of ``Celery(…)``, of ``Celery[X](…)``, of a class derived from it, and of the project's functions that return one."""
    makers = set(_bound_to_celery(source))
    classes = [node for node in nodes(source) if isinstance(node, ast.ClassDef) and any(_plain(base) in makers for base in node.bases)]
    makers |= {cls.name for cls in classes}
    if apps is not None:
        makers |= apps.factories.get(source.module, frozenset())
    calls = {node: "" for node in nodes(source) if isinstance(node, ast.Call) and _plain(node.func) in makers}
    for node in nodes(source):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value in calls:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            calls[node.value] = next((target.id for target in targets if isinstance(target, ast.Name)), "")
    return Made(tuple(calls.items()), tuple(classes))


def _plain(node: ast.AST) -> str:
    # Celery[Task], as celery-types has it.
    return dotted(node.value if isinstance(node, ast.Subscript) else node)


def _bound_to_celery(source: Source) -> Iterator[str]:
    for node in nodes(source):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module in {"celery", "celery.app", "celery.app.base"}:
            yield from (alias.asname or alias.name for alias in node.names if alias.name == "Celery")
        elif isinstance(node, ast.Import):
            yield from (f"{alias.asname or 'celery'}.Celery" for alias in node.names if alias.name == "celery")


def nodes(source: Source) -> Iterator[ast.AST]:
    """The nodes of a module's tree that somebody looks at; none where there is no tree."""
    return iter(source.nodes)


def dotted(node: ast.AST) -> str:
    """Return ``a.b.c`` for a chain of attributes of a name, an empty text for everything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
