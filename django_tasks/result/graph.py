"""Which results came of which."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class DependencyGraph(Generic[T]):
    """A directed graph: a result → the results that it set off."""

    def __init__(self) -> None:
        self.adjacent: dict[T, list[T]] = {}

    def add_arc(self, node: T) -> None:
        """Enter a node."""
        self.adjacent.setdefault(node, [])

    def add_edge(self, node: T, child: T) -> None:
        """Enter that ``child`` came of ``node``."""
        self.adjacent[node].append(child)

    def items(self) -> Iterator[tuple[T, list[T]]]:
        """Yield each node with its children."""
        return iter(self.adjacent.items())

    def edges(self) -> set[T]:
        """Return the nodes that have children."""
        return {node for node, children in self.adjacent.items() if children}

    def valency_of(self, node: T) -> int:
        """Count the node and everything below it."""
        return 1 + sum(self.valency_of(child) for child in self.adjacent.get(node, ()))

    def topsort(self) -> list[T]:
        """Return the nodes so that each comes before what depends on it."""
        found: dict[T, None] = {}

        def visit(node: T) -> None:
            if node not in found:
                for child in self.adjacent.get(node, ()):
                    visit(child)
                found[node] = None

        for node in self.adjacent:
            visit(node)
        return list(found)

    def to_dot(self) -> str:
        """Return the graph in Graphviz's language."""
        lines = [f'    "{node}" -> "{child}";' for node, children in self.adjacent.items() for child in children]
        return "\n".join(["digraph dependencies {", *lines, "}"])

    def __iter__(self) -> Iterator[T]:
        return iter(self.adjacent)

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, node: object) -> bool:
        return node in self.adjacent
