"""What a result follows, and what came of it."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from django_tasks import exceptions
from django_tasks.result.graph import DependencyGraph


def parents_of(node: Any) -> Iterator[Any]:
    """Yield what a result follows, the nearest first."""
    while (node := getattr(node, "parent", None)) is not None:
        yield node


def first_of(node: Any) -> Any:
    """Return the result at the beginning of a result's line of parents."""
    while node.parent is not None:
        node = node.parent
    return node


def family_after(node: Any) -> dict[str, Any]:
    """Return the root and the parent of what follows a task, or the last of several, that ran in this process."""
    while members := getattr(node, "results", None):
        node = members[-1]
    return {"root_id": getattr(node, "root_id", None), "parent_id": node.id}


class ResultBase:
    """What all results are: of one task, of several, of a group."""

    #: The project's app, which enters itself here: it knows this room, not the other way round.
    app: Any = None
    #: The result that this one follows, in a chain.
    parent: Any = None


def is_result(value: Any) -> bool:
    """Whether it is a result: a project's own ``apply_async`` may return something else, or nothing."""
    return isinstance(value, ResultBase)


class Family:
    """The part of ``AsyncResult`` that is about other results."""

    parent: Any
    id: str

    def iterdeps(self: Any, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (parent, result) for this one and all that came of it, nearest first.

        IncompleteStream after one that is not ready; with ``intermediate`` such a one is passed over.
        """
        stack: deque[tuple[Any, Any]] = deque([(None, self)])
        while stack:
            parent, node = stack.popleft()
            yield parent, node
            if node.ready():
                stack.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise exceptions.IncompleteStream(f"{node} is not ready, so what came of it is not known; intermediate=True passes over it")

    def collect(self: Any, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """Yield (result, value) for this one and all that came of it, and wait for each; ``kwargs`` are those of ``get``."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def get_leaf(self: Any) -> Any:
        """Wait for this one and all that came of it; return the value of the last."""
        found = None
        for _, value in self.collect():
            found = value
        return found

    def build_graph(self: Any, intermediate: bool = False, formatter: Any = None) -> DependencyGraph[Any]:
        """Return which results came of which. IncompleteStream, or with ``intermediate`` what is known, if one is not ready."""
        graph: DependencyGraph[Any] = DependencyGraph(formatter=formatter)
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph[Any]:
        """Which results came of which. IncompleteStream if one is not ready; see ``build_graph``."""
        return self.build_graph()

    def as_tuple(self: Any) -> tuple[Any, Any]:
        """Return Celery's wire form: ``((id, parent), None)``."""
        return (self.id, self.parent.as_tuple() if self.parent is not None else None), None

    def as_list(self: Any) -> list[str]:
        """Return the ids of this one and its parents, the nearest first."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else ())]
