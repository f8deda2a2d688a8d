"""Sending signatures from async code: chains, groups and chords as much as single calls."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from asgiref.sync import sync_to_async

from django_tasks.result import AsyncResult

R = TypeVar("R")


class AsyncCalls(Generic[R]):
    """``adelay`` and ``aapply_async``: what they send runs through the thread of Django's synchronous code, with its transaction."""

    if TYPE_CHECKING:

        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            """Send it; every kind of signature has its own way."""

    async def adelay(self, *partial_args: Any, **partial_kwargs: Any) -> AsyncResult[R]:
        """``delay`` for async code: ``result = await (add.s(2, 3) | double.s()).adelay()``."""
        return cast("AsyncResult[R]", await self.aapply_async(partial_args, partial_kwargs))

    async def aapply_async(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """``apply_async`` for async code, with the same arguments."""
        return await sync_to_async(self.apply_async, thread_sensitive=True)(args, kwargs, **options)
