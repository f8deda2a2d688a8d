"""What is open when a worker forks: closed before, so that no two processes speak through one socket."""

import os
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.cache import caches
from django.db import connections

from django_tasks.worker import beforefork
from django_tasks.worker.beforefork import close_what_is_open

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres"])


def test_connections_caches_and_the_pools_of_kombu_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened them: an app, a receiver of worker_init, the look for revocations."""
    pools, cache = SimpleNamespace(reset=Mock()), caches["default"]
    monkeypatch.setitem(sys.modules, "kombu.pools", pools)  # type: ignore[arg-type]  # not all of it
    monkeypatch.setattr(cache, "close", closed := Mock())
    connections["default"].ensure_connection()
    close_what_is_open()
    assert connections["default"].connection is None
    closed.assert_called_once_with()
    pools.reset.assert_called_once_with()


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pool of connections to PostgreSQL, with one that is open."""
    pytest.importorskip("psycopg_pool")
    wrapper = connections["postgres"]
    wrapper.close()
    monkeypatch.setitem(wrapper.settings_dict, "OPTIONS", {"pool": {"min_size": 1, "max_size": 2}})
    wrapper.ensure_connection()
    yield wrapper
    wrapper.close()
    wrapper.close_pool()


@pytest.mark.postgres
def test_pools_are_closed(pooled: Any) -> None:
    """Django's pool belongs to the process and not to the thread's connection, which only goes back to it."""
    pool = pooled.pool
    close_what_is_open()
    assert pool.closed
    assert "postgres" not in type(pooled)._connection_pools


@pytest.mark.postgres
def test_a_pool_that_is_open_after_all_is_no_ones_in_a_child(pooled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork that nobody prepared, a task's own for instance: the child forgets the pool, and the parent's is as it was."""
    pool, pid = pooled.pool, os.fork()
    if not pid:
        os._exit(0 if type(pooled)._connection_pools == {} and beforefork._inherited[-1]["postgres"] is pool else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert pooled.pool is pool
    assert not pool.closed
