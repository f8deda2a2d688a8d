"""How much a statement may carry: very large results are told from impossible ones before the server hangs up on them."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks.result_backends.backend import ResultMeta

#: Characters in a batch below which nothing needs to be looked at: a megabyte at most, which every server takes.
_EASY: Final = 250_000
#: PostgreSQL's JSON has a limit of 256 MiB for a string.
_POSTGRESQL: Final = 200_000_000
#: What a row of short columns takes at most, and the statement around it.
_AROUND: Final = 20_000
_ESCAPED: Final = (b"'", b'"', b"\\", b"\n", b"\r", b"\0", b"\x1a")


def portions(connection: BaseDatabaseWrapper, metas: Sequence[ResultMeta]) -> Iterator[tuple[Sequence[ResultMeta], str | None]]:
    """Split a batch into what fits into a statement each, with None, or what is too large for any, with the reason."""
    if connection.vendor == "sqlite" or sum(map(_length, metas)) < _EASY:
        yield metas, None
        return
    limit = _limit(connection)
    part: list[ResultMeta] = []
    filled = 0
    for meta in metas:
        size = _size(meta)
        if size > limit:
            yield [meta], f"it takes {size:,} bytes, and this database takes {limit:,} at most"
            continue
        if filled + size > limit:
            yield part, None
            part, filled = [], 0
        part.append(meta)
        filled += size
    if part:
        yield part, None


def _texts(meta: ResultMeta) -> tuple[str | None, ...]:
    return meta.result, meta.traceback, meta.args, meta.kwargs


def _length(meta: ResultMeta) -> int:
    return len(meta.result or "") + len(meta.traceback or "") + len(meta.args or "") + len(meta.kwargs or "")


def _size(meta: ResultMeta) -> int:
    total = _AROUND
    for text in _texts(meta):
        body = (text or "").encode("utf-8", "replace")
        total += len(body) + sum(map(body.count, _ESCAPED))
    return total


def _limit(connection: BaseDatabaseWrapper) -> int:
    if connection.vendor == "postgresql":
        return _POSTGRESQL
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        row: Any = cursor.fetchone()
    return int(row[0]) - _AROUND
