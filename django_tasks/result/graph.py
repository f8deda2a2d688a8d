"""Which results came of which."""

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class DependencyGraph(Generic[T]):
    """A directed graph: a result → the results that it set off.

    ``it`` holds pairs of a node and its children. ``formatter`` is Celery's and changes nothing.
    """

    def __init__(self, it: Iterable[tuple[T, Iterable[T]]] | None = None, formatter: Any = None) -> None:
        del formatter
        self.adjacent: dict[T, list[T]] = {}
        self.update(it or ())

    def add_arc(self, node: T) -> None:
        """Enter a node."""
        self.adjacent.setdefault(node, [])

    def add_edge(self, node: T, child: T) -> None:
        """Enter that ``child`` came of ``node``, which must be there."""
        self.adjacent[node].append(child)

    def connect(self, graph: "DependencyGraph[T]") -> None:
        """Take over the nodes of another graph."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[T, Iterable[T]]]) -> None:
        """Enter pairs of a node and its children."""
        for node, children in it:
            self.add_arc(node)
            for child in children:
                self.add_edge(node, child)

    def items(self) -> Iterator[tuple[T, list[T]]]:
        """Yield each node with its children."""
        return iter(self.adjacent.items())

    iteritems = items

    def edges(self) -> Iterator[T]:
        """Yield the nodes that have children."""
        return (node for node, children in self.adjacent.items() if children)

    def valency_of(self, node: T) -> int:
        """Count the edges below a node; a node that can be reached in two ways counts twice."""
        count, stack = 0, [node]
        while stack:
            children = self.adjacent.get(stack.pop(), [])
            count += len(children)
            stack += children
        return count

    def topsort(self) -> list[T]:
        """Return the nodes so that each comes after all that came of it."""
        found: dict[T, None] = {}
        for start in self.adjacent:
            stack = [(start, iter(self.adjacent[start]))]
            entered = {start}
            while stack:
                node, children = stack[-1]
                child = next((child for child in children if child not in found and child not in entered), None)
                if child is None:
                    found.setdefault(node)
                    stack.pop()
                else:
                    entered.add(child)
                    stack.append((child, iter(self.adjacent.get(child, ()))))
        return list(found)

    def to_dot(self, fh: Any = None, formatter: Any = None) -> str:
        """Return the graph in Graphviz's language; also written to the file ``fh`` if there is one."""
        del formatter
        nodes = [f"    {_quoted(node)};" for node in self.adjacent]
        edges = [f"    {_quoted(node)} -> {_quoted(child)};" for node, children in self.adjacent.items() for child in children]
        text = "\n".join(["digraph dependencies {", *nodes, *edges, "}\n"])
        if fh is not None:
            fh.write(text)
        return text

    def __iter__(self) -> Iterator[T]:
        return iter(self.adjacent)

    def __getitem__(self, node: T) -> list[T]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, node: object) -> bool:
        return node in self.adjacent

    def __repr__(self) -> str:
        return "\n".join(f"{node}({len(children)})" + "".join(f"\n     {child}" for child in children) for node, children in self.items())


def _quoted(node: Any) -> str:
    return '"' + str(node).replace("\\", "\\\\").replace('"', '\\"') + '"'
