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
    """The Celery apps of a project."""

    names: dict[str, frozenset[str]] = field(default_factory=dict)

    def of_module(self, module: str) -> frozenset[str]:
        """Names that are a Celery app in a module, as it is named in an import."""
        ends = f".{module}"
        return frozenset[str]().union(*(names for known, names in self.names.items() if known == module or known.endswith(ends)))


def find_apps(sources: Iterable[Source]) -> Apps:
    """Find the modules that make an app, then those that import it from there, and from those in turn."""
    parsed = [source for source in sources if source.tree is not None]
    apps = Apps()
    for source in parsed:
        names = frozenset(name for _, name in made(source).calls if name)
        if names:
            apps.names[source.module] = names
    # An app is handed on through very few modules; each round finds those one import further away.
    while _follow(parsed, apps):
        pass
    return apps


def _follow(parsed: Iterable[Source], apps: Apps) -> bool:
    grew = False
    for source in parsed:
        found = imported_apps(source, apps) - apps.names.get(source.module, frozenset())
        if found:
            apps.names[source.module] = apps.names.get(source.module, frozenset()) | found
            grew = True
    return grew


def imported_apps(source: Source, apps: Apps) -> frozenset[str]:
    """Names under which a module imports an app that the project makes."""
    return frozenset(
        alias.asname or alias.name
        for node in nodes(source)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in apps.of_module(absolute_module(node, source))
    )


def absolute_module(node: ast.ImportFrom, source: Source) -> str:
    """Return the module that ``from … import`` names, with the dots in front resolved."""
    if not node.level:
        return node.module or ""
    package = source.module.split(".") if source.is_package else source.module.split(".")[:-1]
    kept = package[: len(package) - (node.level - 1)]
    return ".".join([*kept, *([node.module] if node.module else [])])


def made(source: Source) -> Made:
    """Find the calls of ``Celery(…)``, or of a class derived from it, in a module."""
    makers = set(_bound_to_celery(source))
    classes = [node for node in nodes(source) if isinstance(node, ast.ClassDef) and any(dotted(base) in makers for base in node.bases)]
    makers |= {cls.name for cls in classes}
    calls = {node: "" for node in nodes(source) if isinstance(node, ast.Call) and dotted(node.func) in makers}
    for node in nodes(source):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value in calls:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            calls[node.value] = next((target.id for target in targets if isinstance(target, ast.Name)), "")
    return Made(tuple(calls.items()), tuple(classes))


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
