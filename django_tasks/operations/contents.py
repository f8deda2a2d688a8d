"""The content of a stored message, made readable for people. Nothing here raises for a broken message: it says what is wrong."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Final

from django_tasks.conf import settings
from django_tasks.exceptions import DecodeError, EncodeError, TaskError
from django_tasks.messages import Envelope, TaskMessage
from django_tasks.models import DeadLetter, Message
from django_tasks.operations.texts import encodable
from django_tasks.protocol import decode
from django_tasks.serializers import TooLargeError, decompressed, dumps_json, loads_json

#: Most bytes of a body that are shown raw.
EXCERPT: Final = 2048
#: Most characters of a decoded value that are shown.
MOST: Final = 100_000
#: Most bytes of a body that are decoded for a page.
MOST_DECODED: Final = 5_000_000
#: Lists in lists that are shown.
_DEEPEST: Final = 100
_HEX_WIDTH: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A message as people read it. ``message`` is None where it can't be decoded; ``error`` then says why."""

    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    message: TaskMessage | None
    error: str
    raw: str
    size: int


def read(row: Message | DeadLetter) -> Contents:
    """Decode a stored message as far as that goes."""
    body = bytes(row.body)
    headers, headers_error = _document(row.headers, "headers")
    properties, properties_error = _document(row.properties, "properties")
    message, body_error = None, ""
    if not headers_error:
        message, body_error = _decoded(row, body, headers, properties)
    return Contents(
        headers=headers,
        properties=properties,
        message=message,
        error="; ".join(error for error in (headers_error, properties_error, body_error) if error),
        raw=excerpt(body),
        size=len(body),
    )


def _document(text: str, what: str) -> tuple[Mapping[str, Any], str]:
    try:
        found = loads_json(text)
    except DecodeError as error:
        return {}, f"the {what} are not JSON: {error}"
    return (found, "") if isinstance(found, dict) else ({}, f"the {what} are no JSON object")


def _decoded(
    row: Message | DeadLetter, body: bytes, headers: Mapping[str, Any], properties: Mapping[str, Any]
) -> tuple[TaskMessage | None, str]:
    envelope = Envelope(
        body=body,
        content_type=row.content_type,
        content_encoding=row.content_encoding,
        headers=headers,
        properties=properties,
        queue=row.queue,
        priority=row.priority,
    )
    try:
        return decode(_bounded(envelope), accept=settings.ACCEPT_CONTENT), ""
    except TaskError as error:
        return None, f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001  whatever a stranger's message is, the page about it must open
        return None, f"the body can't be decoded: {type(error).__name__}: {error}"


def _bounded(envelope: Envelope) -> Envelope:
    """Return the envelope with its body decompressed, if that is not too large for a page."""
    compression = envelope.headers.get("compression")
    body = envelope.body
    if compression and isinstance(compression, str):
        body = decompressed(body, compression, at_most=MOST_DECODED)
    if len(body) > MOST_DECODED:
        raise TooLargeError(f"it has {len(body):,} bytes; more than {MOST_DECODED:,} are not decoded here. Workers read it all the same")
    return replace(envelope, body=body, headers={**envelope.headers, "compression": None}) if compression else envelope


def _shortened(value: Any, left: list[int], depth: int = 0) -> Any:
    """Return a value with at most so many members: what YAML and pickle hold once may be there a million times."""
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        return "…"
    if isinstance(value, dict):
        pairs = takewhile(lambda _: left[0] > 0, value.items())
        return {name: _shortened(each, left, depth + 1) for name, each in pairs}
    if isinstance(value, list | tuple):
        return [_shortened(each, left, depth + 1) for each in takewhile(lambda _: left[0] > 0, value)]
    return value


def excerpt(body: bytes, limit: int = EXCERPT) -> str:
    """Show the beginning of a body: as text where it is text, else as a hex dump."""
    head = body[:limit]
    more = f"\n… {len(body) - limit} more bytes" if len(body) > limit else ""
    try:
        # The cut may go through a character: only an error well before it means that this is no text.
        text = head.decode("utf-8", "strict" if not more else "ignore")
    except UnicodeDecodeError:
        return hex_dump(head) + more
    if all(character.isprintable() or character in "\r\n\t" for character in text):
        return text + more
    return hex_dump(head) + more


def hex_dump(data: bytes) -> str:
    """Write bytes as lines of offset, hexadecimal values and printable characters."""
    lines = []
    for offset in range(0, len(data), _HEX_WIDTH):
        part = data[offset : offset + _HEX_WIDTH]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{offset:06x}  {part.hex(' '):<{_HEX_WIDTH * 3 - 1}}  {shown}")
    return "\n".join(lines)


def pretty(value: Any) -> str:
    """Write a value as indented JSON; one that JSON can't hold as its repr."""
    try:
        value = _shortened(value, [MOST])
        text = json.dumps(json.loads(dumps_json(value)), indent=2, ensure_ascii=False)
    except (EncodeError, RecursionError, ValueError, TypeError):
        text = _repr(value)
    return cut(text)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  whatever a stranger's message is, the page about it must open
        return f"<{type(value).__qualname__} whose repr raised {type(error).__qualname__}>"


def pretty_text(text: str | None) -> str:
    """Indent a text that is JSON; return any other as it is."""
    if not text:
        return ""
    try:
        return cut(json.dumps(json.loads(text), indent=2, ensure_ascii=False))
    except (RecursionError, ValueError):
        return cut(text)


def cut(text: str, most: int = MOST) -> str:
    """Shorten a text that nobody could read to its end; what can't be written is escaped."""
    return encodable(text if len(text) <= most else f"{text[:most]}\n… {len(text) - most} more characters")
