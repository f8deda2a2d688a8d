"""The sample project."""

import pytest

from tests.celeryproject import FILES
from tests.unit.migrating.projects import write


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The sample project, and we stand in it."""
    monkeypatch.chdir(write(tmp_path, FILES))
    return tmp_path
