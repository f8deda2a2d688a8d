"""Values to bytes and back: kombu's serializers and compressions, the accept list, and a fast road for plain JSON.

JSON is kombu's: what JSON has no word for travels as ``{"__type__": …, "__value__": …}``. kombu is imported only when
something needs it, which plain data in plain JSON does not.
"""

import bz2
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, Final

from django_tasks.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured, SoftTimeLimitExceeded

JSON_TYPE: Final = "application/json"
PICKLE_TYPE: Final = "application/x-python-serialize"

#: Longest piece of a value that an error quotes.
_QUOTED: Final = 200


@dataclass(frozen=True, slots=True)
class Payload:
    """A serialized value. ``compression`` is the content type of the compression that was used, or None."""

    body: bytes
    content_type: str
    content_encoding: str
    compression: str | None = None


def dumps(value: Any, serializer: str = "json", compression: str | None = None) -> Payload:
    """Serialize ``value``: with ``json``, ``pickle``, ``yaml``, ``msgpack`` or what was registered with kombu.

    Raises EncodeError for a value that the serializer can't take, and for an unknown serializer or compression.
    """
    if serializer == "json":
        body, content_type, content_encoding = dumps_json(value).encode(), JSON_TYPE, "utf-8"
    else:
        body, content_type, content_encoding = _dumps_by_kombu(value, serializer)
    if compression is None:
        return Payload(body, content_type, content_encoding)
    body, header = _compress(body, compression)
    return Payload(body, content_type, content_encoding, header)


def plain_signatures(value: Any) -> Any:
    """Return a value with dictionaries for its signatures, which YAML refuses, and which pickle would tie to our classes."""
    kind = type(value)
    if kind is dict or (isinstance(value, dict) and hasattr(value, "__json__")):
        return {name: plain_signatures(each) for name, each in value.items()}
    return kind(map(plain_signatures, value)) if kind is list or kind is tuple else value


def loads(
    body: bytes | str,
    content_type: str,
    content_encoding: str = "utf-8",
    *,
    accept: Collection[str] | None = None,
    compression: str | None = None,
) -> Any:
    """Read what ``dumps`` made. ``accept`` holds names or content types; None accepts JSON only.

    Raises ContentDisallowed for a content type that is not accepted, before anything of the body is read, and
    DecodeError for a body that can't be read.
    """
    is_json = content_type == JSON_TYPE
    if not (is_json and (accept is None or "json" in accept)) and content_type not in accepted_types(accept):
        raise ContentDisallowed(_refusal(content_type, accept))
    if compression:
        body = _decompress(body, compression)
    return loads_json(body) if is_json else _loads_by_kombu(body, content_type, content_encoding)


def dumps_json(value: Any) -> str:
    """Write compact JSON with kombu's forms for dates, times, decimals, UUIDs and bytes.

    Raises EncodeError, naming the type and the value, for what has no such form.
    """
    try:
        return _encode_json(value)
    except EncodeError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        # A key that is no string, a reference to itself, or too deep.
        raise EncodeError(f"can't be serialized as JSON: {error}; the value is {_quote(value)}") from error


def loads_json(text: str | bytes) -> Any:
    """Read JSON, with kombu's forms. Raises DecodeError for text that is none."""
    try:
        if not isinstance(text, str):
            text = bytes(text).decode()
        # Looking for the marker is far cheaper than a hook that is called for every object.
        return _typed_decoder()(text) if '"__type__"' in text else _decode_json(text)
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        raise DecodeError(f"no valid JSON: {type(error).__name__} {error}; it begins with {_quote(text)}") from error


def accepted_types(accept: Collection[str] | None) -> frozenset[str]:
    """Turn an accept list of names and content types into content types; None stands for JSON alone.

    Raises ImproperlyConfigured for a name that kombu doesn't know.
    """
    return frozenset({JSON_TYPE}) if accept is None else _accepted_types(tuple(accept))


def serializer_of(content_type: str) -> str | None:
    """Name the serializer of a content type; None for an unknown one."""
    name: str | None = _serialization().registry.type_to_name.get(content_type)
    return name


