"""What tests of workflows over the database share."""

from typing import Any

import pytest

from tests.database.lane import Lane


@pytest.fixture
def lane() -> Any:
    """A lane whose consumer is closed afterwards."""
    made = Lane()
    yield made
    made.consumer.close()
