"""No step is broken when a test begins."""

from collections.abc import Iterator

import pytest

from tests.database.resuming.brokensteps import BROKEN, RAN


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    BROKEN.clear()
    RAN.clear()
