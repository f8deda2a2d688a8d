"""Middleware: wraps publishing and execution, and may change things. Signals may only watch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from django_tasks.messages import TaskMessage

if TYPE_CHECKING:
    from django_tasks.context import Request

Publish: TypeAlias = Callable[[TaskMessage], TaskMessage]
#: Runs the task's function and returns its value, or raises what it raised.
Execute: TypeAlias = "Callable[[Request], Any]"


class Middleware:
    """Subclass, override what you need, and list the dotted path in ``MIDDLEWARE`` of ``DJANGO_TASKS``.

    The first entry is the outermost. A method that is not overridden costs nothing.
    """

    def publish(self, message: TaskMessage, call_next: Publish) -> TaskMessage:
        """Wrap publishing: return ``call_next(message)`` with the message changed or not. Raise to refuse it."""
        return call_next(message)

    def execute(self, request: "Request", call_next: Execute) -> Any:
        """Wrap a task's function: return ``call_next(request)``; what is raised becomes the task's outcome."""
        return call_next(request)

    async def aexecute(self, request: "Request", call_next: Execute) -> Any:
        """Wrap an ``async def`` task's function: return ``await call_next(request)``."""
        return await call_next(request)


def compose(middleware: Sequence[Middleware], method: str, innermost: Callable[..., Any]) -> Callable[..., Any]:
    """Nest ``method`` of every middleware that overrides it around ``innermost``; first is outermost."""
    chain = innermost
    for layer in reversed(middleware):
        if getattr(type(layer), method) is not getattr(Middleware, method):
            chain = partial(_call, layer, method, chain)
    return chain


def _call(layer: Middleware, method: str, call_next: Callable[..., Any], subject: Any) -> Any:
    # Looked up at each call, where a test may have put a mock.
    return getattr(layer, method)(subject, call_next)
