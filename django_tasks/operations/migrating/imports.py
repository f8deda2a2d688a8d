"""What a project imports of Celery and the packages around it, and the lines to write instead."""

import ast
from collections.abc import Iterator, Mapping

from django_tasks.operations.migrating.celeryapps import Apps, absolute_module, dotted, nodes
from django_tasks.operations.migrating.findings import Edit, Finding, Severity
from django_tasks.operations.migrating.names import Target, advice, counterpart, is_celerys, module_counterpart, prefixes
from django_tasks.operations.migrating.reading import Source
from django_tasks.operations.migrating.scopes import Names, scoped


def check_imports(source: Source, apps: Apps) -> Iterator[Finding]:
    """Report every import of Celery's, and of an app that the project makes; then what is reached through ``import celery``."""
    whole: dict[str, str] = {}
    brought: set[ast.AST] = set()
    for node in nodes(source):
        if isinstance(node, ast.ImportFrom):
            module = absolute_module(node, source)
            if not node.level and is_celerys(module):
                yield from _check_from(source, node)
            else:
                yield from _check_app_import(source, node, module, apps)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if is_celerys(alias.name):
                    yield _check_import(source, node, alias)
                    brought.add(node)
                    if alias.asname is None:
                        root = alias.name.split(".")[0]
                        whole[root] = root
                    elif module_counterpart(alias.name) is not None:
                        whole[alias.asname] = alias.name
    yield from _check_chains(source, whole, scoped(source, frozenset(whole), frozenset(brought)))


def _check_from(source: Source, node: ast.ImportFrom) -> Iterator[Finding]:
    """Report one ``from … import``: what has a counterpart together, with the lines to write; the rest name by name."""
    module = node.module or ""
    found = {alias: target for alias in node.names if (target := counterpart(module, alias.name)) is not None}
    left = [alias for alias in node.names if alias not in found]
    if found:
        lines = _from_lines(list(found.items()))
        yield Finding(
            path=source.shown,
            line=node.lineno,
            what=_from_line(module, [_name(alias.name, alias.asname) for alias in found]),
            instead="; ".join(lines),
            severity=Severity.CHANGE,
            edit=_edit(source, node, [*lines, *([_from_line(module, [_name(a.name, a.asname) for a in left])] if left else [])]),
        )
    for alias in left:
        told = advice(module, alias.name)
        yield Finding(
            path=source.shown, line=alias.lineno, what=f"from {module} import {alias.name}", instead=told.text, severity=told.severity
        )


def _from_lines(found: list[tuple[ast.alias, Target]]) -> list[str]:
    by_home: dict[str, list[str]] = {}
    for alias, (home, own) in found:
        bound = alias.asname or alias.name
        by_home.setdefault(home, []).append(_name(own, None if own in {bound, "*"} else bound))
    return [_from_line(home, sorted(names)) for home, names in sorted(by_home.items())]


def _from_line(module: str, names: list[str]) -> str:
    return f"from {module} import {', '.join(names)}"


def _name(name: str, bound: str | None) -> str:
    return f"{name} as {bound}" if bound and bound != name else name


def _edit(source: Source, node: ast.stmt, lines: list[str]) -> Edit | None:
    """Return the lines for lines, unless the statement shares one with something else, or where it stands is not known."""
    if source.problem:
        return None
    first, last = source.line(node.lineno), source.line(node.end_lineno or node.lineno)
    before = first.encode()[: node.col_offset].decode("utf-8", "replace")
    after = last.encode()[node.end_col_offset or 0 :].decode("utf-8", "replace").strip()
    if before.strip() or (after and not after.startswith("#")):
        return None
    written = [before + line for line in lines]
    if after:
        written[0] += f"  {after}"
    return Edit(first=node.lineno, last=node.end_lineno or node.lineno, lines=tuple(written))


def _check_app_import(source: Source, node: ast.ImportFrom, module: str, apps: Apps) -> Iterator[Finding]:
    known = apps.of_module(module)
    for alias in node.names:
        if alias.name in known:
            bound = alias.asname or alias.name
            instead = f"from django_tasks import {_name('app', bound)}"
            if source.is_package:
                instead = "remove the line, and the name in __all__: no module has to import an app here; see what else that module does"
            what = f"{ast.unparse(node).split(' import ', 1)[0]} import {_name(alias.name, alias.asname)}: the project's Celery app"
            only = len(node.names) == 1 and not source.is_package
            yield Finding(
                path=source.shown,
                line=alias.lineno,
                what=what,
                instead=instead,
                severity=Severity.CHANGE,
                edit=_edit(source, node, [instead]) if only else None,
            )


def _check_import(source: Source, node: ast.Import, alias: ast.alias) -> Finding:
    what = f"import {_name(alias.name, alias.asname)}"
    home = module_counterpart(alias.name)
    if home is None:
        told = advice(alias.name)
        return Finding(path=source.shown, line=node.lineno, what=what, instead=told.text, severity=told.severity)
    package, _, last = home.rpartition(".")
    bound = alias.asname
    instead = f"import {home}" if not bound else _from_line(package, [_name(last, bound)]) if package else f"import {home} as {bound}"
    edit = _edit(source, node, [instead]) if bound and len(node.names) == 1 else None
    return Finding(path=source.shown, line=node.lineno, what=what, instead=instead, severity=Severity.CHANGE, edit=edit)


def _check_chains(source: Source, roots: Mapping[str, str], names: Names) -> Iterator[Finding]:
    """Report ``celery.signals.task_failure`` and the like, each where it stands; of a chain only its longest form.

    ``roots`` are the names that modules of Celery have here. Of one with a name of its own, only what the module of ours has not.
    """
    inner = {id(node.value) for node in nodes(source) if isinstance(node, ast.Attribute)}
    for node in nodes(source):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            chain = dotted(node)
            bound, _, rest = chain.partition(".")
            if bound not in names.at(node.lineno):
                continue
            module, whole = roots[bound], f"{roots[bound]}.{rest}"
            if whole != "celery.Celery" and (bound == module or not _is_ours(module, rest)):
                yield _check_chain(source, node.lineno, chain, whole)


def _is_ours(module: str, names: str) -> bool:
    """Whether the module of ours that takes the place of Celery's has the first of these names, too."""
    first = names.partition(".")[0]
    return counterpart(module, first) == (module_counterpart(module), first)


def _check_chain(source: Source, line: int, what: str, chain: str) -> Finding:
    for prefix in prefixes(chain):
        module, _, name = prefix.rpartition(".")
        target = counterpart(module, name) if module else None
        if target is not None:
            instead = ".".join([*target]) + chain.removeprefix(prefix)
            return Finding(path=source.shown, line=line, what=what, instead=instead, severity=Severity.CHANGE)
    told = advice(chain.rpartition(".")[0], chain.rpartition(".")[2])
    return Finding(path=source.shown, line=line, what=what, instead=told.text, severity=told.severity)
