"""AMQP's properties and header tables, read from bytes and written to them: most of what a message costs is here.

Of py-amqp's making in every value, but for one tight loop a table, with what is the same in all messages (names of headers,
content types) decoded and encoded once. What is rare is left to py-amqp itself.
"""

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct, error
from typing import Any, Final

from amqp.serialization import dumps, loads

from django_tasks.exceptions import EncodeError
from django_tasks.layered import MOST_SHARED, Shared, layers

#: Names that are remembered; whatever comes beyond is worked out each time.
_MOST_NAMES: Final = 2000
_UNSIGNED: Final = Struct(">I").unpack_from
_INT: Final = Struct(">i").unpack_from
_LONG: Final = Struct(">q").unpack_from
_DOUBLE: Final = Struct(">d").unpack_from
_TIMESTAMP: Final = Struct(">Q")
#: A value's type and its size or itself.
_SIZED: Final = Struct(">BI").pack
_TYPED_INT: Final = Struct(">ci").pack
_TYPED_LONG: Final = Struct(">cq").pack
_TYPED_DOUBLE: Final = Struct(">cd").pack
_SIZE: Final = Struct(">I").pack
_FLAGS: Final = Struct(">H")
_LARGEST_INT: Final = 2**31 - 1
_LONGEST_NAME: Final = 255

# Types of a table's values: long string, void, boolean, integers of 4 and 8 bytes, double, bytes, array, table.
_STRING, _VOID, _BOOLEAN, _INTEGER, _LONG_INTEGER, _LONG_TOO, _FLOAT, _BYTES, _ARRAY, _TABLE = b"SVtIlLdxAF"


class _Foreign(Exception):
    """A value that is py-amqp's to read or write."""


class _Decoded(dict[bytes, str]):
    """Short texts that are the same in many messages."""

    def __missing__(self, raw: bytes) -> str:
        text = raw.decode("utf-8", "surrogatepass")
        if len(self) < _MOST_NAMES:
            self[raw] = text
        return text


class _Encoded(dict[str, bytes]):
    """Short texts as bytes, with their length in front."""

    def __missing__(self, text: str) -> bytes:
        raw = _short(text)
        if len(self) < _MOST_NAMES:
            self[text] = raw
        return raw


_decoded: Final = _Decoded()
_encoded: Final = _Encoded()

# ---- reading


def read_table(buffer: bytes, at: int) -> tuple[dict[str, Any], int]:
    """Return the table that begins at ``at`` with its size, and where it ends."""
    begin = at + 4
    end: int = begin + _UNSIGNED(buffer, at)[0]
    try:
        return _entries(buffer, begin, end), end
    except (_Foreign, UnicodeDecodeError):
        (table,), end = loads("F", buffer, at)
        return table, end


