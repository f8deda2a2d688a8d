"""Modules with tasks that can't be imported: told with the file and the line, and survived by the commands that tell it."""

import importlib
import os
import sys
import sysconfig
import traceback
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

#: The commands that go on without a module: they say what is wrong with it, and those that run tasks then refuse to.
_SURVIVORS: Final = frozenset({"check", "tasks", "runworker", "runbeat"})
_LIBRARIES: Final = (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), "<frozen ")


@dataclass(frozen=True, slots=True)
class BrokenModule:
    """A module that raised an error when it was imported."""

    name: str
    error: Exception

    def __str__(self) -> str:
        """Say where and what, in one line: ``shop/tasks.py:3: ModuleNotFoundError: No module named 'stripe'``."""
        path, line = self._place()
        text = self.error.msg if isinstance(self.error, SyntaxError) else str(self.error)
        return f"{path}:{line}: {type(self.error).__name__}: {text}"

    @property
    def traceback(self) -> str:
        """The traceback from the module on: how the import was made is no news."""
        first = self.error.__traceback__
        while first is not None and (first.tb_frame.f_code.co_filename == __file__ or "importlib" in first.tb_frame.f_code.co_filename):
            first = first.tb_next
        return "".join(traceback.format_exception(type(self.error), self.error, first)).rstrip()

    @property
    def files(self) -> list[str]:
        """Every file that took part: one of them is to be mended."""
        frames = [frame.filename for frame in traceback.extract_tb(self.error.__traceback__)]
        named = [self.error.filename] if isinstance(self.error, SyntaxError) and self.error.filename else []
        return [name for name in dict.fromkeys([*frames, *named]) if os.path.isfile(name)]  # noqa: PTH113  names of code

    def _place(self) -> tuple[str, int]:
        if isinstance(self.error, SyntaxError) and self.error.filename:
            return _short(self.error.filename), self.error.lineno or 0
        frames = traceback.extract_tb(self.error.__traceback__)
        # The last line of the project: what a library does below it, the traceback shows.
        own = [frame for frame in frames if not frame.filename.startswith((*_LIBRARIES, __file__))]
        last = (own or frames)[-1]
        return _short(last.filename), last.lineno or 0


#: What could not be imported in this process.
broken_modules: list[BrokenModule] = []


def import_module(name: str) -> bool:
    """Import a module of tasks; return whether that worked.

    What it raises is raised here, except under the commands that can tell of it themselves: those keep it in ``broken_modules``.
    A module that is the program itself is not imported again: its second copy would set everything up once more.
    """
    if name not in sys.modules and _is_program(name):
        sys.modules[name] = sys.modules["__main__"]
    try:
        importlib.import_module(name)
    except Exception as error:
        if not _told_by_the_command():
            raise
        broken_modules.append(BrokenModule(name, error))
        return False
    return True


def _is_program(name: str) -> bool:
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        return False
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        # The import says it better.
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == Path(file).resolve()


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _told_by_the_command() -> bool:
    # By Django's own frame and not by sys.argv: a program of another kind may have any arguments.
    management = sys.modules.get("django.core.management")
    if management is None:
        return False
    code = management.ManagementUtility.execute.__code__
    frame = sys._getframe()  # noqa: SLF001  the documented way to look at callers
    while frame.f_back is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame.f_code is code and frame.f_locals.get("subcommand") in _SURVIVORS
