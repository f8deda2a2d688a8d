"""How functions and classes become registered tasks."""

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from django_tasks.registry import registry
from django_tasks.tasks.definition import Task
from django_tasks.tasks.functions import refuse_function, refuse_making
from django_tasks.tasks.options import NOT_ATTRIBUTES, TaskOptions, refuse_misspelt

if TYPE_CHECKING:
    from typing import Unpack

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What ``@shared_task(...)`` returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BindingDecorator(Protocol):
    """What ``@shared_task(bind=True, ...)`` returns: the function's first parameter is the task."""

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


@overload
def shared_task(function: Callable[P, Coroutine[Any, Any, R]], /, **options: "Unpack[TaskOptions]") -> Task[P, R]: ...
@overload
def shared_task(function: Callable[P, R], /, **options: "Unpack[TaskOptions]") -> Task[P, R]: ...
@overload
def shared_task(*, bind: Literal[True], **options: "Unpack[TaskOptions]") -> BindingDecorator: ...
@overload
def shared_task(*, bind: Literal[False] = False, **options: "Unpack[TaskOptions]") -> Decorator: ...
def shared_task(function: Any = None, /, **options: Any) -> Any:
    """Make a task of a function: ``@shared_task`` or ``@shared_task(bind=True, max_retries=5, queue="slow")``.

    The task is registered at once, as ``module.function`` or under ``name=``. With ``bind=True`` the function's first
    argument is the task itself. ``async def`` functions become tasks like any other.
    """
    if function is None:
        return lambda decorated: task_from_function(decorated, **options)
    if not callable(function):
        raise TypeError(f"@shared_task takes options by name, as @shared_task(name=...); it was given {function!r}")
    return task_from_function(function, **options)


def task_from_function(function: Callable[..., Any], **options: Any) -> Task[Any, Any]:
    """Make and register the task; a module that is imported twice keeps its first one."""
    refuse_function(function)
    name = options.pop("name", None) or name_of(function.__name__, function.__module__)
    if not isinstance(name, str):
        raise TypeError(f"a task's name must be text, not {name!r}; it was not registered")
    base = options.get("base") or (Task if Task.app is None else Task.app.Task)
    if not (isinstance(base, type) and issubclass(base, Task)):
        raise TypeError(f"task {name}: base takes a subclass of django_tasks.Task, not {base!r}; it was not registered")
    refuse_misspelt(name, options, base)
    refuse_making(name, function, options)
    bind = bool(options.get("bind", False))
    run: Any = function
    dump = None
    if options.get("pydantic"):
        from django_tasks.tasks.validation import with_models

        run, dump = with_models(function, name, bind=bind, options=options)
    attributes = {option: value for option, value in options.items() if option not in NOT_ATTRIBUTES}
    attributes.update(
        name=name,
        run=run if bind else staticmethod(run),
        is_plain_function=not bind,
        __doc__=function.__doc__,
        __annotations__=dict(getattr(function, "__annotations__", {})),
        __module__=function.__module__,
        __wrapped__=staticmethod(function),
        __qualname__=function.__qualname__,
    )
    task: Task[Any, Any] = type(function.__name__, (base,), attributes)()
    if dump is not None:
        task.dump_models = dump
    return register(task)


def register(task: Any) -> Task[Any, Any]:
    """Enter a task, or an instance of a task class, into the registry, and return the one that holds the name."""
    if isinstance(task, type):
        task = task()
    if not isinstance(task, Task):
        raise TypeError(f"{task!r} is no task: give register_task an instance of a subclass of django_tasks.Task")
    if not task.name:
        task.name = name_of(type(task).__name__, type(task).__module__)
    held: Task[Any, Any] = registry.register(task)
    return held


def name_of(function: str, module: str | None) -> str:
    """Return the name of a task that has none, as the project's app makes names (``app.gen_task_name``)."""
    name: str = task_name(function, module) if Task.app is None else Task.app.gen_task_name(function, module)
    return name


def task_name(function: str, module: str | None, main: str = "__main__") -> str:
    """Return the name of a task that has none: ``module.function``; in a script ``__main__.function``."""
    loaded = sys.modules.get(module or "__main__")
    module = loaded.__name__ if loaded is not None else module
    return f"{main if module == '__main__' else module}.{function}" if module else function
