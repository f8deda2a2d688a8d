"""The result backend of these tests."""

import pytest

from django_tasks import result_backends
from tests.unit.result.keeping import Counting


@pytest.fixture
def backend(monkeypatch):
    """The process's result backend."""
    backend = Counting("results")
    backend.clear()
    monkeypatch.setattr(result_backends, "current", lambda: backend)
    return backend
