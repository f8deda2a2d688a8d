"""Coroutines that run eagerly: in the caller's transaction, however deep they call each other."""

import pytest
from django.test import TestCase

from django_tasks import shared_task
from django_tasks.testing import eager
from tests.sampleapp.models import Effect
from tests.sampleapp.tasks import record_async


@shared_task
async def keys():
    """Return the keys of all rows that this task sees."""
    return [effect.key async for effect in Effect.objects.order_by("key")]


@shared_task
async def descend(depth):
    """Call itself, awaiting."""
    return 0 if depth == 0 else await (await descend.adelay(depth - 1)).aget() + 1


@shared_task
async def descend_blocking(depth):
    """Call itself as a function would, which keeps its loop waiting."""
    return 0 if depth == 0 else descend_blocking.delay(depth - 1).get() + 1


class InATransaction(TestCase):
    """TestCase rolls back what a test wrote: a row that outlives one was written on another connection."""

    def setUp(self):
        """Begin with one row, that no other connection sees."""
        Effect.objects.create(key="mine", pid=0)

    def look_and_write(self, call):
        assert call(keys).get() == ["mine"]
        assert call(record_async, "theirs").get() == "theirs"
        assert sorted(effect.key for effect in Effect.objects.all()) == ["mine", "theirs"]

    @eager()
    def test_delay(self):
        """An eager call sees the caller's rows, and the caller its."""
        self.look_and_write(lambda task, *args: task.delay(*args))

    def test_apply(self):
        """So does apply()."""
        self.look_and_write(lambda task, *args: task.apply(args))

    @eager()
    async def test_adelay(self):
        """So does a call from a coroutine."""
        assert await (await keys.adelay()).aget() == ["mine"]
        await record_async.adelay("theirs")
        assert await Effect.objects.acount() == 2


@pytest.mark.timeout(30)
@pytest.mark.parametrize("task", [descend, descend_blocking])
def test_coroutines_that_call_each_other(task):
    """A coroutine may call another, and that one the next: none waits for a thread or loop that waits for it."""
    with eager():
        assert task.delay(3).get() == 3


@pytest.mark.timeout(30)
class FromACoroutine(TestCase):
    """The same calls on Django's test loop."""

    @eager()
    async def test_awaiting(self):
        """Each level awaits the next."""
        assert await (await descend.adelay(3)).aget() == 3

    @eager()
    async def test_blocking(self):
        """Each level blocks."""
        assert descend_blocking.delay(3).get() == 3
