"""The reading side: what has become of tasks that were sent."""

from django_tasks.result.eager import EagerResult
from django_tasks.result.family import ResultBase
from django_tasks.result.graph import DependencyGraph
from django_tasks.result.groups import GroupResult, ResultSet
from django_tasks.result.joining import allow_join_result, assert_will_not_block, denied_join_result
from django_tasks.result.revocation import revoke_tasks
from django_tasks.result.single import AsyncResult, result_from_tuple

__all__ = [
    "AsyncResult",
    "DependencyGraph",
    "EagerResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
    "revoke_tasks",
]
