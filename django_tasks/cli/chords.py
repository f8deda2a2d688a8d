"""``tasks chords``: list, recount, fail."""

from collections.abc import Mapping, Sequence
from typing import Any

from django_tasks import clock
from django_tasks.cli.tables import Failure, Screen
from django_tasks.operations import chords as operations
from django_tasks.result_backends.backend import OpenChord

COLUMNS = ("group_id", "opened", "counted", "expected", "body", "body_id")
#: Most chords that are counted again where none is named.
MOST = 10_000


def chords(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print the chords that wait for parts, the oldest first."""
    limit = options.get("limit") or 50
    found = operations.waiting_chords(limit + 1)
    screen.rows([_line(chord) for chord in found[:limit]], COLUMNS, empty="no chord waits for parts")
    if len(found) > limit:
        screen.say(f"… and more; --limit N shows more than these {limit}")
    return 0


def _line(chord: OpenChord) -> dict[str, Any]:
    return {
        "group_id": chord.group_id,
        "opened": chord.opened,
        "counted": chord.counted,
        "expected": chord.size,
        "body": chord.body.get("task"),
        "body_id": (chord.body.get("options") or {}).get("task_id"),
        "age": round((clock.now() - chord.opened).total_seconds()),
    }


def recount(screen: Screen, options: Mapping[str, Any]) -> int:
    """Count chords again from stored results; send the bodies of those that are complete."""
    ids = list(_named(options["ids"]) if options.get("ids") else (chord.group_id for chord in operations.waiting_chords(MOST)))
    complete = operations.recount(ids)
    if screen.as_json:
        screen.record({"recounted": len(ids), "complete": complete})
    screen.say(f"{_chords(len(ids))} counted again; {len(complete)} complete{', sent their bodies' if complete else ''}")
    return 0


def fail(screen: Screen, options: Mapping[str, Any]) -> int:
    """End chords whose parts will never come."""
    chords = list(_named(options["ids"]).values())
    operations.fail(chords, options.get("reason") or "ended by hand: its parts will not come")
    if screen.as_json:
        screen.record({"failed": len(chords)})
    screen.say(f"{_chords(len(chords))} failed")
    return 0


def _named(ids: Sequence[str]) -> dict[str, OpenChord]:
    known = operations.found(ids)
    missing = [group_id for group_id in ids if group_id not in known]
    if missing:
        raise Failure(f"no chord of the group {', '.join(missing)} waits for parts; nothing was done")
    return known


def _chords(count: int) -> str:
    return f"{count} chord{'' if count == 1 else 's'}"