def available() -> list[str]:
    """Names of the serializers that can be used here, sorted."""
    return sorted(name for name in _serialization().registry.name_to_type if _can_encode(name))


def available_compressions() -> list[str]:
    """Names and content types of the compressions that can be used here, sorted."""
    compression = _compression()
    return sorted({*compression._aliases, *compression.encoders()})  # noqa: SLF001  kombu has no public list of names


@lru_cache(maxsize=64)
def _accepted_types(accept: tuple[str, ...]) -> frozenset[str]:
    known = _serialization().registry.name_to_type
    found = set()
    for name in accept:
        content_type = name if "/" in name else known.get(name)
        if content_type is None:
            raise ImproperlyConfigured(f"no serializer is called {name!r}{_nearest(name, known)}; known are {', '.join(sorted(known))}")
        found.add(content_type)
    return frozenset(found)


def _refusal(content_type: str, accept: Collection[str] | None) -> str:
    allowed = ", ".join(sorted(accepted_types(accept)))
    text = f"a message of content type {content_type!r} is refused unread: ACCEPT_CONTENT allows {allowed}"
    if content_type == PICKLE_TYPE:
        return f"{text}. Pickle runs whatever its sender likes: add 'pickle' there only if you trust everyone who can reach the broker"
    return text


def _serialization() -> Any:
    from kombu import serialization

    return serialization


def _compression() -> Any:
    from kombu import compression

    return compression


def _can_encode(name: str) -> bool:
    codec = _serialization().registry._encoders.get(name)  # noqa: SLF001  kombu has no public question for it
    return codec is not None and not getattr(codec.encoder, "__name__", "").startswith("not_available")


def _dumps_by_kombu(value: Any, serializer: str) -> tuple[bytes, str, str]:
    from kombu.exceptions import SerializerNotInstalled

    try:
        content_type, content_encoding, body = _serialization().dumps(value, serializer=serializer)
    except SerializerNotInstalled as error:
        raise EncodeError(_missing("serializer", serializer, available())) from error
    except Exception as error:
        _unwrap_limit(error)
        raise EncodeError(f"can't be serialized as {serializer}: {error}; the value is {_quote(value)}") from error
    return body.encode() if isinstance(body, str) else body, content_type, content_encoding


def _loads_by_kombu(body: bytes | str, content_type: str, content_encoding: str) -> Any:
    try:
        # The accept list has been applied; kombu's own would refuse what the project allowed.
        return _serialization().loads(body, content_type, content_encoding, accept={content_type})
    except Exception as error:
        _unwrap_limit(error)
        raise DecodeError(f"a body of content type {content_type!r} can't be read: {error}; it begins with {_quote(body)}") from error


def _unwrap_limit(error: Exception) -> None:
    # kombu wraps whatever was raised while it encoded or decoded; a limit is to reach the task as it is.
    for limit in (error, *error.args[:1]):
        if isinstance(limit, SoftTimeLimitExceeded):
            raise limit from None


def _compress(body: bytes, compression: str) -> tuple[bytes, str]:
    try:
        compressed, header = _compression().compress(body, compression)
    except KeyError as error:
        raise EncodeError(_missing("compression", compression, available_compressions())) from error
    return compressed, header


def _decompress(body: bytes | str, compression: str) -> bytes:
    try:
        plain: bytes | str = _compression().decompress(body.encode() if isinstance(body, str) else body, compression)
    except KeyError as error:
        raise DecodeError(f"the body can't be read: {_missing('compression', compression, available_compressions())}") from error
    except SoftTimeLimitExceeded:
        raise
    except Exception as error:
        raise DecodeError(f"the body can't be decompressed with {compression!r}: {error}; it begins with {_quote(body)}") from error
    return plain.encode() if isinstance(plain, str) else plain


class TooLargeError(DecodeError):
    """The body is too large to be decoded for looking at it."""


