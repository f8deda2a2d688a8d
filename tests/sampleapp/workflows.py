"""The tasks of the workflow tests, declared for our engine, and those that only it can have."""

import asyncio
import os
import time

from pydantic import BaseModel

import django_tasks
from django_tasks import exceptions, result, shared_task
from django_tasks.canvas import StampingVisitor
from tests.workflows.tasks import declare, engine_of, note, noted

#: The names that the tables of ``tests.workflows`` use.
engine = declare(
    engine_of(
        django_tasks,
        exceptions,
        StampingVisitor,
        app=django_tasks.app,
        shared_task=django_tasks.shared_task,
        Task=django_tasks.Task,
        AsyncResult=result.AsyncResult,
        GroupResult=result.GroupResult,
        result_from_tuple=result.result_from_tuple,
        allow_join_result=result.allow_join_result,
    )
)


class Order(BaseModel):
    """An order."""

    item: str
    pieces: int = 1


@shared_task
async def add_async(x, y):
    """Return the sum, from a coroutine."""
    await asyncio.sleep(0)
    return x + y


@shared_task(bind=True, max_retries=2, default_retry_delay=0)
async def retry_async(self):
    """Try again twice, from a coroutine."""
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@shared_task(bind=True)
async def replace_async(self, x):
    """Let a chain run instead, from a coroutine."""
    return self.replace(add_async.s(x, 1) | add_async.s(1))


@shared_task(pydantic=True)
def pack(order: Order) -> Order:
    """Return a larger order."""
    return Order(item=order.item.upper(), pieces=order.pieces + 1)


@shared_task(bind=True)
def climb(self, key):
    """Tell how far it has come, then wait to be released."""
    self.progress(30, 200, "reading")
    note(f"{key} told")
    while f"{key} go on" not in noted():
        time.sleep(0.01)
    return "up"


@shared_task
def part(number, key):
    """Return the number, a while after a line with it and the process was written."""
    note(f"{key} {number} {os.getpid()}")
    time.sleep(0.01)
    return number


@shared_task
def body(numbers, key):
    """Return the list; a line for each run."""
    note(f"{key} body {len(numbers)}")
    return numbers


@shared_task
def hang(key):
    """Write a line with the process, then take very long."""
    note(f"{key} {os.getpid()}")
    time.sleep(60)


@shared_task(acks_late=False, reject_on_worker_lost=False)
def hang_alone(key):
    """Take very long; the broker has forgotten it before it runs."""
    hang.run(key)


@shared_task
def mend(value, key, name):
    """Return one more, or of a list the sum; a line for each run. What is broken fails until mended; what is slow waits to be shot."""
    lines = noted()
    note(f"{key} ran {name} {os.getpid()}")
    if f"{key} broken {name}" in lines and f"{key} mended" not in lines:
        raise ValueError(f"{name} is broken")
    while f"{key} slow {name}" in lines and f"{key} shot" not in noted():
        time.sleep(0.01)
    return sum(value) if isinstance(value, list) else value + 1
