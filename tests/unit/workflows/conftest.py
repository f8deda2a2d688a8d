"""Nothing is noted when a test begins."""

import pytest

from tests.unit.workflows.flow import calls


@pytest.fixture(autouse=True)
def _no_calls():
    import django_tasks.builtins  # noqa: F401

    calls.clear()
