"""A result backend that counts what it is asked, and what is kept in it."""

import threading
import time
from contextlib import contextmanager

from django_tasks import AsyncResult, ResultSet, clock, states
from django_tasks.context import Request, running
from django_tasks.messages import TaskMessage, new_id
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.encoding import encode_value
from django_tasks.result_backends.memory import MemoryResultBackend


class Counting(MemoryResultBackend):
    """Memory that counts what it is asked."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def fetch(self, task_ids):
        self.calls.append(("fetch", len(task_ids)))
        return super().fetch(task_ids)

    def wait(self, task_ids, timeout):
        self.calls.append(("wait", len(task_ids)))
        return super().wait(task_ids, timeout)

    def forget(self, task_ids):
        self.calls.append(("forget", len(task_ids)))
        super().forget(task_ids)


def keep(backend, task_id, status=states.SUCCESS, value=None, **more):
    text, content_type, content_encoding = encode_value(value, "json")
    if status in states.READY_STATES:
        more.setdefault("date_done", clock.now())
    backend.store(
        [ResultMeta(task_id=task_id, status=status, result=text, content_type=content_type, content_encoding=content_encoding, **more)]
    )


@contextmanager
def soon(*calls):
    """Make the calls in another thread, shortly after the block has begun."""
    thread = threading.Thread(target=lambda: [(time.sleep(0.02), call()) for call in calls])
    thread.start()
    try:
        yield
    finally:
        thread.join()


def many(backend, *values):
    for number, value in enumerate(values):
        keep(backend, f"m{number}", states.FAILURE if isinstance(value, Exception) else states.SUCCESS, value)
    return ResultSet([AsyncResult(f"m{number}") for number in range(len(values))])


def in_task():
    return running(Request(message=TaskMessage(id=new_id(), task="t")))
