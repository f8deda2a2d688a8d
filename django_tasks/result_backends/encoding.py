"""Results as text: values, and exceptions in Celery's form ``{"exc_type", "exc_message", "exc_module"}``."""

import base64
import importlib
import sys
from collections.abc import Mapping
from typing import Any, Final

from django_tasks import exceptions, states
from django_tasks.exceptions import EncodeError
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.serializers import JSON_TYPE, dumps, dumps_json, loads, loads_json

#: Our errors, by the module that Celery stores them under, so that its clients raise their own.
_CELERY: Final = "celery.exceptions"
_BILLIARD: Final = "billiard.exceptions"
_FROM_BILLIARD: Final = frozenset({"TimeLimitExceeded", "SoftTimeLimitExceeded", "WorkerLostError", "Terminated"})
_OURS: Final = exceptions.__name__


def encode_value(value: Any, serializer: str = "json") -> tuple[str, str, str]:
    """Return text, content type and content encoding of a result; binary serializers give ``base64``.

    Raises EncodeError for a value that can't be serialized.
    """
    value = _wire(value)
    if serializer == "json":
        return dumps_json(value), JSON_TYPE, "utf-8"
    payload = dumps(value, serializer)
    try:
        if payload.content_encoding == "binary":
            return base64.b64encode(payload.body).decode(), payload.content_type, "base64"
        return payload.body.decode(), payload.content_type, payload.content_encoding
    except UnicodeDecodeError as error:
        raise EncodeError(f"the serializer {serializer!r} gave text that is none: {error}") from error


def _wire(value: Any) -> Any:
    # A result object that a task returns is stored as its tuple, as in Celery.
    as_tuple = getattr(value, "as_tuple", None)
    return as_tuple() if as_tuple is not None and hasattr(value, "get") and hasattr(value, "forget") else value


def encode_exception(error: BaseException) -> dict[str, Any]:
    """Return Celery's wire form of an exception; arguments that are not serializable become their text."""
    cls = type(error)
    module = cls.__module__
    if module == _OURS:
        module = _BILLIARD if cls.__name__ in _FROM_BILLIARD else _CELERY
    return {"exc_type": cls.__qualname__, "exc_message": [_plain(argument) for argument in error.args], "exc_module": module}


def _plain(argument: Any) -> Any:
    try:
        dumps_json(argument)
    except EncodeError:
        return repr(argument)
    return argument


def decode(meta: ResultMeta, *, accept: Any = None) -> Any:
    """Return a task's value, or its exception, as an object, in the states that have one."""
    if meta.result is None:
        return None
    if meta.content_type == JSON_TYPE and meta.content_encoding == "utf-8":
        value = loads_json(meta.result)
    else:
        body = base64.b64decode(meta.result) if meta.content_encoding == "base64" else meta.result.encode()
        encoding = "binary" if meta.content_encoding == "base64" else meta.content_encoding
        value = loads(body, meta.content_type, encoding, accept=accept)
    return decode_exception(value) if meta.status in states.EXCEPTION_STATES else value


def decode_exception(wire: Any) -> Any:
    """Build the exception that Celery's wire form stands for.

    Its own class where that can be found, else a stand-in of the same name. A name that is no exception is refused: it
    becomes an ``Exception`` that shows what was stored.
    """
    if isinstance(wire, BaseException) or not isinstance(wire, Mapping) or "exc_type" not in wire:
        return wire if isinstance(wire, BaseException) or wire is None else Exception(wire)
    name, module = str(wire["exc_type"]), wire.get("exc_module") or _OURS
    message = wire.get("exc_message")
    arguments = list(message) if isinstance(message, list | tuple) else [] if message is None else [message]
    cls = _find(name, str(module))
    if cls is not None and not (isinstance(cls, type) and issubclass(cls, BaseException)):
        return Exception(f"{module}.{name} is stored as an exception and is none: {arguments!r}")
    if cls is None:
        cls = type(
            name.rpartition(".")[2],
            (Exception,),
            {"__module__": str(module), "__doc__": "Stands for a class that is not to be found here."},
        )
    try:
        return cls(*arguments)
    except Exception:  # noqa: BLE001  a constructor that wants something else
        return Exception(f"{name}({', '.join(map(repr, arguments))})")


def _find(name: str, module: str) -> Any:
    if module in {_CELERY, _BILLIARD} and hasattr(exceptions, name):
        return getattr(exceptions, name)
    if module not in sys.modules and module.partition(".")[0] in sys.modules:
        # Only inside packages that are loaded already: a stored name must not bring in others.
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001  then a stand-in will do
            return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
