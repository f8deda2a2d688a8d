"""Of what a task can be made: a function that fits the options that say how."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from django_tasks.canvas.parameters import own_signature
from django_tasks.tasks.attributes import is_flag
from django_tasks.tasks.definition import Task

_FLAGS: Final = ("bind", "pydantic", "pydantic_strict")
_MAPPINGS: Final = ("pydantic_context", "pydantic_dump_kwargs")


def refuse_function(function: Any) -> None:
    """Raise TypeError for what no task can be made of."""
    if isinstance(function, Task):
        raise TypeError(f"{function!r} is a task already; give @shared_task its function, {function.name}.run, and a name=")
    if isinstance(function, type) and issubclass(function, Task):
        raise TypeError(f"{function!r} is a class of tasks: register an instance of it with app.register_task({function.__name__}())")
    if not callable(function) or not hasattr(function, "__qualname__") or not hasattr(function, "__name__"):
        raise TypeError(f"a task is made of a function, as def makes one, not of {function!r}; nothing was registered")


def refuse_making(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise TypeError for options that say how the task is made, and can't; and for a bound function without a place for its task."""
    for option in _FLAGS:
        value = options.get(option)
        if value is not None and not is_flag(value):
            raise TypeError(f"task {name}: {option} takes True or False, not {value!r:.200}; it was not registered")
    for option in _MAPPINGS:
        value = options.get(option)
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"task {name}: {option} takes a dictionary, not {value!r:.200}; it was not registered")
    if options.get("bind") and not _takes_task(function):
        raise TypeError(
            f"task {name}: with bind=True the first parameter of its function is the task, as def pack(self, ...); this one takes none."
            " It was not registered"
        )


def _takes_task(function: Callable[..., Any]) -> bool:
    try:
        parameters = own_signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
