"""Results as text: values, and exceptions in Celery's form ``{"exc_type", "exc_message", "exc_module"}``."""

import base64
from collections.abc import Callable, Collection, Mapping
from types import WrapperDescriptorType
from typing import Any

from django_tasks import states
from django_tasks.exceptions import EncodeError, TaskError, TaskRevokedError
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.exceptionclasses import module_on_the_wire, named_exception
from django_tasks.serializers import JSON_TYPE, dumps, dumps_json, loads, loads_json

#: Says which content types results may have; ``result_backends`` makes it the project's accept list. None: JSON only.
accept_list: Callable[[], Collection[str] | None] = lambda: None  # noqa: E731  a place to put another one


def encode_value(value: Any, serializer: str = "json") -> tuple[str, str, str]:
    """Return a result's text, content type and content encoding; binary serializers give ``base64``.

    A result object (AsyncResult, GroupResult) becomes Celery's result tuple, an exception its wire form. Raises
    EncodeError for a value that can't be serialized.
    """
    wire = _wire(value)
    try:
        return _encoded(wire, serializer)
    except EncodeError as error:
        if isinstance(wire, Mapping) and "exc_type" in wire:
            # Why a task failed must not get lost: another serializer may refuse what JSON can take.
            return _encoded({**wire, "exc_message": [repr(argument) for argument in wire["exc_message"]]}, serializer)
        raise EncodeError(f"the result can't be stored: {error}") from error


def _wire(value: Any) -> Any:
    if isinstance(value, BaseException):
        return encode_exception(value)
    as_tuple = getattr(value, "as_tuple", None)
    # Other people's classes may have an as_tuple, too; results can also be forgotten.
    return as_tuple() if callable(as_tuple) and hasattr(value, "forget") else value


def _encoded(value: Any, serializer: str) -> tuple[str, str, str]:
    if serializer == "json":
        return dumps_json(value), JSON_TYPE, "utf-8"
    payload = dumps(value, serializer)
    if payload.content_encoding == "binary":
        return base64.b64encode(payload.body).decode(), payload.content_type, "base64"
    try:
        return payload.body.decode(payload.content_encoding), payload.content_type, payload.content_encoding
    except (UnicodeDecodeError, LookupError) as error:
        raise EncodeError(f"the serializer {serializer!r} says {payload.content_encoding!r} and gives something else: {error}") from error


def plain_stamps(stamps: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return stamps as a result keeps them: what is no JSON, as its text. None where there are none."""
    return {name: _plain(value) for name, value in stamps.items()} if stamps else None


def encode_exception(error: BaseException) -> dict[str, Any]:
    """Return Celery's wire form of an exception; arguments that JSON can't take become their repr.

    Our own errors go under the modules that Celery has them in, so that its clients raise theirs.
    """
    cls = type(error)
    arguments = [_plain(argument) for argument in error.args or _said(error)]
    return {"exc_type": cls.__qualname__, "exc_message": arguments, "exc_module": module_on_the_wire(cls)}


def _said(error: BaseException) -> tuple[str, ...]:
    """Return what an exception without arguments says, where its class would take that: pydantic's keep their text elsewhere."""
    if not isinstance(type(error).__init__, WrapperDescriptorType):
        return ()
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  somebody's __str__; the exception itself is what matters
        return ()
    return (text,) if text else ()


def _plain(argument: Any) -> Any:
    if argument is None or isinstance(argument, str | int | float):
        return argument
    try:
        dumps_json(argument)
    except EncodeError:
        try:
            return repr(argument)
        except Exception as error:  # noqa: BLE001  somebody's __repr__; the exception itself is what matters
            return f"<{type(argument).__qualname__} whose repr raised {type(error).__qualname__}>"
    return argument


def decode(meta: ResultMeta, *, accept: Collection[str] | None = None) -> Any:
    """Return a task's value, or in the states that have one its exception, as an object.

    ``accept`` holds the serializers that may be used; None takes the project's. Raises ContentDisallowed and DecodeError.
    """
    value = None if meta.result is None else _decoded(meta, accept)
    if meta.status not in states.EXCEPTION_STATES:
        return value
    if meta.status in states.PROPAGATE_STATES and value is None:
        return TaskRevokedError("revoked") if meta.status == states.REVOKED else TaskError("the task failed; its exception was not kept")
    return decode_exception(value)


def _decoded(meta: ResultMeta, accept: Collection[str] | None) -> Any:
    text = meta.result or ""
    if meta.content_type == JSON_TYPE and meta.content_encoding == "utf-8":
        return loads_json(text)
    allowed = accept_list() if accept is None else accept
    if meta.content_encoding == "base64":
        return loads(base64.b64decode(text), meta.content_type, "binary", accept=allowed)
    return loads(text.encode(meta.content_encoding), meta.content_type, meta.content_encoding, accept=allowed)


def decode_exception(wire: Any) -> Any:
    """Build the exception that Celery's wire form stands for; None stays None.

    It has its own class where this process knows it, else a stand-in of the same name. Nothing is imported for it but what
    RESULT_EXCEPTION_MODULES lists. Only exceptions are ever built, and those that would end the reader's process (SystemExit
    and the like) get a stand-in, too. A class whose constructor takes other arguments is built without it.
    """
    if wire is None or isinstance(wire, BaseException):
        return wire
    if not isinstance(wire, Mapping) or "exc_type" not in wire:
        return Exception(wire)
    message = wire.get("exc_message")
    arguments = list(message) if isinstance(message, list | tuple) else [] if message is None else [message]
    return named_exception(str(wire["exc_type"]), str(wire.get("exc_module") or "builtins"), arguments)
