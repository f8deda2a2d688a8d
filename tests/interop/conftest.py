"""Workers of ours beside a real Celery."""

from tests.acceptance.conftest import start_worker

__all__ = ["start_worker"]
