"""What a coroutine may not call where a database holds messages and results: the error names what it may."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

from django_tasks import AsyncResult, chord, group, states
from django_tasks.models import Message, Revocation
from tests.sampleapp.tasks import add

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: add.delay(1, 2), "adelay"),
        (lambda: add.apply_async((1, 2)), "aapply_async"),
        (lambda: group(add.s(1, 2), add.s(3, 4)).delay(), "adelay"),
        (lambda: (add.s(1, 2) | add.s(3)).apply_async(on_commit=False), "aapply_async"),
        (lambda: chord([add.s(1, 2)], add.s(3)).delay(), "adelay"),
        (lambda: AsyncResult("one").get(timeout=1), "aget"),
        (lambda: AsyncResult("one").state, "aget"),
        (lambda: AsyncResult("one").ready(), "sync_to_async"),
        (lambda: AsyncResult("one").revoke(), "arevoke"),
        (lambda: AsyncResult("one").revoke_by_stamped_headers({"tenant": "acme"}), "sync_to_async"),
    ],
)
def test_a_call_that_a_coroutine_can_not_make_names_the_one_to_await(call: Callable[[], Any], named: str) -> None:
    """It is Django's own error still, and nothing is sent or revoked."""

    async def coroutine() -> None:
        with pytest.raises(SynchronousOnlyOperation, match=named):
            call()

    async_to_sync(coroutine)()
    assert not Message.objects.exists()
    assert not Revocation.objects.exists()


def test_what_is_named_works() -> None:
    """A task that is sent and revoked in a coroutine is REVOKED."""

    async def coroutine() -> str:
        result = await add.adelay(1, 2)
        await result.arevoke()
        return await sync_to_async(lambda: result.state)()

    assert async_to_sync(coroutine)() == states.REVOKED
