"""The tasks of the workflow tests, declared for our engine, and those that only it can have."""

import asyncio
import os
import time
from types import SimpleNamespace

from pydantic import BaseModel

import django_tasks
from django_tasks import exceptions, result, shared_task
from django_tasks.canvas import StampingVisitor
from tests.workflows.tasks import declare, note, noted

#: The names that the tables of ``tests.workflows`` use.
engine = declare(
    SimpleNamespace(
        app=django_tasks.app,
        shared_task=django_tasks.shared_task,
        Task=django_tasks.Task,
        chain=django_tasks.chain,
        group=django_tasks.group,
        chord=django_tasks.chord,
        signature=django_tasks.signature,
        maybe_signature=django_tasks.maybe_signature,
        StampingVisitor=StampingVisitor,
        AsyncResult=result.AsyncResult,
        GroupResult=result.GroupResult,
        result_from_tuple=result.result_from_tuple,
        allow_join_result=result.allow_join_result,
        Ignore=exceptions.Ignore,
        Reject=exceptions.Reject,
        IncompleteStream=exceptions.IncompleteStream,
        TimeoutError=exceptions.TimeoutError,
        sleep=time.sleep,
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
