"""A client of Celery's, in the test's own process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery


@contextmanager
def celery_client(url: str, *, broker: str = "memory://") -> Iterator[Celery]:
    """Give an app of Celery's whose results lie in a Redis server; no connection of it is left afterwards."""
    app = Celery("client", broker=broker, backend=url, set_as_current=False)
    try:
        yield app
    finally:
        # Results unsubscribe when they are collected, and would open a connection anew for that.
        app.backend.result_consumer.cancel_for = lambda _task_id: None
        gc.collect()
        app.backend.result_consumer.stop()
        app.backend.client.connection_pool.disconnect()
        app.close()
