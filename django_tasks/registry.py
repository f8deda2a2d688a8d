"""Task names and the tasks behind them, and the modules that are imported to find them."""

import warnings
from collections.abc import Iterable, Iterator, MutableMapping
from importlib.util import find_spec
from typing import Any

from django_tasks.exceptions import AlreadyRegistered, NotRegistered
from django_tasks.importing import import_module


class TaskRegistry(MutableMapping[str, Any]):
    """Name → task. Reading an unknown name raises NotRegistered (a KeyError)."""

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}
        #: Plain dictionary look-up without the wrapper's cost: None for an unknown name.
        self.find = self._tasks.get

    def register(self, task: Any) -> Any:
        """Enter a task under its name and return the one that holds the name.

        A module that is imported twice keeps its first task; a different function under a taken name raises
        AlreadyRegistered. A task class is entered as an instance of it.
        """
        if isinstance(task, type):
            task = task()
        if not isinstance(getattr(task, "name", None), str):
            raise TypeError(f"{task!r} is no task: @shared_task and app.register_task make and register one; nothing was registered")
        held = self._tasks.get(task.name)
        if held is None:
            self._tasks[task.name] = task
            if (registered := getattr(task, "on_registered", None)) is not None:
                try:
                    registered()
                except BaseException:
                    self._tasks.pop(task.name, None)
                    raise
            return task
        if held is task:
            return task
        if _origin(held) != _origin(task):
            taken, other = (".".join(filter(None, _origin(one))) for one in (held, task))
            raise AlreadyRegistered(
                f"the task name {task.name!r} is taken by {taken}; give {other} another with name=. It was not registered"
            )
        lines = {_line(held), _line(task)}
        if len(lines) > 1:
            # No error: a module that was edited and loaded anew says it once more, elsewhere.
            text = f"the task {task.name!r} is declared twice, at {' and '.join(sorted(lines))}; the one that came first counts"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return held

    def unregister(self, name: str) -> None:
        """Remove a task; NotRegistered if there is none of this name."""
        if self._tasks.pop(name, None) is None:
            raise NotRegistered(name)

    def __getitem__(self, name: str) -> Any:
        try:
            return self._tasks[name]
        except KeyError:
            raise NotRegistered(name) from None

    def __setitem__(self, name: str, task: Any) -> None:
        self._tasks[name] = task

    def __delitem__(self, name: str) -> None:
        self.unregister(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


def _origin(task: Any) -> tuple[str, str]:
    # What was written where: stable when a module is loaded a second time, as by a reloader.
    run = getattr(task, "run", task)
    function = getattr(run, "__func__", run)
    return getattr(task, "__module__", ""), getattr(function, "__qualname__", type(task).__qualname__)


def _line(task: Any) -> str:
    code = getattr(getattr(task, "__wrapped__", None) or getattr(task, "run", task), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


#: The one registry of the process.
registry = TaskRegistry()

#: What ``app.add_periodic_task`` was given, for beat: name → {"task", "schedule", "args", "kwargs", "options"}.
periodic_tasks: dict[str, dict[str, Any]] = {}


def import_task_modules(packages: Iterable[str], related_name: str = "tasks") -> list[str]:
    """Import ``<package>.<related_name>`` of every package that has one; return the imported names.

    An error inside such a module is the project's to see: it is raised as it is, or told by the command that runs.
    """
    imported = []
    for package in packages:
        name = f"{package}.{related_name}"
        if find_spec(name) is not None and import_module(name):
            imported.append(name)
    return imported
