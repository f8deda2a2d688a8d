"""Chords as Celery counts them: its keys, its entries for parts, and its claim on the body, so that fleets may mix.

Beside the group's key lie ``.s`` how many parts are expected, ``.t`` how many more came, ``.j`` the parts, ``.d`` which of
them have been counted, and ``.c`` who sends the body: a token that lapses, then ``done``. Two keys are ours: when each of
our claims lapses, and the bodies of what was claimed, so that another can send what its first claimant did not.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from django_tasks import states
from django_tasks.conf import settings
from django_tasks.messages import WireSignature, new_id
from django_tasks.result_backends.backend import NewChord, OpenChord, ReadyChord, ResultMeta
from django_tasks.result_backends.bodies import read as body_of
from django_tasks.result_backends.bodies import written
from django_tasks.result_backends.chordparts import claim_patience
from django_tasks.result_backends.redis import scripts
from django_tasks.serializers import JSON_TYPE, dumps_json, loads_json

#: Seconds for which a chord whose body was sent can't be opened again.
_DONE: Final = 7200
_DAY: Final = 86400
#: Chords of one call: the server answers nobody else meanwhile.
_BATCH: Final = 500
#: Under this name lies, in a part's entry, a result that is no JSON.
_CONTENT: Final = "__content__"


class Run(Protocol):
    """What runs a script in the server."""

    def __call__(self, doing: str, script: str, keys: Sequence[str], values: Sequence[Any]) -> Any:
        """Return what the script returns."""


class Chords:
    """The chords whose keys begin with ``prefix``. ``ordered``: parts are kept in the header's order (Celery's default)."""

    def __init__(self, run: Run, *, prefix: str, ordered: bool) -> None:
        self._run = run
        self._prefix = prefix
        self._ordered = "1" if ordered else "0"
        own = prefix.removesuffix("celery-taskset-meta-")
        self._own = f"{own}django-tasks-chord-claims", f"{own}django-tasks-chord-bodies", f"{own}django-tasks-chords"

    def open(self, chords: Sequence[NewChord]) -> None:
        """Expect the parts of all of them."""
        for start in range(0, len(chords), _BATCH):
            some = chords[start : start + _BATCH]
            values = [value for chord in some for value in _opened(chord)]
            self._run("Opening chords", scripts.OPEN, (self._own[2], *self._keys(chord.group_id for chord in some)), (_lifetime(), *values))

    def _keys(self, group_ids: Iterable[str]) -> Iterator[str]:
        return map(self._prefix.__add__, group_ids)

    def grow(self, group_id: str, by: int, parts: Sequence[str]) -> None:
        """Expect ``by`` more parts."""
        self._run("Growing a chord", scripts.GROW, (self._prefix + group_id,), (by, _lifetime(), *parts))

    def waiting(self, before: datetime, limit: int) -> list[OpenChord]:
        """Return chords that nobody has been given yet."""
        values = (len(self._prefix), int(before.timestamp() * 1000), limit, self._ordered)
        return self._open(self._run("Looking for open chords", scripts.WAITING, (self._own[2],), values))

    def find(self, group_ids: Collection[str]) -> list[OpenChord]:
        """Return those of these chords that nobody has been given yet."""
        names, waiting = list(group_ids), []
        for start in range(0, len(names), _BATCH):
            keys = (self._own[2], *self._keys(names[start : start + _BATCH]))
            waiting += self._open(self._run("Looking for chords", scripts.FIND, keys, (self._ordered,)))
        return waiting

    def _open(self, found: Sequence[Any]) -> list[OpenChord]:
        return [
            OpenChord(name.decode()[len(self._prefix) :], int(size), int(counted), _moment(opened), body_of(body))
            for name, opened, size, counted, body in zip(*(found[at::5] for at in range(5)), strict=True)
        ]

    def uncounted(self, group_ids: Collection[str]) -> dict[str, tuple[WireSignature, dict[str, int | None]]]:
        """Return, of those of these chords that wait, the body, and the places of the parts that have not been counted, by id."""
        names, waiting = list(group_ids), {}
        for start in range(0, len(names), _BATCH):
            some = names[start : start + _BATCH]
            found = self._run("Reading chords", scripts.UNCOUNTED, tuple(self._keys(some)), (self._ordered,))
            for number, body, *parts in zip(*(found[at::5] for at in range(5)), strict=True):
                waiting[some[int(number)]] = body_of(body), _left(*parts)
        return waiting

    def count(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count these parts; return the chords that are complete now, or have failed now, claimed for the caller."""
        groups: dict[str, list[ResultMeta]] = {}
        for meta in metas:
            if meta.group_id is not None and meta.status in states.READY_STATES:
                groups.setdefault(meta.group_id, []).append(meta)
        if not groups:
            return []
        wanted = self._bodies(groups)
        values: list[Any] = [new_id(), int(claim_patience() * 1000), _lifetime(), self._ordered]
        for group_id, parts in groups.items():
            values += (written(wanted[group_id]), len(parts))
            values += (value for part in parts for value in _counted(part))
        names = list(groups)
        found = self._run("Counting chord parts", scripts.COUNT, (*self._own, *self._keys(names)), values)
        return [
            ReadyChord(names[int(number)], wanted[names[int(number)]], self._parts(names[int(number)], entries), _shape(text))
            for number, entries, text in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

    def _bodies(self, groups: Mapping[str, Sequence[ResultMeta]]) -> dict[str, WireSignature]:
        # It comes with each part; not with one whose message is lost.
        brought = {group_id: next((part.chord for part in parts if part.chord), None) for group_id, parts in groups.items()}
        known = self.uncounted([group_id for group_id, body in brought.items() if not body])
        return {group_id: body or known.get(group_id, ({},))[0] for group_id, body in brought.items()}

    def close(self, group_ids: Collection[str]) -> None:
        """Note that the bodies have been sent, and delete the rest."""
        if group_ids:
            self._run("Closing chords", scripts.CLOSE, (*self._own, *self._keys(group_ids)), (_DONE,))

    def reclaim(self, limit: int) -> list[ReadyChord]:
        """Claim anew what was claimed and not closed in time."""
        found = self._run(
            "Looking for chords left behind", scripts.RECLAIM, self._own, (new_id(), int(claim_patience() * 1000), self._ordered, limit)
        )
        chords = []
        for key, body, entries, text in zip(*(found[at::4] for at in range(4)), strict=True):
            group_id = key.decode().removeprefix(self._prefix)
            chords.append(ReadyChord(group_id, body_of(body), self._parts(group_id, entries), _shape(text)))
        return chords

    def _parts(self, group_id: str, entries: Sequence[bytes]) -> list[ResultMeta]:
        return list(_ordered(group_id, entries) if self._ordered == "1" else (_part(group_id, entry, None) for entry in entries))


def _moment(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)


def _lifetime() -> int:
    # Longer than results, if need be: with the counter the body would be lost.
    return max(_DAY, int(settings.RESULT_EXPIRES or 30 * _DAY))


def _opened(chord: NewChord) -> tuple[int, str, str, str]:
    return chord.size, written(chord.body), "\n".join(chord.parts), group_text(chord.shape) if chord.shape is not None else ""


def group_text(members: Sequence[Any]) -> str:
    """Write a group's result tuples as Celery does."""
    return dumps_json({"result": members})


def group_members(text: bytes | str) -> Sequence[Any]:
    """Read a group's result tuples."""
    members: Sequence[Any] = loads_json(text)["result"]
    return members


def _shape(text: bytes | None) -> Sequence[Any] | None:
    return group_members(text) if text else None


def _left(known: bytes, grown: Sequence[bytes], counted: Sequence[bytes]) -> dict[str, int | None]:
    places: dict[str, int | None] = {task_id: place for place, task_id in enumerate(known.decode().split("\n")) if task_id}
    places.update((task_id.decode(), None) for task_id in grown)
    for quoted in counted:
        places.pop(json.loads(quoted), None)
    return places


def _counted(part: ResultMeta) -> tuple[str, str, str, str]:
    place = "+inf" if part.group_index is None else str(part.group_index)
    return part.task_id, place, _entry(part), "0" if part.status == states.SUCCESS else "1"


def _entry(part: ResultMeta) -> str:
    """Write a part as Celery does: ``[1, id, state, result]``."""
    if part.content_type == JSON_TYPE:
        result = part.result or "null"
    else:
        result = dumps_json({_CONTENT: [part.content_type, part.content_encoding, part.result]})
    return f'[1,{dumps_json(part.task_id)},"{part.status}",{result}]'


def _ordered(group_id: str, entries: Sequence[Any]) -> Iterator[ResultMeta]:
    # Scores come as text in the old protocol; in the new one a script still gets them so.
    for entry, score in zip(entries[::2], entries[1::2], strict=True):
        place = float(score)
        yield _part(group_id, entry, None if place == float("inf") else int(place))


def _part(group_id: str, entry: bytes, place: int | None, *, read: Callable[[bytes], Any] = json.loads) -> ResultMeta:
    # Not loads_json: what the values of «__type__» stand for is for whoever decodes the result.
    _, task_id, status, result = read(entry)
    content_type, content_encoding, text = JSON_TYPE, "utf-8", None
    if isinstance(result, dict) and len(result) == 1 and _CONTENT in result:
        content_type, content_encoding, text = result[_CONTENT]
    else:
        text = json.dumps(result, separators=(",", ":"))
    return ResultMeta(
        task_id=task_id,
        status=status,
        result=text,
        content_type=content_type,
        content_encoding=content_encoding,
        group_id=group_id,
        group_index=place,
    )
