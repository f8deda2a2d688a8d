"""Other settings for a while, and the context managers that are decorators, too."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from functools import wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from django_tasks.conf import settings

T = TypeVar("T")
P = ParamSpec("P")
Function = TypeVar("Function", bound=Callable[..., Any])
Opening: TypeAlias = Callable[[], AbstractContextManager[Any]]


class Scope(AbstractContextManager[T], Generic[T]):
    """What holds inside a ``with`` block, or while a decorated function runs; ``async def`` functions, too."""

    def __init__(self, opening: Callable[[], AbstractContextManager[T]]) -> None:
        self._opening = opening
        self._entered: list[AbstractContextManager[T]] = []

    def __enter__(self) -> T:
        opened = self._opening()
        value = opened.__enter__()
        self._entered.append(opened)
        return value

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return self._entered.pop().__exit__(kind, error, trace)

    def __call__(self, function: Function) -> Function:
        """Decorate a function, or a generator, as fixtures are; TypeError for a class, whose methods are to be decorated instead."""
        if inspect.isclass(function):
            raise TypeError(f"{function.__name__} is a class: decorate its test methods, or use django_tasks.testing.TasksMixin")
        kinds = (
            (inspect.iscoroutinefunction, _coroutine),
            (inspect.isasyncgenfunction, _async_generator),
            (inspect.isgeneratorfunction, _generator),
        )
        inside = next((inside for is_such, inside in kinds if is_such(function)), _function)
        return wraps(function)(inside(function, self._opening))  # type: ignore[return-value]


def _function(function: Callable[..., Any], opening: Opening) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with opening():
            return function(*args, **kwargs)

    return run


def _generator(function: Callable[..., Any], opening: Opening) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with opening():
            return (yield from function(*args, **kwargs))

    return run


def _coroutine(function: Callable[..., Any], opening: Opening) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with opening():
            return await function(*args, **kwargs)

    return run


def _async_generator(function: Callable[..., Any], opening: Opening) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with opening():
            async with aclosing(function(*args, **kwargs)) as values:
                async for value in values:
                    yield value

    return run


def scope(function: Callable[P, Iterator[T]]) -> Callable[P, Scope[T]]:
    """Make a generator function one that returns a ``Scope``."""
    managed = contextmanager(function)

    @wraps(function)
    def open_scope(*args: P.args, **kwargs: P.kwargs) -> Scope[T]:
        return Scope(lambda: managed(*args, **kwargs))

    return open_scope


@contextmanager
def overridden(**values: Any) -> Iterator[None]:
    """Let settings have these values inside the block, whatever Django's settings say meanwhile."""
    from django_tasks.application import app

    before = settings.overrides()
    try:
        app.conf.update(values)
        yield
    finally:
        settings.drop_overrides()
        app.conf.update(before)


@scope
def eager(propagates: bool = True, store_results: bool = False) -> Iterator[None]:
    """Run tasks at once, where they are called. Context manager and decorator.

    ``propagates`` raises a task's exception at its caller; with False it is in the result, as in production.
    ``store_results`` keeps results in the result backend.
    """
    with overridden(TASK_ALWAYS_EAGER=True, TASK_EAGER_PROPAGATES=propagates, TASK_STORE_EAGER_RESULT=store_results):
        yield