def _entries(buffer: bytes, at: int, end: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    while at < end:
        start = at + 1
        at = start + buffer[at]
        name = _decoded[buffer[start:at]]
        kind = buffer[at]
        at += 1
        if kind == _STRING:
            start = at + 4
            at = start + _UNSIGNED(buffer, at)[0]
            table[name] = buffer[start:at].decode()
        elif kind == _VOID:
            table[name] = None
        else:
            table[name], at = _value(kind, buffer, at)
    return table


def _value(kind: int, buffer: bytes, at: int) -> tuple[Any, int]:  # noqa: PLR0911
    if kind == _BOOLEAN:
        return buffer[at] != 0, at + 1
    if kind == _INTEGER:
        return _INT(buffer, at)[0], at + 4
    if kind in (_LONG_INTEGER, _LONG_TOO):
        return _LONG(buffer, at)[0], at + 8
    if kind == _FLOAT:
        return _DOUBLE(buffer, at)[0], at + 8
    if kind == _VOID:
        return None, at
    start = at + 4
    end = start + _UNSIGNED(buffer, at)[0] if kind in (_STRING, _BYTES, _ARRAY, _TABLE) else at
    if kind == _STRING:
        return buffer[start:end].decode(), end
    if kind == _TABLE:
        return _entries(buffer, start, end), end
    if kind == _ARRAY:
        return _items(buffer, start, end), end
    if kind == _BYTES:
        return buffer[start:end], end
    raise _Foreign


def _items(buffer: bytes, at: int, end: int) -> list[Any]:
    items = []
    while at < end:
        value, at = _value(buffer[at], buffer, at + 1)
        items.append(value)
    return items


def read_properties(buffer: bytes, at: int) -> dict[str, Any]:
    """Return the properties whose flags begin at ``at``, under py-amqp's names."""
    (flags,) = _FLAGS.unpack_from(buffer, at)
    at += 2
    properties: dict[str, Any] = {}
    for flag, name in _BEFORE_HEADERS:
        if flags & flag:
            start = at + 1
            at = start + buffer[at]
            properties[name] = _decoded[buffer[start:at]]
    if flags & 0x2000:
        properties["application_headers"], at = read_table(buffer, at)
    if flags & 0x1000:
        properties["delivery_mode"] = buffer[at]
        at += 1
    if flags & 0x0800:
        properties["priority"] = buffer[at]
        at += 1
    if flags & _ANY_AFTER:
        _read_rest(buffer, at, flags, properties)
    return properties


def _read_rest(buffer: bytes, at: int, flags: int, properties: dict[str, Any]) -> None:
    for flag, name in _AFTER_HEADERS:
        if not flags & flag:
            continue
        if flag == _TIMESTAMP_FLAG:
            (properties[name],) = _TIMESTAMP.unpack_from(buffer, at)
            at += 8
        else:
            start = at + 1
            at = start + buffer[at]
            properties[name] = buffer[start:at].decode("utf-8", "surrogatepass")


_BEFORE_HEADERS: Final = ((0x8000, "content_type"), (0x4000, "content_encoding"))
_AFTER_HEADERS: Final = (
    (0x0400, "correlation_id"),
    (0x0200, "reply_to"),
    (0x0100, "expiration"),
    (0x0080, "message_id"),
    (0x0040, "timestamp"),
    (0x0020, "type"),
    (0x0010, "user_id"),
    (0x0008, "app_id"),
    (0x0004, "cluster_id"),
)
_TIMESTAMP_FLAG: Final = 0x0040
_ANY_AFTER: Final = 0x07FC

# ---- writing


def write_table(table: Mapping[str, Any]) -> bytes:
    """Return the table with its size in front.

    Raises EncodeError for a number that is too large, and py-amqp's FrameSyntaxError for a value that AMQP has no type for.
    """
    shared, own = layers(table)
    try:
        data = _written_once(shared) + _written(own)
    except (_Foreign, UnicodeEncodeError, error):
        return _by_py_amqp(table)
    return _SIZE(len(data)) + data


def _by_py_amqp(table: Mapping[str, Any]) -> bytes:
    try:
        raw: bytes = dumps("F", [dict(table)])
    except error as problem:
        raise EncodeError(f"AMQP has no type for a number in the headers: {problem}; they are {repr(dict(table))[:200]}") from problem
    return raw


@lru_cache(maxsize=MOST_SHARED)
def _written_once(shared: Shared) -> bytes:
    return _written(shared)


def _written(table: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = []
    add = parts.append
    for name, value in table.items():
        add(_encoded[name])
        if type(value) is str:
            raw = value.encode()
            add(_SIZED(_STRING, len(raw)))
            add(raw)
        elif value is None:
            add(b"V")
        else:
            add(_item(value))
    return b"".join(parts)


def _item(value: Any) -> bytes:
    # By the very type: subclasses may have ideas of their own, which py-amqp then has to settle.
    kind: Any = type(value)
    data: bytes
    if kind is int:
        if -_LARGEST_INT <= value <= _LARGEST_INT:
            return _TYPED_INT(b"I", value)
        return _TYPED_LONG(b"L", value)
    if kind is bool:
        return b"t\x01" if value else b"t\x00"
    if value is None:
        return b"V"
    if kind is float:
        return _TYPED_DOUBLE(b"d", value)
    if kind is str or kind is bytes:
        data, letter = value.encode() if kind is str else value, _STRING
    elif kind is dict:
        data, letter = _written(value), _TABLE
    elif kind is list or kind is tuple:
        data, letter = b"".join([_item(one) for one in value]), _ARRAY
    else:
        raise _Foreign
    sized: bytes = _SIZED(letter, len(data))
    return sized + data


def _short(text: Any) -> bytes:
    if type(text) is not str:
        raise _Foreign
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > _LONGEST_NAME:
        raise ValueError(f"{text[:40]!r}... has {len(raw)} bytes; AMQP allows names and properties of {_LONGEST_NAME} bytes")
    return bytes((len(raw),)) + raw


def write_properties(properties: Mapping[str, Any]) -> bytes:
    """Return properties under py-amqp's names as bytes: flags, and what is not None. Raises ValueError where a text is too long."""
    flags = 0
    parts = [b""]
    for flag, name in _BEFORE_HEADERS:
        if (text := properties.get(name)) is not None:
            flags |= flag
            parts.append(_encoded[text])
    if (table := properties.get("application_headers")) is not None:
        flags |= 0x2000
        parts.append(write_table(table))
    for flag, name in _OCTETS:
        if (octet := properties.get(name)) is not None:
            flags |= flag
            parts.append(bytes((octet,)))
    for flag, name in _AFTER_HEADERS:
        if (value := properties.get(name)) is not None:
            flags |= flag
            parts.append(_TIMESTAMP.pack(value) if flag == _TIMESTAMP_FLAG else _short(value))
    parts[0] = _FLAGS.pack(flags)
    return b"".join(parts)


_OCTETS: Final = ((0x1000, "delivery_mode"), (0x0800, "priority"))
