"""The reading side: what has become of tasks that were sent."""

from django_tasks.result.graph import DependencyGraph
from django_tasks.result.groups import GroupResult, ResultSet
from django_tasks.result.single import AsyncResult, EagerResult, allow_join_result, denied_join_result, result_from_tuple

__all__ = [
    "AsyncResult",
    "DependencyGraph",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "allow_join_result",
    "denied_join_result",
    "result_from_tuple",
]
