"""What a process closes before it forks, so that no two processes speak through one socket."""

import os
import sys
from typing import Any, Final

from django.core.cache import caches
from django.db import connections

#: Pools of a parent that a child forgot; their ends must not be called in the child.
_inherited: Final[list[Any]] = []


def close_what_is_open() -> None:
    """Close this thread's database connections, the process's database pools, its caches, and kombu's pools.

    A client of Redis needs nothing: redis-py opens connections anew in a child by itself, and our own clients of brokers and
    results are forgotten by ``os.register_at_fork``. The random numbers of Python are seeded anew by Python.
    """
    connections.close_all()
    for alias in _with_pools():
        pooled: Any = connections[alias]
        pooled.close_pool()
    caches.close_all()
    pools = sys.modules.get("kombu.pools")
    if pools is not None:
        pools.reset()


def _with_pools() -> list[str]:
    return [alias for alias in connections if (connections.settings[alias].get("OPTIONS") or {}).get("pool")]


def _forget_pools() -> None:
    # In a forked child, also in one that a task forks: the threads that serve a pool are not here, its lock may be held for ever,
    # and its connections are the parent's.
    for connection in connections.all(initialized_only=True):
        pools = getattr(type(connection), "_connection_pools", None)
        if pools:
            _inherited.append(dict(pools))
            pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)
