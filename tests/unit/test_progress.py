"""How far a task has come: what is read from a state."""

import pytest

from django_tasks.operations.progress import Progress, progress_of


@pytest.mark.parametrize(
    ("status", "value", "progress"),
    [
        ("PROGRESS", {"done": 3, "total": 10, "message": "cover"}, Progress(3, 10, "cover")),
        ("PROGRESS", {"done": 3, "total": None, "message": ""}, Progress(3)),
        ("PROGRESS", {"current": 3, "total": 10}, Progress(3, 10)),
        ("PACKING", {"pending": False, "current": 3, "total": 4, "percent": 75, "description": "boxes"}, Progress(3, 4, "boxes")),
        ("PROGRESS", {"current": "3"}, Progress(3)),
        ("PROGRESS", {"total": 10}, None),
        ("PROGRESS", {"current": "third"}, None),
        ("PROGRESS", {"current": 3, "total": [1, 2]}, None),
        ("PROGRESS", [3, 10], None),
        ("PROGRESS", None, None),
        ("SUCCESS", {"done": 3, "total": 10}, None),
        ("STARTED", {"current": 3, "total": 10}, None),
    ],
)
def test_what_a_state_says(status, value, progress):
    """Our names, those of Celery's guide and celery-progress's are read; a result or another meta is no progress."""
    assert progress_of(status, value) == progress


@pytest.mark.parametrize(
    ("progress", "share"),
    [(Progress(3, 10), 0.3), (Progress(12, 10), 1.0), (Progress(-1, 10), 0.0), (Progress(3), None), (Progress(0, 0), None)],
)
def test_its_share(progress, share):
    """Between 0 and 1 whatever was stored; unknown without a total."""
    assert progress.share == share
