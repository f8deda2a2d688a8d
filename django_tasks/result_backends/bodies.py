"""Bodies of chords as the stores keep them: by the serializer with which they will be sent.

JSON lies there as it is. Of another serializer it is ``{"__content__": [content type, encoding, text]}``, binary as base64, and
it is read only where ACCEPT_CONTENT allows its content type.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from django_tasks.conf import settings
from django_tasks.messages import WireSignature
from django_tasks.serializers import dumps, dumps_json, loads, loads_json, plain_signatures

_CONTENT: Final = "__content__"


def _by_its_options(body: WireSignature) -> str:
    serializer: str = (body.get("options") or {}).get("serializer") or settings.TASK_SERIALIZER
    return serializer


#: Names the serializer of a body; the canvas, which knows tasks and what bodies are made of, puts its own here.
serializer_of: Callable[[WireSignature], str] = _by_its_options


def written(body: WireSignature) -> str:
    """Return a body as text. Raises EncodeError for what its serializer can't take."""
    serializer = serializer_of(body) if body else "json"
    if serializer == "json":
        return dumps_json(body)
    payload = dumps(plain_signatures(body), serializer)
    if payload.content_encoding == "utf-8":
        return dumps_json({_CONTENT: [payload.content_type, "utf-8", payload.body.decode()]})
    return dumps_json({_CONTENT: [payload.content_type, payload.content_encoding, base64.b64encode(payload.body).decode()]})


def read(text: str | bytes) -> WireSignature:
    """Return a body. Raises ContentDisallowed and DecodeError."""
    found: Any = loads_json(text)
    if not (isinstance(found, Mapping) and _CONTENT in found):
        return found  # type: ignore[no-any-return]
    content_type, content_encoding, kept = found[_CONTENT]
    body = kept if content_encoding == "utf-8" else base64.b64decode(kept)
    return loads(body, content_type, content_encoding, accept=settings.ACCEPT_CONTENT)  # type: ignore[no-any-return]
