"""Frozen dataclasses that are made by the million: the same classes, made five times as quickly.

A frozen dataclass fills each field by a call of ``object.__setattr__``. For a class of thirty fields that takes longer than
sending the message that it describes.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

T = TypeVar("T")


def quick(cls: type[T]) -> type[T]:
    """Give a frozen dataclass with slots a constructor that fills a plain twin, and then turns the twin into the class.

    Nothing else changes: instances refuse changes, are compared, hashed, copied, pickled and replaced as before. The class
    must inherit from nothing, and have no ``__post_init__``.
    """
    declared = fields(cls)  # type: ignore[arg-type]  # the decorator below this one has made it a dataclass
    names = tuple(field.name for field in declared)
    slots = tuple(getattr(cls, "__slots__", ()))
    if cls.__mro__ != (cls, object) or slots != names or hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} must be a dataclass with slots, without bases and without __post_init__")
    twin = type(cls.__name__, (), {"__slots__": names})
    namespace: dict[str, Any] = {"_make": twin.__new__, "_twin": twin, "_missing": MISSING, "cls": cls}
    body = [_filled(field, namespace) for field in declared]
    parameters = ("*, " if declared[0].kw_only else "") + ", ".join(_parameter(field, namespace) for field in declared)
    filling = f" self = _make(_twin)\n{''.join(body)} self.__class__ = cls\n return self\n"
    source = f"def __new__(cls, {parameters}):\n{filling}def make({parameters}):\n{filling}"
    exec(source, namespace)  # noqa: S102  as dataclasses make theirs; the names are those of the class's own fields
    made = namespace["__new__"]
    made.__qualname__ = f"{cls.__qualname__}.__new__"
    made.__doc__ = cls.__doc__
    cls.__new__ = made  # type: ignore[method-assign]
    _makers[cls] = namespace["make"]
    del cls.__init__
    cls.__reduce__ = _reduced  # type: ignore[method-assign]
    return cls


_makers: dict[type, Any] = {}


def maker(cls: type[T]) -> type[T]:
    """Return a function that does what calling this class does, in half the time: Python takes detours when it calls a class.

    For places that make thousands of them. To type checkers it is the class, so that they know what it takes and returns.
    """
    made: type[T] = _makers[cls]
    return made


def copier(cls: type[T], *own: str) -> Callable[..., T]:
    """Return a function that takes an instance and new values of these fields, by position, and returns a copy with them.

    It does what ``dataclasses.replace`` does, for those who make thousands of copies of one instance.
    """
    names = tuple(field.name for field in fields(cls))  # type: ignore[arg-type]
    twin = type(cls.__name__, (), {"__slots__": names})
    namespace: dict[str, Any] = {"_make": twin.__new__, "_twin": twin, "_class": cls}
    body = "".join(f" self.{name} = {name if name in own else f'_from.{name}'}\n" for name in names)
    source = f"def copy(_from, {', '.join(own)}):\n self = _make(_twin)\n{body} self.__class__ = _class\n return self\n"
    exec(source, namespace)  # noqa: S102  as in ``quick``
    made: Callable[..., T] = namespace["copy"]
    return made


def _parameter(field: "Field[Any]", namespace: dict[str, Any]) -> str:
    if field.default is not MISSING:
        namespace[f"_default_{field.name}"] = field.default
        return f"{field.name}=_default_{field.name}"
    return field.name if field.default_factory is MISSING else f"{field.name}=_missing"


def _filled(field: "Field[Any]", namespace: dict[str, Any]) -> str:
    if field.default_factory is MISSING:
        return f" self.{field.name} = {field.name}\n"
    factory = namespace[f"_new_{field.name}"] = field.default_factory
    if (constant := factory()) is factory():
        namespace[f"_constant_{field.name}"] = constant
        return f" self.{field.name} = _constant_{field.name} if {field.name} is _missing else {field.name}\n"
    return f" self.{field.name} = _new_{field.name}() if {field.name} is _missing else {field.name}\n"


def _reduced(self: Any) -> tuple[Any, ...]:
    return _again, (type(self), {name: getattr(self, name) for name in type(self).__slots__})


def _again(cls: type[T], values: dict[str, Any]) -> T:
    """Make an instance anew, for copies and pickles."""
    return cls(**values)
