"""The backend on the test's database."""

import pytest

from django_tasks.result_backends.database import DatabaseResultBackend


@pytest.fixture
def backend(alias):
    return DatabaseResultBackend(alias)
