"""Exceptions from names that somebody stored: which classes may be found by them, and how one is built.

A store is not trusted with more than names. Nothing is imported but what ``importable`` lists; no attribute is computed (a
module's ``__getattr__`` may import others); nothing is called but the class of an exception.
"""

import importlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from django_tasks import exceptions

_OURS: Final = exceptions.__name__
#: The modules in which Celery's clients look for the errors that we have under the same names.
_CELERY: Final = "celery.exceptions"
_ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("TimeLimitExceeded", "SoftTimeLimitExceeded", "WorkerLostError", "Terminated"), "billiard.exceptions"),
    **dict.fromkeys(("OperationalError", "SerializationError", "ContentDisallowed", "DecodeError", "EncodeError"), "kombu.exceptions"),
}
_TRANSLATED: Final = frozenset({_CELERY, *_ELSEWHERE.values()})
#: Longest name of a class or module that is shown.
_LONGEST: Final = 255

#: Says from which modules and packages a class may be imported; ``result_backends`` makes it RESULT_EXCEPTION_MODULES.
importable: Callable[[], Collection[str]] = lambda: ()  # noqa: E731  a place to put another one


def module_on_the_wire(cls: type[BaseException]) -> str:
    """Return the module under which a class travels: our own errors have the one in which Celery has theirs."""
    return _ELSEWHERE.get(cls.__name__, _CELERY) if cls.__module__ == _OURS else cls.__module__


def named_exception(name: str, module: str, arguments: Sequence[Any]) -> Exception:
    """Build the exception of this name. It has a stand-in's class where its own isn't known here, or ends processes."""
    cls = _find(name, module)
    if not (isinstance(cls, type) and issubclass(cls, Exception)):
        return _stand_in(name, module)(*arguments)
    try:
        error = cls(*arguments)
    except Exception:  # noqa: BLE001  a constructor that wants something else
        return _unconstructed(cls, arguments)
    if arguments and error.args != tuple(arguments):
        # Its constructor makes these of something else: what was kept is what the exception said.
        error.args = tuple(arguments)
    return error


def _unconstructed(cls: type[Exception], arguments: Sequence[Any]) -> Exception:
    """Build an exception without its constructor, which takes other arguments than the exception kept."""
    chosen: tuple[Callable[[Any], Any], ...] = (lambda own: own, _telling)
    for choose in chosen:
        try:
            kind = choose(cls)
            error: Exception = kind.__new__(kind, *arguments)
            error.args = tuple(arguments)
            legible = bool(repr(error) and (str(error) or not arguments))
        except Exception:  # noqa: BLE001, S112  its text is made of attributes that only its constructor sets
            continue
        if legible:
            error.add_note(f"{cls.__qualname__}() takes other arguments than it was kept with: attributes that it sets are missing")
            return error
    return _stand_in(cls.__qualname__, cls.__module__)(*arguments)


@lru_cache(maxsize=256)
def _telling(cls: Any) -> Any:
    """Return a subclass that passes for the class, and whose text is its arguments."""
    methods = {"__str__": Exception.__str__, "__repr__": Exception.__repr__, "__init__": Exception.__init__}
    return type(cls.__name__, (cls,), {**methods, "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__})


def _stand_in(name: str, module: str) -> type[Exception]:
    return _named(_legible(name) or "Exception", _legible(module))


@lru_cache(maxsize=256)
def _named(name: str, module: str) -> type[Exception]:
    # Kept, so that two errors of one unknown class are of one class here as well.
    doc = f"Stands for {module}.{name}, which is no exception that is known in this process."
    return type(name.rpartition(".")[2] or "Exception", (Exception,), {"__module__": module, "__qualname__": name, "__doc__": doc})


def _legible(name: str) -> str:
    """Return a name that a class can have: no NUL, no half of a surrogate pair, and not of any length."""
    return name[:_LONGEST].encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _find(name: str, module: str) -> Any:
    if module in _TRANSLATED and isinstance(found := getattr(exceptions, name, None), type):
        return found
    if module not in sys.modules and _may_import(module):
        try:
            importlib.import_module(module)
        except (Exception, SystemExit):  # noqa: BLE001  then a stand-in will do
            return None
    found = sys.modules.get(module)
    if not isinstance(found, ModuleType):
        return None
    for part in name.split("."):
        # As they stand, without the hooks by which attributes are made when asked for.
        kept = type.__dict__["__dict__"].__get__(found) if isinstance(found, type) else object.__getattribute__(found, "__dict__")
        found = kept.get(part)
        if not isinstance(found, type):
            return None
    return found


def _may_import(module: str) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in importable())