def decompressed(body: bytes, compression: str, *, at_most: int) -> bytes:
    """Decompress a stranger's body no further than ``at_most`` bytes. Raises TooLargeError beyond, DecodeError for what can't be.

    kombu's own functions decompress to the end, and a few kilobytes may end in gigabytes.
    """
    name = _compression()._aliases.get(compression, compression)  # noqa: SLF001  kombu has no public list of names
    make = _BOUNDED.get(name)
    if make is None:
        raise TooLargeError(f"it is compressed with {compression!r}, which can't be stopped half-way, so it is not decompressed here")
    try:
        plain: bytes = make()(body, at_most + 1)
    except Exception as error:
        raise DecodeError(f"the body can't be decompressed with {compression!r}: {error}; it begins with {_quote(body)}") from error
    if len(plain) > at_most:
        raise TooLargeError(f"it has more than {at_most:,} bytes when it is decompressed")
    return plain


def _zstd() -> Callable[[bytes, int], bytes]:
    # As kombu finds it.
    make = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd").ZstdDecompressor
    return lambda body, most: bytes(make().decompress(body, most))


#: By content type: what makes a function of a body and the most bytes to return. gzip's is zlib's format, in kombu.
_BOUNDED: Final[Mapping[str, Callable[[], Callable[[bytes, int], bytes]]]] = {
    "application/x-gzip": lambda: lambda body, most: zlib.decompressobj().decompress(body, most),
    "application/x-bz2": lambda: lambda body, most: bz2.BZ2Decompressor().decompress(body, most),
    "application/x-lzma": lambda: lambda body, most: lzma.LZMADecompressor().decompress(body, most),
    "application/zstd": _zstd,
}


def _typed(value: Any) -> Any:
    """Give ``json`` something it can write for a value that it can't."""
    if not hasattr(value, "__json__") and hasattr(value, "_meta") and hasattr(value, "pk"):
        reference = references.make(value)
        if reference is not None:
            return reference
        raise EncodeError(
            f"{type(value).__qualname__} with primary key {value.pk!r} is a model instance, which can't be serialized:"
            " pass its primary key and load it in the task, or set TASK_MODEL_REFERENCES"
        )
    try:
        return _kombu_encoder().default(value)
    except TypeError as error:
        raise EncodeError(
            f"{_quote(value)} of type {type(value).__module__}.{type(value).__qualname__} can't be serialized as JSON;"
            " pass plain data (a list for a set), or use another serializer"
        ) from error


@cache
def _kombu_encoder() -> Any:
    from kombu.utils.json import JSONEncoder

    return JSONEncoder()


@cache
def _typed_decoder() -> Any:
    from kombu.utils.json import object_hook

    def hook(value: Any) -> Any:
        return references.read(value["__value__"]) if value.get("__type__") == MODEL_MARK else object_hook(value)

    return json.JSONDecoder(object_hook=hook).decode


#: ``__type__`` of a reference to a model instance, beside kombu's datetime, uuid and the others.
MODEL_MARK: Final = "django.model"


class References:
    """How model instances travel. ``modelreferences`` puts its own in place: this room knows neither settings nor models."""

    def make(self, instance: Any) -> Any:
        """Return what JSON can write in the instance's place; None refuses it."""
        return None

    def read(self, value: Any) -> Any:
        """Return what stands for the instance until it is loaded."""
        return value


references = References()


_encoder = json.JSONEncoder(separators=(",", ":"), default=_typed)


def _make_encode() -> Callable[[Any], str]:
    # JSONEncoder.encode sets up its C encoder anew for each value, which takes longer than encoding a small one. A reference
    # to itself ends in RecursionError then: the slow way, which keeps track, knows what it was.
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.encode
    encode = make(None, _encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True)

    def encode_once(value: Any) -> str:
        try:
            return "".join(encode(value, 0))
        except RecursionError:
            return _encoder.encode(value)

    return encode_once


_encode_json = _make_encode()
_decode_json = json.JSONDecoder().decode


def _missing(kind: str, name: str, known: Collection[str]) -> str:
    return f"no {kind} {name!r} is installed{_nearest(name, known)}; there are {', '.join(known)}"


def _nearest(name: str, known: Collection[str]) -> str:
    matches = get_close_matches(name, known, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _quote(value: Any) -> str:
    try:
        text = repr(value[:_QUOTED]) if isinstance(value, str | bytes) else repr(value)
    except Exception as error:  # noqa: BLE001  somebody's __repr__; the error to report is another
        return f"<{type(value).__qualname__} whose repr raised {error!r}>"
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"
